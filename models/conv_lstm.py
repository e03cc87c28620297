"""A convolutional LSTM over whole sequences (Shi et al. 2015), with the backward pass written out.

Recorded step by step, autograd keeps some twenty tensors per step, in the layout in which convolutions are slowest.
Here one function covers the sequence, channels last in memory: a step backward is two convolutions and a dozen
products. benchmarks/bench_conv_lstm.py measures the gain.

Letters: B batch, T time steps, C input channels, H hidden channels, *space one or two spatial axes, (Y, X) two.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}  # by number of spatial axes


def set_gate_biases(bias: Tensor, hidden: int, timescale: int | None, forget: int = 1) -> None:
    """Opens the forget gate of an LSTM whose biases (4H,) start with the input gate's; `forget` is its gate's place.

    With a `timescale` T_max the biases are "chrono": b_f = log(u), u ~ U(1, T_max - 1), and b_i = -b_f, which spreads
    the cells' memories over 1..T_max steps (Tallec and Ollivier 2018, eq. 16). Without one, b_f = 1 (Jozefowicz et
    al. 2015).
    """
    forget_bias = bias[forget * hidden : (forget + 1) * hidden]
    if timescale is None:
        forget_bias.fill_(1.0)
        return
    if timescale < 3:
        raise ValueError(f"timescale must be at least 3 steps, not {timescale}")
    forget_bias.uniform_(1, timescale - 1).log_()
    bias[:hidden] = -forget_bias


class ConvLSTM(nn.Module):
    """An LSTM whose states are maps and whose products are convolutions (Shi et al. 2015, eq. 3), without peepholes:

        i, f, o = sigmoid(W_x * x_t + W_h * h_{t-1} + b),  g = tanh(...),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t).

    Maps keep their size (odd kernels, zero padding). One spatial axis: (W,); two: (H, W). The states start at zero.
    """

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int, spatial_dims: int, timescale=None):
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise ValueError(f"kernel_size must be odd, so that maps keep their size, not {kernel_size}")
        if spatial_dims not in CONVOLUTIONS:
            raise ValueError(f"spatial_dims must be 1 or 2, not {spatial_dims}")
        self.in_channels, self.hidden_channels, self.spatial_dims = in_channels, hidden_channels, spatial_dims
        convolution = CONVOLUTIONS[spatial_dims]
        self.input_conv = convolution(in_channels, 4 * hidden_channels, kernel_size, padding="same")
        self.hidden_conv = convolution(hidden_channels, 4 * hidden_channels, kernel_size, padding="same", bias=False)
        nn.init.normal_(self.input_conv.weight, std=self.input_conv.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.input_conv.bias)
        for gate in self.hidden_conv.weight.data.split(hidden_channels):
            nn.init.orthogonal_(gate)
        set_gate_biases(self.input_conv.bias.data, hidden_channels, timescale)

    def forward(self, x: Tensor, steps: int | None = None, step_bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All hidden maps (B, T, H, *space), channels last in memory, and the last one (B, H, *space).

        x is a sequence (B, T, C, *space), or one map (B, C, *space) held for `steps`, which is convolved once.
        `step_bias` (T, 4H), if given, is added to the gates i, f, o, g of each step.
        """
        if x.dim() != self.spatial_dims + (3 if steps is None else 2):
            raise ValueError(f"x must have {self.spatial_dims} spatial axes after (B, T, C), not {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):  # the recurrence stays in the weights' precision
            weight, bias = two_axes(self.input_conv.weight, self.spatial_dims), self.input_conv.bias
            hidden_weight = two_axes(self.hidden_conv.weight, self.spatial_dims)
            x = two_axes(x.to(bias.dtype), self.spatial_dims)
            if steps is None:
                weight, constant = torch.cat([weight, hidden_weight], 1), None
                biases = bias.expand(x.shape[1], -1)
                x = x.permute(1, 0, 3, 4, 2).contiguous()  # (T, B, Y, X, C)
            else:
                constant, weight, x = convolve(channels_last(x), weight, bias).contiguous(), hidden_weight, None
                biases = bias.new_zeros(steps, len(bias))
            if step_bias is not None:
                biases = biases + step_bias
            h, last = ConvLSTMFunction.apply(x, constant, biases, weight)
        h, last = h.permute(1, 0, 4, 2, 3), channels_first(last)
        return (h.squeeze(3), last.squeeze(2)) if self.spatial_dims == 1 else (h, last)


def two_axes(x: Tensor, spatial_dims: int) -> Tensor:
    """(..., *space) to (..., Y, X)."""
    return x.unsqueeze(-2) if spatial_dims == 1 else x


def channels_last(x: Tensor) -> Tensor:
    """(B, C, Y, X) to (B, Y, X, C)."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """(B, Y, X, C) to (B, C, Y, X), as PyTorch's convolutions take it, without moving anything."""
    return x.permute(0, 3, 1, 2)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Maps (B, Y, X, C) to (B, Y, X, K) for a weight (K, C, *kernel), the maps' size kept."""
    return channels_last(conv2d(channels_first(x), weight, bias, padding="same"))


def convolution_gradient(grad: Tensor, x: Tensor, weight: Tensor, of_input: bool) -> Tensor:
    """Of `convolve`: dL/dx (B, Y, X, C) or dL/dweight, from dL/dconvolve(x, weight)."""
    padding = [size // 2 for size in weight.shape[2:]]
    gradients = torch.ops.aten.convolution_backward(
        channels_first(grad),
        channels_first(x),
        weight,
        None,
        [1, 1],
        padding,
        [1, 1],
        False,
        [0, 0],
        1,
        [of_input, not of_input, False],
    )
    return channels_last(gradients[0]) if of_input else gradients[1]


def tanh_(x: Tensor) -> Tensor:
    """tanh x = 2 sigmoid(2 x) - 1, in place: a fourth of the time of PyTorch's tanh on a CPU."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class ConvLSTMFunction(torch.autograd.Function):
    """The recurrence, to h (T, B, Y, X, H) and h_T, from gates that are W * [x_t, h_{t-1}] + constant + biases_t.

    x (T, B, Y, X, C) or None, constant (B, Y, X, 4H) or None, biases (T, 4H), weight W (4H, C + H, *kernel), C = 0
    without x. Gates are ordered i, f, o, g. Differentiable once.
    """

    @staticmethod
    def forward(ctx, x: Tensor | None, constant: Tensor | None, biases: Tensor, weight: Tensor):
        hidden = len(weight) // 4
        weight = weight.contiguous(memory_format=torch.channels_last)
        gates, cells, tanh_cells = [], [], []
        h = weight.new_empty(len(biases), *(x[0] if constant is None else constant).shape[:3], hidden)
        for t, bias in enumerate(biases):
            inputs, kernel = step_inputs(t, x, h, weight)
            if inputs is None:
                step_gates = constant + bias
            else:
                step_gates = convolve(inputs, kernel, bias)
                if constant is not None:
                    step_gates += constant
            step_gates[..., : 3 * hidden].sigmoid_()
            tanh_(step_gates[..., 3 * hidden :])
            i, f, o, g = step_gates.split(hidden, -1)
            cell = i * g
            if t:
                cell.addcmul_(f, cells[-1])
            tanh_cell = tanh_(cell.clone())
            torch.mul(o, tanh_cell, out=h[t])
            gates.append(step_gates)
            cells.append(cell)
            tanh_cells.append(tanh_cell)
        ctx.save_for_backward(x, weight, h, *gates, *cells, *tanh_cells)
        ctx.set_materialize_grads(False)  # of the two outputs, mostly one is used
        return h, h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_h: Tensor | None, grad_last: Tensor | None):
        x, weight, h, *rest = ctx.saved_tensors
        steps, hidden = len(h), h.shape[-1]
        gates, cells, tanh_cells = (rest[k * steps : (k + 1) * steps] for k in range(3))
        wants_x, wants_constant, wants_biases, _ = ctx.needs_input_grad
        channels = weight.shape[1] - hidden
        hidden_weight = weight[:, channels:].contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty_like(x) if wants_x else None
        grad_constant = torch.zeros_like(gates[0]) if wants_constant else None
        grad_biases = weight.new_empty(steps, 4 * hidden) if wants_biases else None
        grad_weight = torch.zeros_like(weight)
        if grad_h is not None:
            grad_h = grad_h.contiguous()
        dc = None  # dL/dc_t through the steps after t
        dh = torch.zeros_like(h[0]) if grad_last is None else grad_last.contiguous()  # the same of h_t
        for t in reversed(range(steps)):
            i, f, o, g = gates[t].split(hidden, -1)
            grad_gates = torch.empty_like(gates[t])
            di, df, do, dg = grad_gates.split(hidden, -1)
            if grad_h is not None:
                dh = dh + grad_h[t]
            torch.mul(dh, tanh_cells[t], out=do)
            # dc = dh o (1 - tanh^2 c) + dc_{t+1} f_{t+1}
            through_h = torch.ops.aten.tanh_backward(dh * o, tanh_cells[t])
            dc = through_h if dc is None else dc.add_(through_h)
            torch.mul(dc, g, out=di)
            torch.mul(dc, i, out=dg)
            if t:
                torch.mul(dc, cells[t - 1], out=df)
            else:
                df.zero_()
            # through the sigmoids and tanh, to the gates' inputs
            sigmoids, grad_sigmoids = gates[t][..., : 3 * hidden], grad_gates[..., : 3 * hidden]
            torch.ops.aten.sigmoid_backward.grad_input(grad_sigmoids, sigmoids, grad_input=grad_sigmoids)
            torch.ops.aten.tanh_backward.grad_input(dg, g, grad_input=dg)
            if wants_constant:
                grad_constant += grad_gates
            if wants_biases:
                grad_biases[t] = grad_gates.sum((0, 1, 2))
            # through the convolution
            inputs, kernel = step_inputs(t, x, h, weight)
            if inputs is not None:
                grad_weight[:, : kernel.shape[1]] += convolution_gradient(grad_gates, inputs, kernel, of_input=False)
            if wants_x:
                grad_inputs = convolution_gradient(grad_gates, inputs, kernel, of_input=True)
                grad_x[t], dh = grad_inputs[..., :channels], grad_inputs[..., channels:]
            elif t:
                dh = convolution_gradient(grad_gates, h[t - 1], hidden_weight, of_input=True)
            dc = dc * f
        return grad_x, grad_constant, grad_biases, grad_weight


def step_inputs(t: int, x: Tensor | None, h: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor]:
    """[x_t, h_{t-1}] and the part of the weight for it. At the first step h_{t-1} is zero, and left out."""
    parts = ([] if x is None else [x[t]]) + ([h[t - 1]] if t else [])
    kernel = weight if t else weight[:, : weight.shape[1] - h.shape[-1]]
    return (torch.cat(parts, -1) if len(parts) == 2 else parts[0] if parts else None), kernel
