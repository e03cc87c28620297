"""A small convolutional network, the opponent of LSTMs that read images."""

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Two convolutions of 3 x 3 with ReLU and maximum pooling, then two linear layers.

    Images (B, 28, 28) give logits (B, K).

    Args:
        classes: K. channels: maps of the first convolution, twice as many in the second. hidden_size: units between the
            linear layers. dropout: rate before the last layer.
    """

    def __init__(self, classes: int = 10, channels: int = 32, hidden_size: int = 128, dropout: float = 0.4):
        super().__init__()
        self.arguments = {"classes": classes, "channels": channels, "hidden_size": hidden_size, "dropout": dropout}
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
