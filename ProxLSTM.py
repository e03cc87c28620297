"""The proximal map and the proximal LSTM of Li, Ma and Zhang, "Proximal mapping for deep regularization", NeurIPS 2020.

At every step the cell state of an LSTM is replaced by a close one that is less sensitive to the step's input.
docs/proximal_lstm.md derives the formulas; numbers in brackets, such as (8), refer to them.

Letters: B batch, T time steps, I input size, H hidden size, N the sum of all sequences' lengths (B T without padding).
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lstm_studies.models.proximal_solvers import make_solver, product, solve_by_products, solve_dense
from lstm_studies.models.recording import (
    autocast_dtype,
    full_precision,
    is_recorded,
    is_transformed,
    recorded_gradients,
    wants_graph,
)
from lstm_studies.models.recurrence import lstm_step, run_layers, run_steps

METHODS = ("auto", "cholesky", "cg", "blackbox")
# Of conjugate gradients, with a fixed epsilon and with a learnable one, whose gradient is the least exact of all.
TOLERANCES = {torch.float32: (1e-4, 3e-5), torch.float64: (1e-12, 1e-12)}
aten = torch.ops.aten


# ---- the proximal map ------------------------------------------------------------------------------------------------


def proximal_map(s: Tensor, G: Tensor, epsilon: float | Tensor) -> Tensor:
    """c = (I + epsilon G G^T)^-1 s (6), the minimiser of ||c - s||^2 / 2 + epsilon ||G^T c||^2 / 2 (5).

    s (B, H), G (B, H, I), epsilon a number or a tensor without dimensions, not negative (a tensor is not checked: that
    would wait for the device). Returns c (B, H). Any number of batch dimensions, the same in s and G, or none.
    Differentiable any number of times in s, G and epsilon; float16 and bfloat16 are computed in float32, under autocast
    too. Raises ValueError for other shapes and for an epsilon that is negative or not finite.
    """
    if G.dim() != s.dim() + 1 or s.dim() < 1 or G.shape[:-1] != s.shape:
        raise ValueError(f"s and G must be (..., H) and (..., H, I), not {tuple(s.shape)} and {tuple(G.shape)}")
    if isinstance(epsilon, Tensor) and epsilon.dim():
        raise ValueError(f"epsilon must be a number or have no dimensions, not the shape {tuple(epsilon.shape)}")
    if not isinstance(epsilon, Tensor) and not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon must be finite and not negative, not {epsilon}")
    dtype = torch.promote_types(s.dtype, G.dtype)
    working = torch.promote_types(dtype, torch.float32)
    with full_precision(s.device):
        s, G = s.to(working), G.to(working)
        if is_recorded(s, G, epsilon if isinstance(epsilon, Tensor) else None):
            return solve_dense(s, G, epsilon).to(dtype)
        epsilon = torch.as_tensor(epsilon, dtype=working, device=s.device)
        return ProximalMap.apply(s, G, epsilon).to(dtype)


class ProximalMap(torch.autograd.Function):
    """(6), and (7)-(9) as its derivatives: made of differentiable operations and of the map itself."""

    @staticmethod
    def forward(s: Tensor, G: Tensor, epsilon: Tensor) -> Tensor:
        return solve_dense(s, G, epsilon)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, G, epsilon = inputs
        ctx.save_for_backward(G, epsilon, output)

    @staticmethod
    def backward(ctx, grad_c: Tensor):
        G, epsilon, c = ctx.saved_tensors
        a = proximal_map(grad_c, G, epsilon)  # (7)
        # p = G^T c and q = G^T a: sums, because autocast would lower the precision of a product
        p, q = (G * c.unsqueeze(-1)).sum(-2), (G * a.unsqueeze(-1)).sum(-2)
        grad_G = -epsilon * (a.unsqueeze(-1) * p.unsqueeze(-2) + c.unsqueeze(-1) * q.unsqueeze(-2))  # (8)
        return a, grad_G, -(p * q).sum()  # (9)


# ---- one step --------------------------------------------------------------------------------------------------------


def proximal_step(
    v: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    epsilon: float | Tensor,
    solve: Callable[[Tensor, Tensor, float | Tensor], Tensor] = proximal_map,
) -> tuple[Tensor, Tensor]:
    """One step of a proximal LSTM: v (B, I) and (h, c) before to the next h and c, all (B, H); weights of `lstm_step`.

    The definition, which the rest of this file computes faster. Differentiable any number of times. `solve`: (6).
    """
    h, s, (i, f, g) = lstm_step(v, state, weights)  # (1)-(3)
    d_i, d_f, d_g = g * i * (1 - i), state[1] * f * (1 - f), i * (1 - g * g)  # (B, H) each
    w_i, w_f, w_g, _ = weights[0].chunk(4)  # (H, I) each
    G = d_i.unsqueeze(-1) * w_i + d_f.unsqueeze(-1) * w_f + d_g.unsqueeze(-1) * w_g  # (B, H, I) (4)
    return h, solve(s, G, epsilon)  # (6)


def blackbox_step(cell: Callable, v: Tensor, state: tuple[Tensor, Tensor], epsilon: float | Tensor):
    """A step of any cell: v (B, I) and (h, c) (B, H) to the next (h, c). Slow: H rows of G pass back through the cell.

    `cell(v, (h, c))` returns the new h and cell state s, as nn.LSTMCell does; c is s under the proximal map whose G is
    ds/dv of each sample, by autograd. The samples must not act on one another. Differentiable any number of times.
    """

    def new_states(v: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, s = cell(v, state)
        return s.sum(0), (h, s)  # a sample's v is in no other's s, so the sum loses nothing of ds/dv

    G, (h, s) = torch.func.jacrev(new_states, has_aux=True)(v)  # (H, B, I)
    return h, proximal_map(s, G.transpose(0, 1), epsilon)


def run_packed(step: Callable, x: Tensor, batch_sizes: Sequence[int], state, weights, reverse: bool):
    """`run_steps` for sequences that are sorted by length: x (N, I) to h (N, H) and the last h and c (B, H)."""
    (h, c), steps, outputs = state, x.split(batch_sizes), [None] * len(batch_sizes)
    for t in range(len(steps))[:: -1 if reverse else 1]:
        n = batch_sizes[t]
        outputs[t], c_t = step(steps[t], (first_rows(h, n), first_rows(c, n)), weights)
        h, c = replace_rows(h, outputs[t]), replace_rows(c, c_t)
    return torch.cat(outputs), h, c


def first_rows(state: Tensor, n: int) -> Tensor:
    return state if state.size(0) == n else state[:n]


def replace_rows(state: Tensor, rows: Tensor) -> Tensor:
    """`state` (B, H) with its first rows replaced."""
    n = rows.size(0)
    return rows if n == state.size(0) else torch.cat([rows, state[n:]])


# ---- a whole sequence, with the backward pass written out ------------------------------------------------------------


class ProxLSTMFunction(torch.autograd.Function):
    """`proximal_step` through packed sequences, its first derivatives by (7)-(14); later ones by recorded operations.

    x (N, I) are the rows of one step after another, `batch_sizes` of them, not increasing: the sequences are sorted,
    the longest first. Returns h (N, H) and the last h and c (B, H). `epsilon` is a positive number or a tensor without
    dimensions, `bias` may be None, `make_solver` makes a solver for the weights that G consists of.
    """

    @staticmethod
    def forward(ctx, x, h_0, c_0, w_ih, w_hh, bias, epsilon, batch_sizes, reverse, make_solver):
        hidden = w_hh.shape[1]
        solver = make_solver(weight=w_ih[: 3 * hidden] * epsilon**0.5)
        order = range(len(batch_sizes))[:: -1 if reverse else 1]
        gates = product(x, w_ih.T, bias)
        d, y = (x.new_empty(len(x), 3, hidden) for _ in range(2))  # G = diag(d_i) W_i + ..., y = W G^T c
        g_all, tanh_s, h, c = (x.new_empty(len(x), hidden) for _ in range(4))
        p = torch.empty_like(x)  # G^T c
        buffers = (gates, *gates.split(hidden, 1), g_all, *d.unbind(1), d, tanh_s, h, c, p, y)
        by_step = list(zip(*(torch.split_with_sizes(buffer, batch_sizes) for buffer in buffers), strict=True))
        h_before, factors = ([None] * len(batch_sizes) for _ in range(2))
        h_last, c_last, w_hh_transposed = h_0, c_0, w_hh.T
        for t in order:
            z, i, f, z_g, o, g, d_i, d_f, d_g, d_t, tanh_s_t, h_t, c_t, p_t, y_t = by_step[t]
            h_before[t], c_before = first_rows(h_last, batch_sizes[t]), first_rows(c_last, batch_sizes[t])
            product(h_before[t], w_hh_transposed, z, out=z)
            torch.tanh(z_g, out=g)  # (1)
            z.sigmoid_()
            s = torch.addcmul(i * g, f, c_before)  # (2)
            torch.tanh(s, out=tanh_s_t)
            torch.mul(o, tanh_s_t, out=h_t)  # (3)
            aten.sigmoid_backward.grad_input(g, i, grad_input=d_i)  # (4)
            aten.sigmoid_backward.grad_input(c_before, f, grad_input=d_f)
            aten.tanh_backward.grad_input(i, g, grad_input=d_g)
            factors[t] = solver.prepare(d_t)
            solver.solve(d_t, factors[t], s, c_t, p_t, y_t)  # (6)
            h_last, c_last = replace_rows(h_last, h_t), replace_rows(c_last, c_t)
        gates[:, 2 * hidden : 3 * hidden] = g_all
        ctx.save_for_backward(
            *(x, h_0, c_0, w_ih, w_hh, bias, epsilon if isinstance(epsilon, Tensor) else None),
            *(gates, d, tanh_s, c, p, y, torch.cat(h_before)),
        )
        ctx.epsilon, ctx.batch_sizes, ctx.order, ctx.solver, ctx.factors = epsilon, batch_sizes, order, solver, factors
        return h, h_last.clone(), c_last.clone()

    @staticmethod
    def backward(ctx, *grad_outputs):
        with full_precision(grad_outputs[0].device):
            if not wants_graph(*grad_outputs):
                return *ProxLSTMFunction.gradients(ctx, *grad_outputs), None, None, None
            needed = ctx.needs_input_grad[:7]
            run = functools.partial(ProxLSTMFunction.run_recorded, ctx)
            return *recorded_gradients(run, ctx.saved_tensors[:7], grad_outputs, needed), None, None, None

    @staticmethod
    def run_recorded(ctx, x, h_0, c_0, w_ih, w_hh, bias, epsilon):
        epsilon = ctx.epsilon if epsilon is None else epsilon
        weights = (w_ih, w_hh) if bias is None else (w_ih, w_hh, bias, torch.zeros_like(bias))
        step = functools.partial(proximal_step, epsilon=epsilon)
        return run_packed(step, x, ctx.batch_sizes, (h_0, c_0), weights, ctx.order.step < 0)

    @staticmethod
    def gradients(ctx, grad_h, grad_h_last, grad_c_last):
        x, _, _, w_ih, w_hh, bias, _, gates, d, tanh_s, c, p, y, h_before = ctx.saved_tensors
        hidden = w_hh.shape[1]
        i, f, _, o = gates.split(hidden, 1)
        # first minus the second derivatives of s with respect to the inputs of the gates (12), and the slope of o
        grad_z = gates * 2
        grad_s, grad_o = grad_z[:, : 3 * hidden].unflatten(1, (3, hidden)), grad_z[:, 3 * hidden :]
        grad_s[:, :2].sub_(1)
        grad_s.mul_(d)
        aten.sigmoid_backward.grad_input(tanh_s, o, grad_input=grad_o)
        mixed = torch.addcmul(d[:, 2], d[:, 2], i, value=-1)
        f_slope = torch.addcmul(f, f, f, value=-1)
        s_slope = aten.tanh_backward(o, tanh_s)
        a, q, y_a = map(torch.empty_like, (c, p, y[: ctx.batch_sizes[0]]))
        buffers = (
            *(grad_h, d, y, c.unsqueeze(1), f, mixed, f_slope, s_slope),
            *(grad_z, grad_s, grad_s[:, 0], grad_s[:, 2], grad_o, a, a.unsqueeze(1), q),
        )
        by_step = list(zip(*(torch.split_with_sizes(buffer, ctx.batch_sizes) for buffer in buffers), strict=True))
        dh, dc, n = grad_h_last, grad_c_last.contiguous(), -1  # (B, H): of the state after step t
        for t in reversed(ctx.order):
            grad_h_t, d_t, y_t, c_t, f_t, mixed_t, f_slope_t, s_slope_t, *dz_t, a_t, a_row, q_t = by_step[t]
            dz, dz_s, dz_i, dz_g, dz_o = dz_t
            if n != ctx.batch_sizes[t]:
                n = ctx.batch_sizes[t]
                dd = first_rows(y_a, n)
                dd_i, dd_f, dd_g = dd.unbind(1)
            ctx.solver.solve(d_t, ctx.factors[t], first_rows(dc, n), a_t, q_t, dd)  # (7)
            dh_t = grad_h_t + first_rows(dh, n)
            dz_o.mul_(dh_t)
            ds = torch.addcmul(a_t, dh_t, s_slope_t)  # (10)
            # minus dL/dd (11), then through d to the gates' inputs (12)
            dd.mul_(c_t).addcmul_(a_row, y_t)
            dz_s.mul_(dd).addcmul_(ds.unsqueeze(1), d_t)
            dz_i.addcmul_(dd_g, mixed_t, value=-1)
            dz_g.addcmul_(dd_i, mixed_t, value=-1)
            dh = replace_rows(dh, product(dz, w_hh))  # (13)
            dc = replace_rows(dc, (ds * f_t).addcmul_(dd_f, f_slope_t, value=-1))
        # (14): the gates' part and that of G, half of whose epsilon is in p and q already
        grad_w_ih = product(grad_z.T, x)
        for left, right in ((a, p), (c, q)):
            outer = product((d * left.unsqueeze(1)).flatten(1).T, right)
            grad_w_ih[: 3 * hidden].sub_(outer, alpha=ctx.epsilon**0.5)
        grad_x = product(grad_z, w_ih) if ctx.needs_input_grad[0] else None
        grad_bias = None if bias is None else grad_z.sum(0)
        grad_epsilon = -(p * q).sum() / ctx.epsilon if ctx.needs_input_grad[6] else None  # (9)
        return grad_x, dh, dc, grad_w_ih, product(grad_z.T, h_before), grad_bias, grad_epsilon


# ---- modules ---------------------------------------------------------------------------------------------------------


class Proximal:
    """Base class of the cell and the layer: epsilon, the method, and a run through the steps of one layer."""

    def set_proximal(self, epsilon: float, method: str, learnable: bool, tolerance: float | None, max_iterations: int):
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        if tolerance is not None and not 0 < tolerance < 1:
            raise ValueError(f"tolerance must be between 0 and 1, not {tolerance}")
        if max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
        self.method, self.tolerance, self.max_iterations = method, tolerance, max_iterations
        log_epsilon = next(self.parameters()).new_zeros(())
        self.log_epsilon = nn.Parameter(log_epsilon) if learnable else None
        self.epsilon = epsilon

    @property
    def epsilon(self) -> float | Tensor:
        """The weight of the proximal problem (5): a number or, if it is learnable, the exponential of a parameter."""
        return self.fixed_epsilon if self.log_epsilon is None else self.log_epsilon.exp()

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        learnable = self.log_epsilon is not None
        if not 0 <= value < math.inf or (learnable and value == 0):
            kind = "positive to be learnable" if learnable else "finite and not negative"
            raise ValueError(f"epsilon must be {kind}, not {value}")
        self.fixed_epsilon = float(value)
        if learnable:
            nn.init.constant_(self.log_epsilon, math.log(value))

    @property
    def is_plain(self) -> bool:
        return self.log_epsilon is None and self.fixed_epsilon == 0

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if getattr(self, "log_epsilon", None) is not None:
            self.epsilon = self.fixed_epsilon

    def extra_repr(self) -> str:
        value = self.fixed_epsilon if self.log_epsilon is None else "learnable"
        return f"{super().extra_repr()}, epsilon={value}, method={self.method}"

    def run(
        self,
        x: Tensor,
        state: Sequence[Tensor],
        weights: Sequence[Tensor],
        reverse: bool = False,
        batch_sizes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h of all steps and the last h and c of one layer in one direction, in float32 at least.

        x is (T, B, I) or, with the number of rows of each step, (N, I); weights are those of `lstm_step`.
        """
        working = torch.promote_types(weights[0].dtype, torch.float32)
        with full_precision(x.device):
            x, h, c, *weights = (tensor.to(working) for tensor in (x, *state, *weights))
            epsilon = self.epsilon if self.log_epsilon is None else self.epsilon.to(working)
            if self.has_no_kernel(x, h, c, *weights):
                weights = weights if self.log_epsilon is None else [epsilon, *weights]
                # asked for here, because PyTorch's tracer does not see it inside of a step
                solve = solve_by_products if torch.onnx.is_in_onnx_export() else proximal_map
                step = functools.partial(self.step, solve=solve)
                if batch_sizes is None:
                    return run_steps(step, [x], (h, c), weights, reverse)
                return run_packed(step, x, batch_sizes, (h, c), weights, reverse)
            w_ih, w_hh, *biases = weights
            bias = biases[0] + biases[1] if biases else None
            sizes = [x.shape[1]] * len(x) if batch_sizes is None else batch_sizes
            tolerance = self.tolerance or TOLERANCES[working][self.log_epsilon is not None]
            solver = functools.partial(
                make_solver, self.method, tolerance=tolerance, max_iterations=self.max_iterations
            )
            rows = x.reshape(-1, x.shape[-1])
            hidden, h, c = ProxLSTMFunction.apply(rows, h, c, w_ih, w_hh, bias, epsilon, sizes, reverse, solver)
            return hidden.view(*x.shape[:-1], w_hh.shape[1]), h, c

    def has_no_kernel(self, *tensors: Tensor) -> bool:
        return self.is_plain or self.method == "blackbox" or is_recorded(*tensors)

    def step(self, v: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], solve: Callable):
        """One recorded step; a learnable epsilon is the first of the weights."""
        if self.is_plain:
            return lstm_step(v, state, weights)[:2]
        epsilon, weights = (self.fixed_epsilon, weights) if self.log_epsilon is None else (weights[0], weights[1:])
        if self.method == "blackbox" and not torch.compiler.is_compiling():
            return blackbox_step(lambda v, state: lstm_step(v, state, weights)[:2], v, state, epsilon)
        return proximal_step(v, state, weights, epsilon, solve)


