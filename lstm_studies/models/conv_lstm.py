"""A convolutional LSTM over whole sequences (Shi et al. 2015), with the backward pass written out.

Recorded step by step, autograd keeps some twenty tensors per step, in the layout in which convolutions are slowest.
Here one function covers the sequence, channels last in memory: a step backward is one convolution and a dozen products,
and the gradient of the weight is one convolution for all steps. Under autocast the convolutions run in bfloat16 where
the processor has instructions for it; the cells, the gates' activations and the sums over steps stay in float32.
benchmarks/bench_conv_lstm.py measures the gain.

Letters: B batch, T time steps, C input channels, H hidden channels, *space one or two spatial axes, (Y, X) two.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from lstm_studies.models.initialisation import set_gate_biases
from lstm_studies.models.recording import (
    autocast_dtype,
    full_precision,
    is_recorded,
    recorded_gradients,
    wants_graph,
)
from lstm_studies.models.recurrence import run_steps

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}  # by number of spatial axes
CACHED_VALUES = 2**18  # of the gates that are worked on at a time: a megabyte, about what a core's cache holds


@functools.cache
def low_precision_pays(device_type: str) -> bool:
    """Whether convolutions in bfloat16 are faster than in float32: on a CPU, if it has instructions for such products.

    Read from the processor's flags and not measured, so that a run and its resumption compute the same.
    """
    if device_type != "cpu":
        return True
    flags = torch.cpu.get_capabilities()
    return any(flags.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))  # the last on ARM


def convolution_dtype(weight: Tensor) -> torch.dtype:
    """The type in which `ConvLSTM` convolves: that of autocast where it is on and pays, else that of the weights."""
    lower = autocast_dtype(weight)
    pays = lower is not None and weight.dtype == torch.float32 and low_precision_pays(weight.device.type)
    return lower if pays else weight.dtype


class ConvLSTM(nn.Module):
    """An LSTM whose states are maps and whose products are convolutions (Shi et al. 2015, eq. 3), without peepholes:

        i, f, o = sigmoid(W_x * x_t + W_h * h_{t-1} + b),  g = tanh(...),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t).

    Maps keep their size (odd kernels, zero padding). One spatial axis: (W,); two: (H, W). The states start at zero.

    On Linux, glibc returns freed memory to the system after each training step, which can take as long as all that this
    layer gains; `lstm_studies.training.run.keep_memory()`, which the scripts call, keeps it for the process.

    Args:
        in_channels: C.
        hidden_channels: H, channels of the hidden map and of the cell.
        kernel_size: odd, of both convolutions, along every axis.
        spatial_dims: 1 or 2.
        timescale: as in `set_gate_biases`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int,
        spatial_dims: int,
        timescale: int | None = None,
    ):
        super().__init__()
        if min(in_channels, hidden_channels) < 1:
            raise ValueError(f"channels must be at least 1, not {in_channels} and {hidden_channels}")
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
        """All hidden maps (B, T, H, *space) and the last one (B, H, *space), channels last in memory.

        x is a sequence (B, T, C, *space), or one map (B, C, *space) held for `steps`, which is convolved once.
        `step_bias` (T, 4H), if given, is added to the gates i, f, o, g of each step. Under autocast the convolutions
        and the outputs have its type, as with `nn.LSTM`, where `low_precision_pays`. Raises ValueError for other
        shapes, and for no step.
        """
        steps = self.check(x, steps, step_bias)
        weight = two_axes(self.input_conv.weight, self.spatial_dims)
        hidden_weight = two_axes(self.hidden_conv.weight, self.spatial_dims)
        bias, dtype, is_held = self.input_conv.bias, convolution_dtype(weight), x.dim() == self.spatial_dims + 2
        with full_precision(x.device):
            x = two_axes(x.to(bias.dtype), self.spatial_dims)
            if is_held:
                constant = convolve(channels_last(x), double_g(weight, 0), double_g(bias)).contiguous()
                x, weight = None, hidden_weight
                biases = bias.new_zeros(steps, len(bias))
            else:
                weight, constant = torch.cat([weight, hidden_weight], 1), None
                biases = bias.expand(steps, -1)
                x = x.permute(1, 0, 3, 4, 2)  # (T, B, Y, X, C)
            if step_bias is not None:
                biases = biases + step_bias
            inputs = x, constant, double_g(biases), double_g(weight, 0)
            run = run_recorded if is_recorded(*inputs) else ConvLSTMFunction.apply
            h, last = run(*inputs, dtype)
        h, last = h.permute(1, 0, 4, 2, 3), channels_first(last)
        return (h.squeeze(3), last.squeeze(2)) if self.spatial_dims == 1 else (h, last)

    def check(self, x: Tensor, steps: int | None, step_bias: Tensor | None) -> int:
        """T. Raises ValueError unless the arguments of `forward` fit the layer and one another."""
        space = ("X",) if self.spatial_dims == 1 else ("Y", "X")
        expected = ("B", *(("T",) if steps is None else ()), self.in_channels, *space)
        channels_at = len(expected) - self.spatial_dims - 1
        if x.dim() != len(expected) or x.shape[channels_at] != self.in_channels:
            shape = ", ".join(map(str, expected))
            raise ValueError(f"x must be ({shape}), with {self.spatial_dims} spatial axes, not {tuple(x.shape)}")
        if x.dtype == torch.float64 != self.input_conv.bias.dtype:
            raise ValueError(f"x must be {self.input_conv.bias.dtype}, as the weights are, not {x.dtype}")
        steps = x.shape[1] if steps is None else steps
        if steps < 1:
            raise ValueError(f"x must have at least one step, not {steps}")
        if step_bias is not None and step_bias.shape != (steps, 4 * self.hidden_channels):
            raise ValueError(f"step_bias must be ({steps}, {4 * self.hidden_channels}), not {tuple(step_bias.shape)}")
        return steps


