"""Opponents of the LSTM models: an autoencoder without recurrence, and a small convolutional network."""

from itertools import pairwise

from torch import Tensor, nn

from lstm_studies.models.arguments import constructor_arguments
from lstm_studies.models.lstm_ae import AutoencoderOutput


class DenseAutoencoder(nn.Module):
    """An autoencoder without recurrence, which reads a whole sequence at once.

    values - H - H - Z - H - H - values units in linear layers, with GELU in the hidden ones.

    Args:
        values: of a sequence, T * I.
        hidden_size: H.
        code_size: Z.
    """

    def __init__(self, values: int, hidden_size: int, code_size: int):
        super().__init__()
        self.arguments = constructor_arguments(locals())
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


class SmallCNN(nn.Module):
    """A small convolutional network: two convolutions of 3 x 3 with ReLU and maximum pooling, then two linear layers.

    Images (B, 28, 28) give logits (B, K).

    Args:
        classes: K. channels: maps of the first convolution, twice as many in the second. hidden_size: units between the
            linear layers. dropout: rate before the last layer.
    """

    def __init__(self, classes: int = 10, channels: int = 32, hidden_size: int = 128, dropout: float = 0.4):
        super().__init__()
        self.arguments = constructor_arguments(locals())
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * 7 * 7, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        if images.dim() != 3 or images.shape[1:] != (28, 28):
            raise ValueError(f"images must be (B, 28, 28), not {tuple(images.shape)}")
        return self.layers(images.unsqueeze(1))