class ProxLSTMCell(Proximal, nn.LSTMCell):
    """nn.LSTMCell with the cell state under the proximal map: same arguments, parameters, calls and errors.

    s, the new cell state of an LSTM, gives the output h = o tanh(s); the state passed on is c = proximal_map(s, G,
    epsilon) with G = ds/dinput of each sample (1)-(6). `method`: "cholesky" (G and its Gram matrix in memory), "cg"
    (conjugate gradients to a relative residual of `tolerance`, if not given 1e-4 in float32, 3e-5 with a learnable
    epsilon, and 1e-12 in float64, and a RuntimeWarning if `max_iterations` are not enough), "blackbox" (by autograd,
    slow), "auto" (cholesky if H or I is at most 16, else cg, as measured by benchmarks/bench_prox_lstm.py). `learnable`
    makes log(epsilon) a parameter. With epsilon = 0 it is nn.LSTMCell. Differentiable any number of times: a backward
    pass with `create_graph=True` computes the whole by `proximal_step`, which takes longer. docs/layers.md: what
    compiles, exports and transforms.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device=None,
        dtype=None,
        *,
        epsilon: float = 1.0,
        method: str = "auto",
        learnable: bool = False,
        tolerance: float | None = None,
        max_iterations: int = 1000,
    ):
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.set_proximal(epsilon, method, learnable, tolerance, max_iterations)

    def has_no_kernel(self, *tensors: Tensor) -> bool:
        return torch.compiler.is_compiling() or super().has_no_kernel(*tensors)

    def forward(
        self, input: Tensor, hx: Sequence[Tensor] | Tensor | None = None, c: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(h, c) (B, H) for the input (B, I) and hx = (h, c) before, zeros if not given; or all of them without B.

        The call cell(v, h, c) with the three tensors one after another is accepted, too.
        """
        if isinstance(hx, Tensor) != isinstance(c, Tensor):
            raise TypeError("expected cell(v, (h, c)) or cell(v, h, c), with both states, or cell(v) for zeros")
        hx = hx if c is None else (hx, c)
        if self.is_plain and not is_transformed(input):
            return super().forward(input, hx)
        for name, tensor in zip(("input", "hx[0]", "hx[1]"), (input, *(hx or ())), strict=False):
            if tensor.dim() not in (1, 2):
                raise ValueError(f"LSTMCell: Expected {name} to be 1D or 2D, got {tensor.dim()}D instead")
        sizes = (*input.shape[:-1], self.hidden_size)
        hx = (input.new_zeros(sizes),) * 2 if hx is None else tuple(hx)
        if input.shape[-1] != self.input_size or [part.shape for part in hx] != [sizes] * 2:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (input, *hx))
            expected = (*input.shape[:-1], self.input_size)
            raise RuntimeError(f"expected an input of {expected} and h and c of {sizes}, got {shapes}")
        check_types(self.weight_ih, input, hx[0])
        weights = [
            weight for weight in (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh) if weight is not None
        ]
        x, h, c = (tensor.view(-1, tensor.shape[-1]) for tensor in (input, *hx))
        _, h, c = self.run(x.unsqueeze(0), (h, c), weights)
        types = output_types(self.weight_ih, hx[1])
        return h.view(sizes).to(types[0]), c.view(sizes).to(types[1])


