"""What an estimator's `fit` shares with that of Keras: its history, its callbacks and the checks of its arguments."""

from collections.abc import Callable, Mapping

from torch import nn


class History:
    """What `fit` returns, as in Keras: `epoch`, the numbers of the epochs from 0, and `history`, a list per metric."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def add(self, row: Mapping[str, float]) -> None:
        self.epoch.append(len(self.epoch))
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def rows(self) -> list[dict[str, float]]:
        """One dictionary per epoch, with its number from 1."""
        return [
            {"epoch": epoch + 1, **{name: values[epoch] for name, values in self.history.items()}}
            for epoch in self.epoch
        ]


def epoch_end(callback, model: nn.Module) -> Callable[[int, dict[str, float]], object]:
    """What is called after each epoch for a callback of `fit`. Raises ValueError for what is none."""
    if hasattr(callback, "set_model"):
        callback.set_model(model)
    function = getattr(callback, "on_epoch_end", callback)
    if not callable(function):
        raise ValueError(f"callbacks must be functions f(epoch, logs) or have on_epoch_end, unlike {callback!r}")
    return function


def check_training(epochs: int, batch_size: int, validation_split: float, has_validation: bool) -> None:
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch_size must be at least 1, not {epochs} and {batch_size}")
    if not 0 <= validation_split < 1:
        raise ValueError(f"validation_split must be a share from 0 to below 1, not {validation_split}")
    if validation_split and has_validation:
        raise ValueError("validation_split and validation_data cannot both be given")


def check_split(count: int, share: float) -> int:
    """How many of `count` samples train if the last `share` of them validate."""
    first = int(count * (1 - share))
    if not 0 < first < count:
        raise ValueError(f"validation_split {share} of {count} samples leaves one of the parts empty")
    return first
