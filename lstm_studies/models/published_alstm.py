"""The weights of the published ALSTM, trained with TensorFlow 1, as those of an AttentiveLSTM."""

from collections.abc import Mapping

import torch
from torch import Tensor


def convert_published(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an AttentiveLSTM from the variables of the published graph, by their names (without ":0").

    in_fc/kernel (I, I), bias                   mapping.weight = kernel^T, mapping.bias
    rnn/basic_lstm_cell/kernel (I + U, 4 U)     its first I rows are lstm.weight_ih_l0^T, the others weight_hh_l0^T;
                                                its gates are i, j, f, o (j: the new values), here i, f, j, o
    rnn/basic_lstm_cell/bias (4 U)              lstm.bias_ih_l0, plus 1 for f, which that cell adds at every step
    lstm_att/att_W (U, U), att_h (U), att_u (U) attention_layer.weight = W^T, attention_layer.bias, attention_vector
    lstm_att/pre_fc/weights (2 U, 1), biases    head.weight = weights^T, head.bias

    The graph is that of TensorFlow 1 in github.com/fulifeng/Adv-ALSTM, pred_lstm.py.
    """
    kernel, bias = variables["rnn/basic_lstm_cell/kernel"], variables["rnn/basic_lstm_cell/bias"]
    features, units = len(variables["in_fc/bias"]), len(bias) // 4
    i, j, f, o = bias.split(units)
    order = torch.arange(4 * units).view(4, units)[[0, 2, 1, 3]].flatten()  # i, j, f, o to i, f, j, o
    state = {
        "mapping.weight": variables["in_fc/kernel"].T,
        "mapping.bias": variables["in_fc/bias"],
        "lstm.weight_ih_l0": kernel[:features].T[order],
        "lstm.weight_hh_l0": kernel[features:].T[order],
        "lstm.bias_ih_l0": torch.cat([i, f + 1, j, o]),
        "lstm.bias_hh_l0": torch.zeros_like(bias),
        "head.weight": variables["lstm_att/pre_fc/weights"].T,
        "head.bias": variables["lstm_att/pre_fc/biases"],
        "attention_layer.weight": variables["lstm_att/att_W"].T,
        "attention_layer.bias": variables["lstm_att/att_h"],
        "attention_vector": variables["lstm_att/att_u"],
    }
    return {name: value.contiguous() for name, value in state.items()}