class ProxLSTM(Proximal, nn.LSTM):
    """nn.LSTM with `ProxLSTMCell` as its cell: same arguments in the same order, parameters, calls and errors.

    Further arguments, by keyword, are those of `ProxLSTMCell`. In each layer the proximal map is that of the layer's
    input. A PackedSequence has no padded steps. With `proj_size`, and with `method="blackbox"`, all operations are
    recorded one by one, which takes longer.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device=None,
        dtype=None,
        *,
        epsilon: float = 1.0,
        method: str = "auto",
        learnable: bool = False,
        tolerance: float | None = None,
        max_iterations: int = 1000,
    ):
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(*sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)
        self.set_proximal(epsilon, method, learnable, tolerance, max_iterations)

    def has_no_kernel(self, *tensors: Tensor) -> bool:
        return self.proj_size > 0 or super().has_no_kernel(*tensors)

    def forward(self, input: Tensor | PackedSequence, hx: Sequence[Tensor] | None = None):
        """(output, (h, c)) for the input and hx = (h, c) before, with the shapes of nn.LSTM."""
        is_packed, batch_axis = isinstance(input, PackedSequence), 0 if self.batch_first else 1
        x, batch_sizes, order, back = input if is_packed else (input, None, None, None)
        if self.is_plain and not is_transformed(x):
            return super().forward(input, hx)
        if not is_packed and x.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {x.dim()}D instead")
        is_batched = is_packed or x.dim() == 3
        x = x if is_batched else x.unsqueeze(batch_axis)
        hx = self.checked_state(x, hx, batch_sizes, is_batched)
        state = self.permute_hidden(hx, order)
        if is_packed:
            output, h, c = self.run_layers(x, state, batch_sizes=batch_sizes.tolist())
            return PackedSequence(output, batch_sizes, order, back), self.permute_hidden((h, c), back)
        x = x.transpose(0, 1) if self.batch_first else x  # (T, B, I)
        if x.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        output, h, c = self.run_layers(x, state)
        output = output.transpose(0, 1) if self.batch_first else output
        return (output, (h, c)) if is_batched else (output.squeeze(batch_axis), (h.squeeze(1), c.squeeze(1)))

    def checked_state(
        self, x: Tensor, hx: Sequence[Tensor] | None, batch_sizes: Tensor | None, is_batched: bool
    ) -> tuple[Tensor, Tensor]:
        """hx, or zeros, with a batch axis. Raises what nn.LSTM raises for x and hx."""
        if hx is None:
            sizes = self.get_expected_hidden_size(x, batch_sizes), self.get_expected_cell_size(x, batch_sizes)
            hx = [x.new_zeros(size) for size in sizes]
        elif len(hx) > 2 or any(part.dim() != 2 + is_batched for part in hx):
            shapes = ", ".join(str(tuple(part.shape)) for part in hx)
            raise RuntimeError(f"expected h and c, of {2 + is_batched} axes as the input has, got {shapes}")
        elif not is_batched:
            hx = [part.unsqueeze(1) for part in hx]
        if batch_sizes is not None:
            check_types(self.weight_ih_l0, x)  # of a padded input, the next line checks it
        self.check_forward_args(x, hx, batch_sizes)
        check_types(self.weight_ih_l0, *hx)
        return hx[0], hx[1]

    def run_layers(self, x: Tensor, state: tuple[Tensor, Tensor], batch_sizes: Sequence[int] | None = None):
        """Output and the last h and c of all layers, in the types of nn.LSTM."""
        output, h, c = run_layers(self, functools.partial(self.run, batch_sizes=batch_sizes), x, state)
        is_fused = batch_sizes is None and not self.proj_size
        h_type, c_type = output_types(self.weight_ih_l0, state[1], is_fused, self.proj_size > 0)
        return output.to(h_type), h.to(h_type), c.to(c_type)


def output_types(weight: Tensor, c: Tensor, is_fused: bool = False, is_projected: bool = False):
    """The types of h and c in PyTorch: that of the weights, under autocast that of autocast.

    Where PyTorch has no fused kernel, on a processor, it adds to the cell state c in that state's own type.
    """
    dtype = autocast_dtype(weight) or weight.dtype
    if is_fused or weight.device.type == "cuda":
        return dtype, dtype
    promoted = torch.promote_types(dtype, c.dtype)
    return dtype if is_projected else promoted, promoted


def check_types(weight: Tensor, *tensors: Tensor) -> None:
    if autocast_dtype(weight) is None and any(tensor.dtype != weight.dtype for tensor in tensors):
        types = ", ".join(str(tensor.dtype) for tensor in tensors)
        raise RuntimeError(f"expected input and states of the type of the weights, {weight.dtype}, got {types}")