def double_g(x: Tensor, axis: int = -1) -> Tensor:
    """Doubles the last quarter of an axis of 4H entries, what belongs to g; see `ConvLSTMFunction`."""
    scale = x.new_ones(x.shape[axis])
    scale[3 * len(scale) // 4 :] = 2
    return x * (scale if axis == -1 else scale.view(-1, *[1] * (x.dim() - 1)))


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


def twice_less_one(x: Tensor, out: Tensor | None = None) -> Tensor:
    """2 x - 1 in one pass: tanh(a) for x = sigmoid(2 a), in a fourth of the time of PyTorch's tanh on a CPU."""
    return torch.add(x.new_full((), -1.0), x, alpha=2, out=out)  # filled where x is: a GPU waits for no transfer


def run_recorded(
    x: Tensor | None, constant: Tensor | None, biases: Tensor, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`ConvLSTMFunction` step by step, by operations that PyTorch can differentiate again, transform and export."""
    hidden = len(weight) // 4

    def step(*arguments) -> tuple[Tensor, Tensor]:
        *maps, bias, (h, c), (kernel, *held) = arguments
        sums = convolve(torch.cat([*maps, h], -1), kernel, bias.to(dtype)).to(c.dtype)
        i, f, o, s = sum(held, sums).sigmoid().split(hidden, -1)
        c = f * c + i * (2 * s - 1)
        return (o * c.tanh()).to(dtype), c

    places = (constant if x is None else x[0]).shape[:3]
    state = [biases.new_zeros(*places, hidden, dtype=kind) for kind in (dtype, biases.dtype)]
    inputs = [biases] if x is None else [x.to(dtype), biases]
    weights = [weight.to(dtype)] if constant is None else [weight.to(dtype), constant]
    outputs, last, _ = run_steps(step, inputs, state, weights)
    return outputs, last


class ConvLSTMFunction(torch.autograd.Function):
    """The recurrence, to h (T, B, Y, X, H) and h_T, from gates that are W * [x_t, h_{t-1}] + constant + biases_t.

    x (T, B, Y, X, C) or None, constant (B, Y, X, 4H) or None, biases (T, 4H), weight W (4H, C + H, *kernel), C = 0
    without x, and `dtype`, in which convolutions run and their inputs and outputs are kept; cells, activations and sums
    over steps have the type of the biases. Gates are ordered i, f, o, g, and g gets twice its argument: as
    tanh(a) = 2 sigmoid(2 a) - 1, one sigmoid covers all four gates. A backward pass that must have a graph is
    recorded (`run_recorded`).

    Inside, the places of all maps are the rows of matrices, N = B * Y * X. What is done to each row by itself is done
    to some of them at a time (`slices`), whose values stay in the processor's cache from one product to the next.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor | None, constant: Tensor | None, biases: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        steps, hidden, channels = len(biases), len(weight) // 4, weight.shape[1] - len(weight) // 4
        maps = (constant if x is None else x[0]).shape[:3]
        kernel = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        inputs = kernel.new_empty(steps + 1, *maps, channels + hidden)  # [x_t, h_{t-1}] for t = 0 to T
        if x is not None:
            inputs[:-1, ..., :channels] = x
        h = inputs[1:, ..., channels:]
        h_rows, constant_rows = h.flatten(1, 3), None if constant is None else constant.flatten(0, 2)
        cells, tanh_cells = biases.new_empty(2, *h_rows.shape)  # (T, N, H)
        gates = []
        for t, bias in enumerate(biases.to(dtype)):
            gates.append(step_sums(t, inputs[t], kernel, bias, channels))  # (N, 4H)
            for r in slices(*cells[t].shape):
                before = cells[t - 1, r] if t else None
                held = None if constant is None else constant_rows[r]
                update(gates[t][r], held, before, cells[t, r], tanh_cells[t, r], h_rows[t, r])
        ctx.save_for_backward(x, constant, biases, weight, inputs, cells, tanh_cells, *gates)
        ctx.set_materialize_grads(False)  # of the two outputs, mostly one is used
        ctx.dtype = dtype
        return h, h[-1].clone()

    @staticmethod
    def backward(ctx, grad_h: Tensor | None, grad_last: Tensor | None):
        if wants_graph(grad_h, grad_last):
            inputs, run = ctx.saved_tensors[:4], functools.partial(run_recorded, dtype=ctx.dtype)
            with full_precision(inputs[3].device):
                gradients = recorded_gradients(run, inputs, (grad_h, grad_last), ctx.needs_input_grad[:4])
            return *gradients, None
        return ConvLSTMFunction.gradients(ctx, grad_h, grad_last)

    @staticmethod
    def gradients(ctx, grad_h: Tensor | None, grad_last: Tensor | None):
        _, _, _, weight, inputs, cells, tanh_cells, *gates = ctx.saved_tensors
        (steps, places, hidden), channels, maps = cells.shape, weight.shape[1] - cells.shape[2], inputs.shape[1:4]
        wants_x, wants_constant, wants_biases, wants_weight, _ = ctx.needs_input_grad
        grad_sums = inputs.new_empty(steps, *maps, 4 * hidden)  # dL/d(arguments of the gates)
        grad_rows = grad_sums.flatten(1, 3)
        grad_x = inputs.new_empty(steps, *maps, channels) if wants_x else None
        grad_constant = weight.new_zeros(places, 4 * hidden) if wants_constant else None
        grad_biases = weight.new_zeros(steps, 4 * hidden) if wants_biases else None
        used_weight = weight.to(inputs.dtype)
        kernel = (used_weight if wants_x else used_weight[:, channels:]).contiguous(memory_format=torch.channels_last)
        like_inputs = inputs.new_empty(*maps, kernel.shape[1])  # a gradient's shape, without values
        dc = torch.zeros_like(cells[0])  # dL/dc_t through the steps after t
        dh = torch.zeros_like(dc) if grad_last is None else grad_last.flatten(0, 2)  # the same of h_t
        for t in reversed(range(steps)):
            if grad_h is not None:
                dh = dh + grad_h[t].flatten(0, 2)
            for r in slices(places, hidden):
                before = cells[t - 1, r] if t else None
                d = update_gradient(gates[t][r], before, tanh_cells[t, r], dh[r], dc[r], grad_rows[t, r])
                if wants_constant:
                    grad_constant[r] += d
                if wants_biases:
                    grad_biases[t] += d.sum(0)
            if t or wants_x:
                grad_inputs = convolution_gradient(grad_sums[t], like_inputs, kernel, of_input=True)
                dh = grad_inputs[..., -hidden:].flatten(0, 2)
                if wants_x:
                    grad_x[t] = grad_inputs[..., :channels]
        grad_constant = grad_constant.unflatten(0, maps) if wants_constant else None
        grad_weight = weight_gradient(grad_sums, inputs[:-1], used_weight).to(weight.dtype) if wants_weight else None
        return grad_x, grad_constant, grad_biases, grad_weight, None


def weight_gradient(grad_sums: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """dL/dW in float32 or float64, from [x_t, h_{t-1}] (T, B, Y, X, C + H) and dL/dsums (T, B, Y, X, 4H): all steps as
    one batch, but for the first, in which h has no part.
    """
    channels = weight.shape[1] - len(weight) // 4
    grad = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    if len(inputs) > 1:
        grad += convolution_gradient(grad_sums[1:].flatten(0, 1), inputs[1:].flatten(0, 1), weight, of_input=False)
    if channels:
        kernel = weight[:, :channels]
        grad[:, :channels] += convolution_gradient(grad_sums[0], inputs[0, ..., :channels], kernel, of_input=False)
    return grad


def step_sums(t: int, inputs: Tensor, kernel: Tensor, bias: Tensor, channels: int) -> Tensor:
    """W * [x_t, h_{t-1}] + bias, (N, 4H). At the first step h_{t-1} is zero, and left out."""
    if t == 0:
        inputs, kernel = inputs[..., :channels], kernel[:, :channels]
    if kernel.shape[1] == 0:
        return bias.repeat(inputs.shape[:-1].numel(), 1)
    return convolve(inputs, kernel, bias).reshape(-1, len(bias))


def slices(rows: int, hidden: int) -> list[slice]:
    """Parts of `rows` rows, with about CACHED_VALUES values in their gates, 4 * hidden in a row."""
    size = max(1, CACHED_VALUES // (4 * hidden))
    return [slice(start, start + size) for start in range(0, rows, size)]


def update(
    gates: Tensor, constant: Tensor | None, before: Tensor | None, cell: Tensor, tanh_cell: Tensor, h: Tensor
) -> None:
    """One step for some rows, in place. gates (n, 4H): their arguments less `constant`, replaced by the gates; before:
    c_{t-1} (n, H), None at the first step; filled: cell, tanh_cell and h (n, H).
    """
    values = gates.to(cell.dtype)
    if constant is not None:
        values += constant
    i, f, o, s = values.sigmoid_().split(cell.shape[1], 1)
    twice_less_one(s, out=cell).mul_(i)
    if before is not None:
        cell.addcmul_(f, before)
    twice_less_one(torch.mul(cell, 2, out=tanh_cell).sigmoid_(), out=tanh_cell)
    torch.mul(o, tanh_cell, out=h)
    gates.copy_(values)  # nothing to do where they are the same


def update_gradient(
    gates: Tensor, before: Tensor | None, tanh_cell: Tensor, dh: Tensor, dc: Tensor, filled: Tensor
) -> Tensor:
    """Of `update`: dL/d(arguments of the gates) (n, 4H), from dL/dh_t and from dL/dc_t through the steps after t, which
    becomes the same of c_{t-1}. All of it has the type of dc; `filled` gets a copy of the result in its own type.
    """
    gates, dh = gates.to(dc.dtype), dh.to(dc.dtype)
    i, f, o, s = gates.split(dc.shape[1], 1)
    d = filled if filled.dtype == dc.dtype else torch.empty_like(gates)
    di, df, do, ds = d.split(dc.shape[1], 1)
    torch.mul(dh, tanh_cell, out=do)
    dc += torch.ops.aten.tanh_backward(dh * o, tanh_cell)  # dh o (1 - tanh^2 c)
    twice_less_one(s, out=di).mul_(dc)
    torch.mul(dc, i, out=ds).mul_(2)  # g = 2 s - 1
    if before is None:
        df.zero_()
    else:
        torch.mul(dc, before, out=df)
    dc *= f
    torch.ops.aten.sigmoid_backward.grad_input(d, gates, grad_input=d)
    filled.copy_(d)
    return d
