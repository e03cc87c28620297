"""A convolutional LSTM over whole sequences (Shi et al. 2015), with the backward pass written out.

Recorded step by step, autograd keeps some twenty tensors per step and adds up a weight gradient at each. Here one
function covers the sequence: the gradient of the recurrent kernel is a single convolution at the end, time folded into
the batch, and a step backward is one convolution and a dozen products. benchmarks/bench_lstm_ae.py measures the gain.

Letters: B batch, T time steps, C input channels, H hidden channels, *space one or two spatial axes.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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

    def forward(self, x: Tensor, steps: int | None = None, step_bias: Tensor | None = None) -> Tensor:
        """All hidden maps (B, T, H, *space) for x (B, T, C, *space), or for one map x (B, C, *space) held for `steps`.

        The input's convolution does not depend on the state: it is one call for all steps, time folded into the batch,
        and one for a constant input. `step_bias` (T, 4H), if given, is added to the gates i, f, o, g of each step.
        """
        if x.dim() != self.spatial_dims + (3 if steps is None else 2):
            raise ValueError(f"x must have {self.spatial_dims} spatial axes after (B, T, C), not {tuple(x.shape)}")
        if steps is None:
            by_time = x.transpose(0, 1)
            gates = self.input_conv(by_time.flatten(0, 1)).unflatten(0, by_time.shape[:2])
        else:
            gates = self.input_conv(x).unsqueeze(0)
        if step_bias is not None:
            gates = gates + step_bias.view(len(step_bias), 1, -1, *[1] * self.spatial_dims)
        weight = self.hidden_conv.weight
        with torch.autocast(x.device.type, enabled=False):  # the recurrence stays in the weights' precision
            return ConvLSTMFunction.apply(gates.to(weight.dtype), weight, steps or x.shape[1]).transpose(0, 1)


class ConvLSTMFunction(torch.autograd.Function):
    """The recurrence: gates of the input (T or 1, B, 4H, *space) and W_h (4H, H, *kernel) to h (T, B, H, *space).

    Gates are ordered i, f, o, g. Differentiable once.
    """

    @staticmethod
    def forward(ctx, input_gates: Tensor, weight: Tensor, steps: int) -> Tensor:
        constant = input_gates.shape[0] == 1
        _, batch, channels, *space = input_gates.shape
        hidden = channels // 4
        gates = input_gates.new_empty(steps, batch, channels, *space)
        states = [input_gates.new_empty(steps, batch, hidden, *space) for _ in range(3)]
        for t in range(steps):
            step_gates, (cell, tanh_cell, h) = gates[t], (state[t] for state in states)
            source = input_gates[0 if constant else t]
            if t == 0:  # h and c are zero, and so is the convolution
                step_gates.copy_(source)
            else:
                torch.add(source, convolve(states[2][t - 1], weight), out=step_gates)
            step_gates[:, : 3 * hidden].sigmoid_()
            step_gates[:, 3 * hidden :].tanh_()
            i, f, o, g = step_gates.split(hidden, 1)
            torch.mul(i, g, out=cell)
            if t:
                cell.addcmul_(f, states[0][t - 1])
            torch.tanh(cell, out=tanh_cell)
            torch.mul(o, tanh_cell, out=h)
        ctx.save_for_backward(gates, *states, weight)
        ctx.constant = constant
        return states[2]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_h: Tensor):
        gates, cells, tanh_cells, h, weight = ctx.saved_tensors
        hidden = h.shape[2]
        grad_gates = torch.empty_like(gates)
        dc = dh = None  # dL/dc_t and dL/dh_t through the steps after t
        for t in reversed(range(len(gates))):
            i, f, o, g = gates[t].split(hidden, 1)
            di, df, do, dg = grad_gates[t].split(hidden, 1)
            dh = grad_h[t] if dh is None else dh + grad_h[t]
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
            sigmoids, grad_sigmoids = gates[t][:, : 3 * hidden], grad_gates[t][:, : 3 * hidden]
            torch.ops.aten.sigmoid_backward.grad_input(grad_sigmoids, sigmoids, grad_input=grad_sigmoids)
            torch.ops.aten.tanh_backward.grad_input(dg, g, grad_input=dg)
            if t:
                dc = dc * f
                dh = convolve_transposed(grad_gates[t], weight)
        # dL/dW_h = sum over t of the correlation of h_{t-1} with the gates' gradients: time folded into the batch
        grad_weight = torch.zeros_like(weight)
        if len(gates) > 1:
            grad_weight = weight_gradient(grad_gates[1:].flatten(0, 1), h[:-1].flatten(0, 1), weight)
        return grad_gates.sum(0, keepdim=True) if ctx.constant else grad_gates, grad_weight, None


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    function = (nn.functional.conv1d, nn.functional.conv2d)[weight.dim() - 3]
    return function(x, weight, padding="same")


def convolve_transposed(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `convolve` with respect to x."""
    function = (nn.functional.conv_transpose1d, nn.functional.conv_transpose2d)[weight.dim() - 3]
    return function(grad, weight, padding=[size // 2 for size in weight.shape[2:]])


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `convolve` with respect to the weight."""
    function = (nn.grad.conv1d_weight, nn.grad.conv2d_weight)[weight.dim() - 3]
    return function(x, weight.shape, grad, padding=[size // 2 for size in weight.shape[2:]])
