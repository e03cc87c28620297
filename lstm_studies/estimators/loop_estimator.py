"""What the estimators of scikit-learn's kind share: sequences as input, a training by the one loop, labels, files."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lstm_studies.models.series_autoencoder import check_offsets
from lstm_studies.training import checkpoint, loop
from lstm_studies.training.settings import Training


class LoopEstimator(BaseEstimator):
    """An estimator with a torch module `model_`, of the class MODEL, and `history_`, a dictionary per epoch.

    Its parameters include updates, batch_size, learning_rate, seed, device and verbose.
    """

    MODEL: type[nn.Module]

    def train(self, model: nn.Module, step: loop.Step, training, validation, weight_decay: float = 0.0, **options):
        """Trains `model`, which is then `model_`; options are those of `loop.train`. Raises FloatingPointError."""
        if self.updates < 1 or self.batch_size < 1:
            raise ValueError(f"updates and batch_size must be at least 1, not {self.updates} and {self.batch_size}")
        self.history_ = []
        settings = Training(
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer="AdamW" if weight_decay else "Adam",
            weight_decay=weight_decay,
            seed=self.seed,
            device=self.device,
            quiet=True,
        )
        try:
            loop.train(model, step, training, validation, settings, after_epoch=self.after_epoch, **options)
        except loop.Diverged as error:
            raise FloatingPointError(str(error)) from None
        self.model_ = model

    def after_epoch(self, row: dict[str, float]) -> bool:
        self.history_.append(row)
        if self.verbose:
            print("  ".join(f"{name} {value:.5g}" for name, value in row.items()), flush=True)
        return False

    @torch.no_grad()
    def in_batches(self, function: Callable[..., Tensor], *tensors: Tensor) -> np.ndarray:
        """`function` of tensors (N, ...), 500 rows at a time."""
        batches: Iterator = zip(*(tensor.split(500) for tensor in tensors), strict=True)
        return torch.cat([function(*(rows.to(self.device) for rows in batch)).cpu() for batch in batches]).numpy()

    # ---- files

    def save(self, path: Path | str) -> None:
        """Writes parameters, weights, scaling and whatever else `fit` has learnt to a file, whole or not at all."""
        check_is_fitted(self, "model_")
        content = {"model": checkpoint.describe(self.model_), "parameters": self.get_params(), **self.learnt()}
        checkpoint.save(Path(path), content)

    @classmethod
    def load(cls, path: Path | str) -> "LoopEstimator":
        """The estimator that `save` left. Raises checkpoint.CheckpointError."""
        model, saved = checkpoint.rebuild(Path(path), cls.MODEL), checkpoint.load(Path(path))
        parameters = saved.get("parameters")
        if not isinstance(parameters, dict) or not parameters.keys() <= cls().get_params().keys():
            raise checkpoint.CheckpointError(f"{path}: expected a {cls.__name__}, found another file")
        estimator = cls(**parameters)
        estimator.model_, estimator.history_ = model.to(estimator.device), []
        estimator.set_learnt(saved)
        return estimator

    def learnt(self) -> dict:
        """What a file holds beside parameters and model."""
        return {}

    def set_learnt(self, saved: dict) -> None:
        """Sets what `fit` has learnt beside the model, from the content of a file."""


class LoopClassifier(ClassifierMixin, LoopEstimator):
    """A classifier with labels of any kind; `classes_` are the sorted ones. Subclasses have `predict_proba`."""

    def places(self, y, count: int) -> Tensor:
        """The place (N,) in `classes_` of each label of y (N,), one per sample. Sets `classes_`. Raises ValueError."""
        labels = column_or_1d(np.asarray(y), warn=True)
        check_classification_targets(labels)
        if len(labels) != count:
            raise ValueError(f"y must be ({count},), one label per sample, not ({len(labels)},)")
        self.classes_, places = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least two classes, not one class, {self.classes_.tolist()[0]!r}")
        return torch.from_numpy(places)

    def predict(self, X) -> np.ndarray:
        """The likeliest class of each sample, (N,)."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]

    def learnt(self) -> dict:
        return {"classes": self.classes_.tolist(), "dtype": str(self.classes_.dtype)}

    def set_learnt(self, saved: dict) -> None:
        self.classes_ = np.array(saved["classes"], saved["dtype"])


def training_count(count: int, validation_share: float) -> int:
    """How many of `count` samples train if a share of them validates. Raises ValueError."""
    if not 0 <= validation_share < 1:
        raise ValueError(f"validation_share must be from 0 to below 1, not {validation_share}")
    training = count - round(validation_share * count)
    if training < 1:
        raise ValueError(f"X must hold more samples than {count} for a validation share of {validation_share}")
    return training


# ---- input -----------------------------------------------------------------------------------------------------------


def as_sequences(X, channels_first: bool = False, fitting: bool = False) -> list[np.ndarray]:
    """Sequences (T_i, I) in float32 of an array (N, T, I) or (N, T), or of a list of (T_i, I) or (T_i,).

    channels_first: they are (N, I, T) and (I, T_i) instead, as in aeon. fitting: values are refused whose offset is so
    large that float32 does not resolve their differences.
    Raises ValueError.
    """
    several = list(X) if isinstance(X, list | tuple) else list(real_array(X))
    sequences = [real_array(one) for one in several]
    sequences = [one[:, None] if one.ndim == 1 else one.T if channels_first else one for one in sequences]
    shapes = {one.shape[1:] for one in sequences}
    if len(shapes) != 1 or len(*shapes) != 1 or not all(one.size for one in sequences):
        form = "(N, I, T) or a list of (I, T_i)" if channels_first else "(N, T, I) or a list of (T_i, I)"
        raise ValueError(f"X must be {form} of at least one step and the same I, not of shape {np.shape(several[:1])}")
    if fitting:
        check_offsets(np.min([one.min(0) for one in sequences], 0), np.max([one.max(0) for one in sequences], 0))
    sequences = [one.astype(np.float32, copy=False) for one in sequences]
    if not all(np.isfinite(one).all() for one in sequences):
        raise ValueError("X must be finite; fill in or leave out missing values (NaN, infinity) first")
    return sequences


def real_array(X) -> np.ndarray:
    """X as float32 if it is that, else as float64. Raises ValueError for sparse matrices and complex numbers."""
    if hasattr(X, "toarray") or np.iscomplexobj(X := np.asarray(X)):
        raise ValueError("X must be dense and real: Sparse data and Complex data not supported")
    return X if X.dtype == np.float32 else X.astype(np.float64, copy=False)


def padded(sequences: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """x (N, T, I), padded with zeros, and lengths (N,)."""
    tensors = [torch.from_numpy(np.ascontiguousarray(one)) for one in sequences]
    return pad_sequence(tensors, batch_first=True), torch.tensor([len(one) for one in tensors])
