"""What an estimator's `fit` shares with that of Keras: its history, its callbacks and the checks of its arguments."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace

from torch import nn


class History:
    """What `fit` returns, as in Keras: `epoch`, the numbers of the epochs from 0, `history`, a list per metric, and
    `params`, the numbers of epochs and of steps in each."""

    def __init__(self, params: Mapping[str, int]) -> None:
        self.params = dict(params)
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def add(self, row: Mapping[str, float]) -> None:
        self.epoch.append(len(self.epoch))
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)


HOOKS = ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end")  # that are called


class Callbacks:
    """The callbacks of a `fit`. Raises ValueError for what is none, and for hooks that would never be called."""

    def __init__(self, callbacks: Iterable, model: nn.Module, params: Mapping[str, int]):
        self.callbacks = []
        for callback in callbacks:
            hooks = own_hooks(callback)
            if not hooks and callable(callback):
                callback, hooks = SimpleNamespace(on_epoch_end=callback), {"on_epoch_end"}
            if not hooks or hooks - set(HOOKS):
                given = ", ".join(sorted(hooks - set(HOOKS))) or repr(callback)
                raise ValueError(f"callbacks must be functions f(epoch, logs) or have {', '.join(HOOKS)}, not {given}")
            for name, value in (("set_model", model), ("set_params", params)):
                getattr(callback, name, lambda _: None)(value)
            self.callbacks.append(callback)

    def tell(self, hook: str, *arguments) -> None:
        for callback in self.callbacks:
            getattr(callback, hook, lambda *_: None)(*arguments)


def own_hooks(callback) -> set[str]:
    """The methods on_... of a callback, but for those that do nothing in the class Callback of Keras."""
    base = next((kind for kind in type(callback).__mro__ if kind.__name__ == "Callback"), None)
    names = {name for name in dir(callback) if name.startswith("on_") and callable(getattr(callback, name))}
    return {name for name in names if getattr(type(callback), name, callback) is not getattr(base, name, None)}


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
