"""An LSTM autoencoder whose forecast begins with a line: what it predicts is the line's residual.

Letters: B batch, T time steps, I input size, K inputs of the line.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstm_studies.models.lstm_ae import AutoencoderOutput, LSTMAutoencoder

# a day, a week, a month, as in Corsi 2009, "A simple approximate long-memory model of realized volatility"
SPANS = (1, 5, 20)


def span_means(x: Tensor, spans: Sequence[int]) -> Tensor:
    """Means of x (B, T, I) over its last 1, 5, ... steps, those of `spans`: (B, I * len(spans))."""
    return torch.cat([x[:, -span:].mean(1) for span in spans], 1)


class LineAutoencoder(LSTMAutoencoder):
    """Its prediction of the step after the last one is w m + b + what an `LSTMAutoencoder` predicts, where m are the
    `span_means` of x - 1/2. Earlier steps are predicted without the line. w and b are 0 until `set_line`, and no
    training changes them: what the LSTM learns is the line's residual.

    Args:
        input_size: I, values per step that the LSTMs read and write, the first ones of x (B, T, line_size).
        line_size: values per step that the line reads, I or more.
        spans: steps that each mean is over, counted from the last one.
        others: as of `LSTMAutoencoder`, but for `prediction_size`, which is 1.
    """

    weights: Tensor  # (K,), w
    intercept: Tensor  # (), b

    def __init__(self, input_size: int, *args, line_size: int, spans: Sequence[int] = SPANS, **others: Any):
        super().__init__(input_size, *args, **others | {"prediction_size": 1})
        self.arguments |= {"line_size": line_size, "spans": list(spans)}
        self.register_buffer("weights", torch.zeros(line_size * len(spans)))
        self.register_buffer("intercept", torch.zeros(()))

    def set_line(self, weights: Tensor, intercept: float) -> None:
        """w (K,) and b."""
        self.weights.copy_(weights)
        self.intercept.fill_(intercept)

    def forward(self, x: Tensor, lengths: Sequence[int] | Tensor | None = None) -> AutoencoderOutput:
        """As `LSTMAutoencoder.forward`. Raises ValueError for `lengths`: the line reads the last steps of x."""
        if lengths is not None:
            raise ValueError("the line reads the last steps of sequences of one length; lengths must be None")
        output = super().forward(x[..., : self.arguments["input_size"]])
        line = span_means(x - 0.5, self.arguments["spans"]) @ self.weights + self.intercept  # (B,)
        last = output.prediction[:, -1:] + line[:, None, None]
        return output._replace(prediction=torch.cat([output.prediction[:, :-1], last], 1))
