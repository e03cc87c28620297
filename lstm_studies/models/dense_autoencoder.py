"""An autoencoder without recurrence, an opponent of the LSTM autoencoders: it reads a whole sequence at once."""

from itertools import pairwise

from torch import Tensor, nn

from lstm_studies.models.lstm_ae import AutoencoderOutput


class DenseAutoencoder(nn.Module):
    """values - H - H - Z - H - H - values units in linear layers, with GELU in the hidden ones.

    Args:
        values: of a sequence, T * I.
        hidden_size: H.
        code_size: Z.
    """

    def __init__(self, values: int, hidden_size: int, code_size: int):
        super().__init__()
        self.arguments = {"values": values, "hidden_size": hidden_size, "code_size": code_size}
        self.code_size = code_size
        self.encoder = dense(values, hidden_size, hidden_size, code_size)
        self.decoder = dense(code_size, hidden_size, hidden_size, values)

    def forward(self, x: Tensor) -> AutoencoderOutput:
        """Sequences x (B, T, I), which lie around 1/2."""
        code = self.encoder(4 * (x.flatten(1) - 0.5))
        return AutoencoderOutput(0.5 + self.decoder(code).view_as(x), code, None, None)


def dense(*sizes: int) -> nn.Sequential:
    """Linear layers from each size to the next, with GELU between them."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.GELU())]
    return nn.Sequential(*layers[:-1])
