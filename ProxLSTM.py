"""The proximal map and the proximal LSTM of Li, Ma and Zhang, "Proximal mapping for deep regularization", NeurIPS 2020.

The cell state of an LSTM is replaced, at every step, by the nearest state that is little sensitive to the step's input.
docs/proximal_lstm.md derives what is computed here; numbers in brackets, such as (8), are its formulas.

Letters: B batch, T time steps, I input size, H hidden size, N the sum of all sequences' lengths (B T without padding).
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from lstm_studies.models.proximal_solvers import make_solver, solve_dense

METHODS = ("auto", "cholesky", "cg", "blackbox")
TOLERANCES = {torch.float32: 3e-4, torch.float64: 1e-12}  # of conjugate gradients
aten = torch.ops.aten


# ---- the proximal map ------------------------------------------------------------------------------------------------


def proximal_map(s: Tensor, G: Tensor, epsilon: float | Tensor) -> Tensor:
    """c = (I + epsilon G G^T)^-1 s (6), the minimiser of ||c - s||^2 / 2 + epsilon ||G^T c||^2 / 2 (5).

    s (B, H), G (B, H, I), epsilon a number or a tensor without dimensions, not negative (a tensor is not checked: that
    would wait for the device). Returns c (B, H). Any number of batch dimensions, the same in s and G, or none. Twice
    differentiable in s, G and epsilon; float16 and bfloat16 are computed in float32, under autocast too.
    """
    if G.dim() != s.dim() + 1 or s.dim() < 1 or G.shape[:-1] != s.shape:
        raise ValueError(f"s and G must be (..., H) and (..., H, I), not {tuple(s.shape)} and {tuple(G.shape)}")
    if isinstance(epsilon, Tensor) and epsilon.dim():
        raise ValueError(f"epsilon must be a number or have no dimensions, not the shape {tuple(epsilon.shape)}")
    if not isinstance(epsilon, Tensor) and not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon must be finite and not negative, not {epsilon}")
    dtype = torch.promote_types(s.dtype, G.dtype)
    working = torch.promote_types(dtype, torch.float32)
    epsilon = torch.as_tensor(epsilon, dtype=working, device=s.device)
    return ProximalMap.apply(s.to(working), G.to(working), epsilon).to(dtype)


class ProximalMap(torch.autograd.Function):
    """(6), and (7)-(9) as its derivatives: made of differentiable operations and of the map itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(s: Tensor, G: Tensor, epsilon: Tensor) -> Tensor:
        with torch.autocast(s.device.type, enabled=False):
            return solve_dense(epsilon.sqrt() * G, s)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, G, epsilon = inputs
        ctx.save_for_backward(G, epsilon, output)

    @staticmethod
    def backward(ctx, grad_c: Tensor):
        G, epsilon, c = ctx.saved_tensors
        a = ProximalMap.apply(grad_c, G, epsilon)
        # p = G^T c and q = G^T a: sums, because autocast would lower the precision of a product
        p, q = (G * c.unsqueeze(-1)).sum(-2), (G * a.unsqueeze(-1)).sum(-2)
        grad_G = -epsilon * (a.unsqueeze(-1) * p.unsqueeze(-2) + c.unsqueeze(-1) * q.unsqueeze(-2))
        return a, grad_G, -(p * q).sum()


# ---- a whole sequence, with the backward pass written out ------------------------------------------------------------


