"""Recurrences by recorded operations: steps, directions and layers, as nn.LSTM has them, in a loop that exports."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from lstm_studies.models.recording import is_transformed


def lstm_step(v: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]):
    """One step of an LSTM: v (B, I) and (h, c) before to h (B, P), the new cell state and the gates i, f, g (B, H).

    weights: W_ih (4H, I), W_hh (4H, P), the two biases (4H,) and the projection (P, H) of h, as far as there are any.
    """
    (h, c), (w_ih, w_hh, *others) = state, weights
    projection = others.pop() if len(others) % 2 else None
    z = linear(v, w_ih) + linear(h, w_hh)  # (B, 4H)
    i, f, g, o = sum(others, z).chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    h = o * c.tanh()
    return (h if projection is None else linear(h, projection)), c, (i, f, g)


def next_state(v: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """h and c after the step of an LSTM that reads v (B, I); arguments as of `lstm_step`."""
    return lstm_step(v, state, weights)[:2]


def run_steps(
    step: Callable[..., tuple[Tensor, Tensor]],
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """h of all steps (T, ...) and the last h and c, for (h, c) = step(*inputs of one step, (h, c), weights).

    The inputs are (T, ...). An exported program has a loop over T, which stays a variable; `step` must use no other
    tensors than those it is given. In an ONNX file nothing has a gradient. Raises RuntimeError in the legacy exporter
    of ONNX, whose file would be for this T only.
    """
    if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "expected the default exporter of ONNX, torch.onnx.export(..., dynamo=True), found the legacy"
        )
    inputs = [x.flip(0) for x in inputs] if reverse else inputs
    if torch.compiler.is_exporting() and inputs[0].shape[0] > 1:
        from torch._higher_order_ops.scan import scan

        if torch.onnx.is_in_onnx_export():
            inputs, state, weights = ([x.detach() for x in tensors] for tensors in (inputs, state, weights))

        def combine(state: list[Tensor], inputs_t: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            h, c = step(*inputs_t, state, weights)
            return [h, c], h.clone()

        # clones, because a tensor that is a view of another one is another case to PyTorch's tracer
        state, outputs = scan(combine, [x.clone() for x in state], [x.clone() for x in inputs])
    else:
        hidden = []
        for inputs_t in zip(*(x.unbind(0) for x in inputs), strict=True):
            state = step(*inputs_t, state, weights)
            hidden.append(state[0])
        outputs = torch.stack(hidden)
    return (outputs.flip(0) if reverse else outputs), *state


def run_layers(
    lstm: nn.LSTM, run: Callable[..., Sequence[Tensor]], x: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (T, B, D P) and the last h and c (layers D, B, ...) of all layers and D directions of `lstm`.

    `run(x, (h, c), weights, reverse)` gives h of all steps and the last h and c of one direction. x is (T, B, I), or
    (N, I) if `run` takes packed sequences.
    """
    all_weights, directions, ends = lstm.all_weights, 1 + lstm.bidirectional, []
    for layer in range(lstm.num_layers):
        outputs = []
        for k in range(layer * directions, (layer + 1) * directions):
            output, *end = run(x, (state[0][k], state[1][k]), all_weights[k], reverse=k % directions == 1)
            outputs.append(output)
            ends.append(end)
        x = torch.cat(outputs, -1)
        if layer < lstm.num_layers - 1:
            x = dropout(x, lstm.dropout, lstm.training)
    return x, *(torch.stack(parts) for parts in zip(*ends, strict=True))


def run_lstm(lstm: nn.LSTM, x: Tensor, state: tuple[Tensor, Tensor] | None = None):
    """`lstm(x, state)` for x (B, T, I), also where nn.LSTM fails (`torch.func.vmap`) or fixes T (exported programs)."""
    if not is_transformed(x):
        return lstm(x) if state is None else lstm(x, state)

    def run(x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], reverse: bool) -> Sequence[Tensor]:
        return run_steps(next_state, [x], state, weights, reverse)

    sizes = lstm.get_expected_hidden_size(x, None), lstm.get_expected_cell_size(x, None)
    state = tuple(x.new_zeros(size) for size in sizes) if state is None else state
    output, h, c = run_layers(lstm, run, x.transpose(0, 1), state)
    return output.transpose(0, 1), (h, c)
