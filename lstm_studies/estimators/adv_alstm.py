"""AdvALSTM: the attentive LSTM with the methods of Keras and of scikit-learn, trained by the loop of the studies.

Letters in shapes: N samples, T time steps, I features.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lstm_studies.estimators.history import Callbacks, History, check_split, check_training
from lstm_studies.evaluation import movement_scores
from lstm_studies.models.attentive_lstm import AttentiveLSTM
from lstm_studies.training import checkpoint, loop
from lstm_studies.training.settings import Training


class AdvALSTM(AttentiveLSTM):
    """The attentive LSTM (see there for the model, its loss and its arguments) with fit, predict, evaluate and files.

    It is a classifier of scikit-learn, too: clone, Pipeline, GridSearchCV; fit's own arguments are given to their fit.
    `history` and `best_epoch` are of the last `fit`; a callback that sets `stop_training` ends it.
    """

    classes_ = np.array([0, 1])
    history: History
    best_epoch = 0
    stop_training = False

    def fit(
        self,
        X,
        y,
        validation_data: tuple | None = None,
        epochs: int = 150,
        batch_size: int = 1024,
        seed: int = 0,
        *,
        validation_split: float = 0.0,
        callbacks: Iterable = (),
        verbose: int = 1,
        shuffle: bool = True,
    ) -> History:
        """Trains with Adam and keeps the epoch of the best validation accuracy (the last one without validation data).

        A model that has weights goes on from them; `history` gets the returned object and `best_epoch` the number, from
        1, of the epoch whose weights are kept. The generators of PyTorch are left as they were.

        Args:
            X: (N, T, I), an array or tensor of finite numbers. y: (N,) or (N, 1), 0 or 1, with the hinge loss too.
            validation_data: (X, y) of the same kind.
            validation_split: share of the samples, the last ones, that validate instead of training.
            callbacks: functions f(epoch, logs), called after each epoch, epoch from 0, or objects with the hooks
                on_train_begin, on_epoch_begin, on_epoch_end and on_train_end of Keras, which may have `set_model` and
                `set_params`; other hooks are refused. What they add to `logs` is in the history; one that sets
                `model.stop_training` ends the training.
            verbose: 0 prints nothing, else a line per epoch.
            shuffle: False keeps the order of the samples.

        Raises:
            ValueError: shapes, labels, values or arguments are not as said.
            FloatingPointError: the loss is not finite.
        """
        x, y = check_samples(X, y, self.features)
        if validation_data is not None and len(validation_data) != 2:
            raise ValueError(f"validation_data must be (X, y), not {len(validation_data)} values")
        validation = None if validation_data is None else check_samples(*validation_data, x.shape[2])
        check_training(epochs, batch_size, validation_split, validation is not None)
        if validation_split:
            first = check_split(len(x), validation_split)
            x, y, validation = x[:first], y[:first], (x[first:], y[first:])
        params = {"epochs": epochs, "steps": math.ceil(len(x) / batch_size), "verbose": verbose}
        told = Callbacks(callbacks, self, params)
        self.history, self.stop_training = History(params), False

        def batches(size: int, batch_size: int, generator: torch.Generator) -> Iterable[Tensor]:
            told.tell("on_epoch_begin", len(self.history.epoch), {})
            order = loop.random_batches if shuffle else in_order
            return order(size, batch_size, generator)

        def after_epoch(row: Mapping[str, float]) -> bool:
            logs = {name.removeprefix("train_"): value for name, value in row.items() if name.startswith("train_")}
            if validation:  # of the unperturbed samples, as in `evaluate`
                logs |= {"val_loss": row["val_clean"], "val_accuracy": row["val_accuracy"]}
            told.tell("on_epoch_end", row["epoch"] - 1, logs)
            self.history.add(logs)
            if verbose:
                numbers = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
                print(f"epoch {row['epoch']}/{epochs}  {numbers}", flush=True)
            return self.stop_training

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self.features is None:
                self.build(x.shape[2])
            weight = self.head.weight
            settings = Training(
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=self.learning_rate,
                schedule="constant",
                gradient_clipping=0.0,
                seed=seed,
                device=weight.device.type,
                quiet=True,
            )
            told.tell("on_train_begin", {})
            try:
                result = loop.train(
                    self,
                    step,
                    TensorDataset(x.to(weight), y.to(weight.device)),
                    validation and TensorDataset(validation[0].to(weight), validation[1].to(weight.device)),
                    settings,
                    monitor="accuracy",
                    maximise=True,
                    batches=batches,
                    after_epoch=after_epoch,
                )
            except loop.Diverged as error:
                raise FloatingPointError(str(error)) from None
        self.best_epoch = result.best_epoch
        told.tell("on_train_end", {name: values[-1] for name, values in self.history.history.items()})
        return self.history

    def evaluate(self, X, y, batch_size: int = 4096, verbose: int = 0) -> "Scores":
        """Mean `loss` of the unperturbed samples, `accuracy` and `mcc` on X (N, T, I), y (N,), by name or, as in Keras,
        by place. verbose: 0 prints nothing. Raises ValueError."""
        x, y = check_samples(X, y, self.features)
        score = self.decision_function(x, batch_size)
        loss = self.sample_losses(score, 2.0 * y - 1).mean().item()
        predicted, actual = (score > 0).long().numpy(), y.numpy()
        accuracy, mcc = movement_scores.accuracy(predicted, actual), movement_scores.mcc(predicted, actual)
        if verbose:
            print(f"{len(x)} samples  loss {loss:.4f}  accuracy {accuracy:.4f}  mcc {mcc:.4f}")
        return Scores(loss=loss, accuracy=accuracy, mcc=mcc)

    def score(self, X, y) -> float:
        """Accuracy on X (N, T, I), y (N,). Raises ValueError."""
        return self.evaluate(X, y)["accuracy"]

    def decision_function(self, X, batch_size: int = 4096) -> Tensor:
        """Scores (N,) of X (N, T, I): the further from 0, the surer; up where above 0. Raises ValueError."""
        if self.features is None:
            raise ValueError("the model has no weights yet: call fit, build or load_state_dict first")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        return self.in_batches(self.forward, check_inputs(X, self.features), batch_size)

    def predict(self, X, batch_size: int = 4096, verbose: int = 0) -> np.ndarray:
        """Classes (N,) of X (N, T, I): 1 up, 0 down. verbose: 0 prints nothing. Raises ValueError."""
        classes = (self.decision_function(X, batch_size) > 0).long().numpy()
        if verbose:
            print(f"{len(classes)} samples  up {classes.mean():.4f}")
        return classes

    def predict_proba(self, X, batch_size: int = 4096) -> np.ndarray:
        """Probabilities (N, 2) of down and up: 1 / (1 + exp(-score)).

        With the hinge loss they have the order of the scores but are not calibrated; on samples that `fit` has not
        seen, CalibratedClassifierCV(FrozenEstimator(model)) of scikit-learn makes them so. Raises ValueError.
        """
        up = self.decision_function(X, batch_size).sigmoid().numpy()
        return np.stack([1 - up, up], 1)

    def attention_weights(self, X) -> Tensor:
        """alpha (N, T) of X (N, T, I). Raises ValueError, also for a model without attention."""
        if self.features is None or not self.attention:
            raise ValueError("attention weights are those of a model with attention=True that has weights")
        return self.in_batches(lambda x: self.weights_of_steps(self.hidden_states(x)).T, check_inputs(X, self.features))

    def perturbed_scores(self, X, y, epsilon: float | None = None) -> Tensor:
        """Scores (N,) of X (N, T, I), y (N,) with each representation moved by `epsilon` (the model's own by default)
        as in training. Raises ValueError."""
        x, y = check_samples(X, y, self.features)
        length, device = self.epsilon if epsilon is None else epsilon, self.head.weight.device
        e = self.in_batches(self.represent, x).to(device)
        with torch.no_grad():
            return self.scores(e + length * self.perturbation(e, 2.0 * y.to(device) - 1)).cpu()

    @torch.no_grad()
    def in_batches(self, function: Callable[[Tensor], Tensor], x: Tensor, size: int = 4096) -> Tensor:
        """`function` of x (N, ...) in evaluation mode, `size` samples at a time, on the CPU."""
        training = self.training
        self.eval()
        result = torch.cat([function(part.to(self.head.weight)).cpu() for part in x.split(size)])
        self.train(training)
        return result

    # ---- scikit-learn

    def get_params(self, deep: bool = True) -> dict:
        return dict(self.arguments)

    def set_params(self, **params) -> "AdvALSTM":
        """Sets arguments; the model then has no weights. Wrong ones raise ValueError and change nothing."""
        if unknown := params.keys() - self.arguments.keys():
            raise ValueError(f"expected parameters out of {', '.join(self.arguments)}, not {', '.join(unknown)}")
        if params:
            arguments = type(self)(**{**self.arguments, **params}).arguments  # wrong values raise before the weights go
            self.__init__(**arguments)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self.features is not None

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags, Tags, TargetTags  # 0.4 s, which no training of the script needs

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags(multi_class=False))

    # ---- files

    def save(self, path: Path | str) -> None:
        """Writes weights and arguments to a file, whole or not at all."""
        checkpoint.save(Path(path), {"model": checkpoint.describe(self)})

    @classmethod
    def load(cls, path: Path | str) -> "AdvALSTM":
        """The model that `save`, or a run of adv_alstm.py as `best.pt`, left. Raises checkpoint.CheckpointError."""
        return checkpoint.rebuild(Path(path), cls)


class Scores(dict):
    """Metrics by name, or by place as Keras has them in a list: scores[0] is the loss, scores[1] the accuracy."""

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else list(self.values())[key]


def step(model: AttentiveLSTM, batch: loop.Batch) -> dict[str, Tensor]:
    return model.losses(*batch)


def in_order(size: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Indices of an epoch's batches, without shuffling."""
    return torch.arange(size).split(batch_size)


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_inputs(X, features: int | None) -> Tensor:
    """X as a float32 tensor (N, T, I)."""
    x = X.detach().float() if isinstance(X, Tensor) else torch.tensor(np.ascontiguousarray(X, np.float32))
    if x.dim() != 3 or not x.numel():
        raise ValueError(f"X must be (samples, steps, features) of at least one each, not of shape {tuple(x.shape)}")
    if features is not None and x.shape[2] != features:
        raise ValueError(f"X must have {features} features, as the model has, not {x.shape[2]}")
    if not torch.isfinite(x).all():
        raise ValueError(f"X must be finite; {int((~torch.isfinite(x)).sum())} of its {x.numel()} values are not")
    return x


def check_samples(X, y, features: int | None) -> tuple[Tensor, Tensor]:
    """X as a float32 tensor (N, T, I), y, which may be (N, 1), as an int64 tensor (N,) of 0 and 1."""
    x, labels = check_inputs(X, features), y.cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (len(x),):
        raise ValueError(f"y must be ({len(x)},), one label per sample, not of shape {labels.shape}")
    other = labels[(labels != 0) & (labels != 1)]
    if len(other):
        raise ValueError(f"y must be 0 (down) or 1 (up) only, also with the hinge loss; found {other.tolist()[0]}")
    return x, torch.from_numpy(labels.astype(np.int64))
