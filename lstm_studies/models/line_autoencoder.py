"""An LSTM autoencoder whose forecast begins with a line: what it predicts is the line's residual.

Letters: B batch, T time steps, I input size, K inputs of the line.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstm_studies.models.lstm_ae import AutoencoderOutput, LSTMAutoencoder

# a day, a week, a month, as in Corsi 2009, "A simple approximate long-memory model of realized volatility"
SPANS = (1, 5, 20)


def span_means(x: Tensor, spans: Sequence[int]) -> Tensor:
    """Means of x (B, T, I) over its last 1, 5, ... steps, those of `spans`: (B, I * len(spans)).

    Over the spans 1, 2, ..., n they are as good to a line as the last n steps themselves.
    """
    return torch.cat([x[:, -span:].mean(1) for span in spans], 1)


class LineAutoencoder(LSTMAutoencoder):
    """Its prediction of the step after the last one is w m + b + what an `LSTMAutoencoder` predicts, where m are the
    `span_means` of x - 1/2. Earlier steps are predicted without the line. w and b are 0 until `set_line`.

    Args:
        spans: steps that each mean is over, counted from the last one.
        others: as of `LSTMAutoencoder`, but for `prediction_size`, which is 1.
    """

    def __init__(self, *args, spans: Sequence[int] = SPANS, **others: Any):
        super().__init__(*args, **others | {"prediction_size": 1})
        self.arguments |= {"spans": list(spans)}
        self.line = nn.Linear(self.encoder.input_size * len(spans), 1)
        self.set_line(torch.zeros_like(self.line.weight[0]), 0.0)

    @torch.no_grad()
    def set_line(self, weights: Tensor, intercept: float) -> None:
        """w (K,) and b."""
        self.line.weight.copy_(weights)
        self.line.bias.fill_(intercept)

    def forward(self, x: Tensor, lengths: Sequence[int] | Tensor | None = None) -> AutoencoderOutput:
        """As `LSTMAutoencoder.forward`. Raises ValueError for `lengths`: the line reads the last steps of x."""
        if lengths is not None:
            raise ValueError("the line reads the last steps of sequences of one length; lengths must be None")
        output = super().forward(x)
        last = output.prediction[:, -1:] + self.line(span_means(x - 0.5, self.arguments["spans"])).unsqueeze(1)
        return output._replace(prediction=torch.cat([output.prediction[:, :-1], last], 1))