class ProxLSTMFunction(torch.autograd.Function):
    """All steps: x (N, I), the rows of one step after another, to h (N, H) and the last h and c (B, H).

    `batch_sizes` has the number of rows of each step, not increasing: the sequences are sorted, the longest first.
    Gates are ordered i, f, g, o, as in nn.LSTM; epsilon is a positive number or tensor without dimensions.
    Differentiable once.

    M LSTMs run as one if the weights are (M, 4H, I), (M, 4H, H) and (M, 4H): all steps then have as many rows, in M
    equal blocks.
    """

    @staticmethod
    def forward(ctx, x, h_0, c_0, w_ih, w_hh, bias, epsilon, batch_sizes, reverse, make_solver):
        hidden = w_hh.shape[-1]
        solver = make_solver(weight=w_ih[..., : 3 * hidden, :] * epsilon**0.5)
        order = range(len(batch_sizes))[:: -1 if reverse else 1]
        blocks = Blocks(w_ih, len(batch_sizes))
        gates_x = blocks.gather(blocks.spread(x) @ w_ih.mT + bias.unsqueeze(-2)).split(batch_sizes)
        gates = gates_x[0].new_empty(len(x), 4 * hidden)
        d, y = (gates.new_empty(len(x), 3, hidden) for _ in range(2))
        tanh_s, h, c = (gates.new_empty(len(x), hidden) for _ in range(3))
        p = gates.new_empty(x.shape)
        w_hh_transposed = w_hh.mT
        parts = (gates, *gates.split(hidden, 1), *d.unbind(1), d, tanh_s, h, c, p, y)
        by_step = list(zip(*(part.split(batch_sizes) for part in parts), strict=True))
        h_before, factors = ([None] * len(batch_sizes) for _ in range(2))
        h_last, c_last = h_0, c_0
        for t in order:
            gates_t, i, f, g, o, d_i, d_f, d_g, d_t, tanh_s_t, h_t, c_t, p_t, y_t = by_step[t]
            h_before[t], c_before = first_rows(h_last, batch_sizes[t]), first_rows(c_last, batch_sizes[t])
            z = blocks.add_product(gates_x[t], h_before[t], w_hh_transposed)
            torch.sigmoid(z, out=gates_t)
            torch.tanh(z[:, 2 * hidden : 3 * hidden], out=g)
            s = torch.addcmul(i * g, f, c_before)  # (2)
            torch.tanh(s, out=tanh_s_t)
            torch.mul(o, tanh_s_t, out=h_t)  # (3)
            aten.sigmoid_backward.grad_input(g, i, grad_input=d_i)  # (4)
            aten.sigmoid_backward.grad_input(c_before, f, grad_input=d_f)
            aten.tanh_backward.grad_input(i, g, grad_input=d_g)
            factors[t] = solver.prepare(d_t)
            solver.solve(d_t, factors[t], s, c_t, p_t, y_t)  # (6)
            h_last, c_last = replace_rows(h_last, h_t), replace_rows(c_last, c_t)
        ctx.save_for_backward(x, w_ih, w_hh, gates, d, tanh_s, c, p, y, torch.cat(h_before))
        ctx.epsilon, ctx.batch_sizes, ctx.order = float(epsilon), batch_sizes, order
        ctx.solver, ctx.factors, ctx.blocks = solver, factors, blocks
        return h, h_last.clone(), c_last.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):
        with torch.autocast(grad_outputs[0].device.type, enabled=False):
            return ProxLSTMFunction.gradients(ctx, *grad_outputs)

    @staticmethod
    def gradients(ctx, grad_h, grad_h_last, grad_c_last):
        x, w_ih, w_hh, gates, d, tanh_s, c, p, y, h_before = ctx.saved_tensors
        hidden, blocks = w_hh.shape[-1], ctx.blocks
        i, f, _, o = gates.split(hidden, 1)
        # minus the second derivatives of s with respect to the inputs of the gates (12)
        minus_second = gates[:, : 3 * hidden].unflatten(1, (3, hidden)) * 2
        minus_second[:, :2].sub_(1)
        minus_second.mul_(d)
        minus_mixed = d[:, 2] * (i - 1)
        minus_slope = f * (f - 1)
        o_slope = aten.sigmoid_backward(tanh_s, o)
        s_slope = aten.tanh_backward(o, tanh_s)
        grad_z, a, q, y_a = map(torch.empty_like, (gates, c, p, y[: ctx.batch_sizes[0]]))
        grad_s, grad_o = grad_z[:, : 3 * hidden].unflatten(1, (3, hidden)), grad_z[:, 3 * hidden :]
        parts = (
            grad_h,
            d,
            y,
            c.unsqueeze(1),
            f,
            minus_second,
            minus_mixed,
            minus_slope,
            o_slope,
            s_slope,
            grad_z,
            grad_s,
            grad_s[:, 0],
            grad_s[:, 2],
            grad_o,
            a,
            q,
        )
        by_step = list(zip(*(part.split(ctx.batch_sizes) for part in parts), strict=True))
        dh, dc = grad_h_last, grad_c_last.contiguous()  # (B, H): of the state after step t
        for t in reversed(ctx.order):
            (
                grad_h_t,
                d_t,
                y_t,
                c_t,
                f_t,
                minus_second_t,
                minus_mixed_t,
                minus_slope_t,
                o_slope_t,
                s_slope_t,
                dz,
                dz_s,
                dz_i,
                dz_g,
                dz_o,
                a_t,
                q_t,
            ) = by_step[t]
            n = ctx.batch_sizes[t]
            dd = first_rows(y_a, n)
            ctx.solver.solve(d_t, ctx.factors[t], first_rows(dc, n), a_t, q_t, dd)  # (7)
            dh_t = grad_h_t + first_rows(dh, n)
            torch.mul(dh_t, o_slope_t, out=dz_o)
            ds = torch.addcmul(a_t, dh_t, s_slope_t)  # (10)
            # minus dL/dd (11), then through d to the gates' inputs (12)
            dd.mul_(c_t).addcmul_(a_t.unsqueeze(1), y_t)
            torch.mul(ds.unsqueeze(1), d_t, out=dz_s)
            dz_s.addcmul_(dd, minus_second_t)
            dd_i, dd_f, dd_g = dd.unbind(1)
            dz_i.addcmul_(dd_g, minus_mixed_t)
            dz_g.addcmul_(dd_i, minus_mixed_t)
            dh = replace_rows(dh, blocks.product(dz, w_hh))  # (13)
            dc = replace_rows(dc, (ds * f_t).addcmul_(dd_f, minus_slope_t))
        # (14): the gates' part and that of G, half of whose epsilon is in p and q already
        grad_z = blocks.spread(grad_z)
        grad_w_ih = grad_z.mT @ blocks.spread(x)
        grad_w_g = grad_w_ih[..., : 3 * hidden, :]
        for left, right in ((a, p), (c, q)):
            outer = blocks.spread((d * left.unsqueeze(1)).flatten(1)).mT @ blocks.spread(right)
            grad_w_g.sub_(outer, alpha=ctx.epsilon**0.5)
        grad_x = blocks.gather(grad_z @ w_ih) if ctx.needs_input_grad[0] else None
        grad_epsilon = -(p * q).sum() / ctx.epsilon if ctx.needs_input_grad[6] else None  # (9)
        grad_w_hh = grad_z.mT @ blocks.spread(h_before)
        return grad_x, dh, dc, grad_w_ih, grad_w_hh, grad_z.sum(-2), grad_epsilon, None, None, None


