"""An LSTM of one layer for batches of many short sequences, such as the last days of a stock."""

import torch
from torch import Tensor, nn

from lstm_studies.models.recording import is_transformed
from lstm_studies.models.recurrence import run_lstm

FEW_UNITS = 8  # up to here elementary operations are faster on a processor than the kernel of nn.LSTM


class SamplesLastLSTM(nn.LSTM):
    """nn.LSTM of one layer, from inputs (I, T, B) to hidden states (U, T, B): all samples of a unit lie side by side.

    It has the weights, the names and, up to rounding, the results of nn.LSTM, and starts from zero states. With as few
    units as the models of stock movement have, the kernel of nn.LSTM works on vectors of U numbers, these operations on
    vectors of B. With more units, or elsewhere than on a processor, the kernel of nn.LSTM runs; where neither can
    (`run_lstm`), recorded operations.

    Args:
        input_size: I. hidden_size: U.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        if is_transformed(x):
            zeros = x.new_zeros(1, x.shape[2], self.hidden_size)
            return run_lstm(self, x.permute(2, 1, 0), (zeros, zeros))[0].permute(2, 1, 0)
        if self.hidden_size > FEW_UNITS or x.device.type != "cpu":
            return super().forward(x.permute(1, 2, 0))[0].permute(2, 0, 1).contiguous()
        bias = (self.bias_ih_l0 + self.bias_hh_l0).unsqueeze(1)
        inputs = torch.addmm(bias, self.weight_ih_l0, x.flatten(1)).unflatten(1, x.shape[1:])  # (4 U, T, B)
        states: list[Tensor] = []
        cell = torch.zeros(())
        for gates in inputs.unbind(1):
            if states:
                gates = torch.addmm(gates, self.weight_hh_l0, states[-1])
            i, f, g, o = gates.chunk(4)
            new = torch.sigmoid(i) * torch.tanh(g)
            cell = torch.addcmul(new, torch.sigmoid(f), cell) if states else new
            states.append(torch.sigmoid(o) * torch.tanh(cell))
        return torch.stack(states, 1)
