"""The weights of the published ALSTM, trained with TensorFlow 1, as those of an AttentiveLSTM."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Names of the published graph's variables (TensorFlow 1, github.com/fulifeng/Adv-ALSTM, pred_lstm.py).
PUBLISHED_HEAD = ("lstm_att/pre_fc/weights", "lstm_att/pre_fc/biases")
PUBLISHED_PLAIN_HEAD = ("lstm_att/pre_fc/kernel", "lstm_att/pre_fc/bias")  # without attention
PUBLISHED_LSTM = ("rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias")


def convert_published(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an AttentiveLSTM from the variables of the published graph, by their names (without ":0").

    in_fc/kernel (I, I), bias                   mapping.weight = kernel^T, mapping.bias
    rnn/basic_lstm_cell/kernel (I + U, 4 U)     its first I rows are lstm.weight_ih_l0^T, the others weight_hh_l0^T;
                                                its gates are i, j, f, o (j: the new values), here i, f, j, o
    rnn/basic_lstm_cell/bias (4 U)              lstm.bias_ih_l0, plus 1 for f, which that cell adds at every step
    lstm_att/att_W (U, U), att_h (U), att_u (U) attention_layer.weight = W^T, attention_layer.bias, attention_vector
    lstm_att/pre_fc/weights (2 U, 1), biases    head.weight = weights^T, head.bias

    Without attention the head's variables are lstm_att/pre_fc/kernel (U, 1) and bias. Raises ValueError for one that
    is missing.
    """
    attention = PUBLISHED_HEAD[0] in variables
    names = ["in_fc/kernel", "in_fc/bias", *PUBLISHED_LSTM, *(PUBLISHED_HEAD if attention else PUBLISHED_PLAIN_HEAD)]
    names += [f"lstm_att/{name}" for name in ("att_W", "att_h", "att_u")] if attention else []
    missing = [name for name in names if name not in variables]
    if missing:
        raise ValueError(f"expected the published variables {', '.join(names)}; {', '.join(missing)} not found")
    mapping, mapping_bias, kernel, bias, head, head_bias, *rest = (torch.as_tensor(variables[n]) for n in names)
    features, units = len(mapping), len(bias) // 4
    i, j, f, o = bias.split(units)
    order = torch.arange(4 * units).view(4, units)[[0, 2, 1, 3]].flatten()  # i, j, f, o to i, f, j, o
    state = {
        "mapping.weight": mapping.T,
        "mapping.bias": mapping_bias,
        "lstm.weight_ih_l0": kernel[:features].T[order],
        "lstm.weight_hh_l0": kernel[features:].T[order],
        "lstm.bias_ih_l0": torch.cat([i, f + 1, j, o]),
        "lstm.bias_hh_l0": torch.zeros_like(bias),
        "head.weight": head.T,
        "head.bias": head_bias,
    }
    if attention:
        state |= {"attention_layer.weight": rest[0].T, "attention_layer.bias": rest[1], "attention_vector": rest[2]}
    return {name: value.contiguous() for name, value in state.items()}