class Blocks:
    """Products of rows with one weight, or of equal blocks of rows with the weight of each of M models."""

    def __init__(self, weight: Tensor, steps: int):
        self.models, self.steps = weight.shape[0] if weight.dim() == 3 else None, steps

    def spread(self, rows: Tensor) -> Tensor:
        """The rows (N, K) of all steps, by model (M, N / M, K)."""
        if self.models is None:
            return rows
        return rows.view(self.steps, self.models, -1, rows.shape[1]).transpose(0, 1).flatten(1, 2)

    def gather(self, rows: Tensor) -> Tensor:
        """`spread` undone."""
        if self.models is None:
            return rows
        return rows.view(self.models, self.steps, -1, rows.shape[2]).transpose(0, 1).flatten(0, 2)

    def product(self, rows: Tensor, weight: Tensor) -> Tensor:
        """The rows (N, J) of one step times the weight (J, K)."""
        if self.models is None:
            return rows @ weight
        return torch.bmm(rows.view(self.models, -1, rows.shape[1]), weight).flatten(0, 1)

    def add_product(self, added: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        if self.models is None:
            return torch.addmm(added, rows, weight)
        shape = (self.models, -1, rows.shape[1])
        return torch.baddbmm(added.view(*shape[:2], added.shape[1]), rows.view(shape), weight).flatten(0, 1)


def first_rows(state: Tensor, n: int) -> Tensor:
    return state if len(state) == n else state[:n]


def replace_rows(state: Tensor, rows: Tensor) -> Tensor:
    """`state` (B, H) with its first rows replaced."""
    return rows if len(rows) == len(state) else torch.cat([rows, state[len(rows) :]])


# ---- the black box: any cell, by autograd alone ----------------------------------------------------------------------


def blackbox_step(cell: nn.Module, v: Tensor, state: tuple[Tensor, Tensor], epsilon: float | Tensor):
    """A proximal step of any cell: v (B, I) and (h, c) (B, H) to the next (h, c). Slow: H passes back through the cell.

    `cell(v, (h, c))` returns the new h and cell state s, as nn.LSTMCell does; c is s under the proximal map whose G is
    ds/dv of each sample, by autograd. The samples must not act on one another. Differentiable once.
    """
    names, parameters = zip(*cell.named_parameters(), strict=True)

    def function(v: Tensor, h: Tensor, c: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(cell, dict(zip(names, parameters, strict=True)), (v, (h, c)))

    return BlackboxStep.apply(function, epsilon, v, *state, *parameters)


def lstm_cell(v: Tensor, h: Tensor, c: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    return torch.lstm_cell(v, (h, c), *parameters)


class BlackboxStep(torch.autograd.Function):
    """`blackbox_step` for function(v, h, c, *parameters) -> (h, s).

    The derivative through G is that of a scalar (15) made of two directional derivatives of s: no third-order tensor.
    """

    @staticmethod
    def forward(ctx, function: Callable, epsilon, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        h, s, (v, *_) = BlackboxStep.call(function, tensors)
        units = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
        rows = [torch.autograd.grad(s, v, unit.expand_as(s), retain_graph=True)[0] for unit in units]
        G = torch.stack(rows, 1)  # (B, H, I), one row of all samples at a time
        c = solve_dense(epsilon**0.5 * G, s.detach())
        ctx.save_for_backward(*tensors, G, c)
        ctx.function, ctx.epsilon = function, float(epsilon)
        return h.detach(), c

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):
        with torch.autocast(grad_outputs[0].device.type, enabled=False):
            return BlackboxStep.gradients(ctx, *grad_outputs)

    @staticmethod
    def gradients(ctx, grad_h: Tensor, grad_c: Tensor):
        *tensors, G, c = ctx.saved_tensors
        a = solve_dense(ctx.epsilon**0.5 * G, grad_c)  # (7)
        p, q = (c.unsqueeze(1) @ G).squeeze(1), (a.unsqueeze(1) @ G).squeeze(1)
        h, s, leaves = BlackboxStep.call(ctx.function, tensors)
        with torch.enable_grad():
            along_a, along_c = (torch.autograd.grad(s, leaves[0], w, create_graph=True)[0] for w in (a, c))
            through_G = (along_a * p).sum() + (along_c * q).sum()
            scalar = (h * grad_h).sum() + (s * a).sum() - ctx.epsilon * through_G  # (15)
        grad_epsilon = -(p * q).sum() if ctx.needs_input_grad[1] else None  # (9)
        return None, grad_epsilon, *torch.autograd.grad(scalar, leaves)

    @staticmethod
    def call(function: Callable, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            return *function(*leaves), leaves


# ---- modules ---------------------------------------------------------------------------------------------------------


class Proximal:
    """What the cell and the layer share: epsilon, the method, and the run over packed steps."""

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

    def run(self, x: Tensor, batch_sizes: list[int], state: Sequence[Tensor], weights: Sequence[Tensor], reverse=False):
        """h of all steps (N, H) and the last h and c (B, H), for x (N, I) and the state (h, c) before (B, H)."""
        dtype = weights[0].dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"the input must have the type of the weights, {dtype}, not {x.dtype}")
        working = torch.promote_types(dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            x, h, c, w_ih, w_hh, b_ih, b_hh = (tensor.to(working) for tensor in (x, *state, *weights))
            epsilon = self.epsilon if self.log_epsilon is None else self.epsilon.to(working)
            if self.method == "blackbox":
                outputs = run_blackbox(x, batch_sizes, h, c, (w_ih, w_hh, b_ih, b_hh), epsilon, reverse)
            else:
                tolerance = self.tolerance or TOLERANCES[working]
                solver = functools.partial(
                    make_solver, self.method, tolerance=tolerance, max_iterations=self.max_iterations
                )
                bias = b_ih + b_hh
                outputs = ProxLSTMFunction.apply(x, h, c, w_ih, w_hh, bias, epsilon, batch_sizes, reverse, solver)
        return [output.to(dtype) for output in outputs]


def run_blackbox(x, batch_sizes, h, c, weights, epsilon, reverse) -> tuple[Tensor, Tensor, Tensor]:
    """`ProxLSTMFunction` step by step with the black box."""
    steps, outputs = x.split(batch_sizes), [None] * len(batch_sizes)
    for t in range(len(steps))[:: -1 if reverse else 1]:
        n = len(steps[t])
        outputs[t], c_t = BlackboxStep.apply(lstm_cell, epsilon, steps[t], h[:n], c[:n], *weights)
        h, c = replace_rows(h, outputs[t]), replace_rows(c, c_t)
    return torch.cat(outputs), h, c


class ProxLSTMCell(Proximal, nn.LSTMCell):
    """nn.LSTMCell with the cell state under the proximal map: same parameters, start, and arguments of a call.

    s, the new cell state of an LSTM, gives the output h = o tanh(s); the state passed on is c = proximal_map(s, G,
    epsilon) with G = ds/dinput of each sample (1)-(6). `method`: "cholesky" (G and its Gram matrix in memory), "cg"
    (conjugate gradients to a relative residual of `tolerance`, 3e-4 in float32 and 1e-12 in float64 if not given, and
    a RuntimeWarning if `max_iterations` are not enough), "blackbox" (by autograd, slow), "auto" (cholesky if H or I is
    at most 16, else cg, as measured by benchmarks/bench_prox_lstm.py). `learnable` makes log(epsilon) a parameter.
    Differentiable once. With epsilon = 0 it is nn.LSTMCell.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        epsilon: float = 1.0,
        method: str = "auto",
        *,
        learnable: bool = False,
        tolerance: float | None = None,
        max_iterations: int = 1000,
        device=None,
        dtype=None,
    ):
        super().__init__(input_size, hidden_size, device=device, dtype=dtype)
        self.set_proximal(epsilon, method, learnable, tolerance, max_iterations)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | Tensor | None = None, c: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(h, c) (B, H) for the input (B, I) and hx = (h, c) before, zeros if not given; or all of them without B.

        The call cell(v, h, c) with the three tensors one after another is accepted, too.
        """
        if isinstance(hx, Tensor) != isinstance(c, Tensor):
            raise ValueError("expected cell(v, (h, c)) or cell(v, h, c), with both states, or cell(v) for zeros")
        hx = hx if c is None else (hx, c)
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(f"input must be (B, {self.input_size}) or ({self.input_size},), not {tuple(input.shape)}")
        expected = (*input.shape[:-1], self.hidden_size)
        check_state(hx, expected)
        if self.is_plain:
            return super().forward(input, hx)
        state = hx or (input.new_zeros(expected),) * 2
        x, h, c = (tensor.view(-1, tensor.shape[-1]) for tensor in (input, *state))
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        _, h, c = self.run(x, [len(x)], (h, c), weights)
        return h.view(expected), c.view(expected)


class ProxLSTM(Proximal, nn.LSTM):
    """nn.LSTM, one layer, with `ProxLSTMCell` as its cell: same parameters, start, and arguments of a call.

    Padded input (T, B, I), (B, T, I) with `batch_first`, or a PackedSequence, in which no padded step exists.
    Returns (output, (h, c)) as nn.LSTM does. The other arguments are `ProxLSTMCell`'s.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        epsilon: float = 1.0,
        method: str = "auto",
        batch_first: bool = False,
        bidirectional: bool = False,
        *,
        learnable: bool = False,
        tolerance: float | None = None,
        max_iterations: int = 1000,
        device=None,
        dtype=None,
    ):
        options = {"batch_first": batch_first, "bidirectional": bidirectional, "device": device, "dtype": dtype}
        super().__init__(input_size, hidden_size, **options)
        self.set_proximal(epsilon, method, learnable, tolerance, max_iterations)

    def forward(self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None):
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        if data.dim() != (2 if packed else 3) or data.shape[-1] != self.input_size or not data.numel():
            form = f"(B, T, {self.input_size})" if self.batch_first else f"(T, B, {self.input_size})"
            found = f"data of {tuple(data.shape)} in a PackedSequence" if packed else tuple(data.shape)
            raise ValueError(f"input must be {form} or a PackedSequence of such steps, not {found}")
        if packed:
            batch_sizes = input.batch_sizes.tolist()
        else:
            by_time = input.transpose(0, 1) if self.batch_first else input
            batch_sizes, data = [by_time.shape[1]] * len(by_time), by_time.reshape(-1, self.input_size)
        directions = 1 + self.bidirectional
        expected = (directions, batch_sizes[0], self.hidden_size)
        check_state(hx, expected)
        if self.is_plain:
            return super().forward(input, hx)
        state = hx or (data.new_zeros(expected),) * 2
        if packed and hx and input.sorted_indices is not None:
            state = [part[:, input.sorted_indices] for part in state]
        layers = [
            self.run(data, batch_sizes, [part[k] for part in state], self.all_weights[k], reverse=bool(k))
            for k in range(directions)
        ]
        outputs, h, c = zip(*layers, strict=True)
        output, h, c = torch.cat(outputs, -1), torch.stack(h), torch.stack(c)
        if not packed:
            output = output.view(*by_time.shape[:2], -1)
            return output.transpose(0, 1) if self.batch_first else output, (h, c)
        if input.unsorted_indices is not None:
            h, c = h[:, input.unsorted_indices], c[:, input.unsorted_indices]
        return PackedSequence(output, input.batch_sizes, input.sorted_indices, input.unsorted_indices), (h, c)


def check_state(state: tuple[Tensor, Tensor] | None, expected: tuple[int, ...]) -> None:
    if state is not None and (len(state) != 2 or any(part.shape != expected for part in state)):
        raise ValueError(f"h and c must be {expected}, not {' and '.join(str(tuple(part.shape)) for part in state)}")
