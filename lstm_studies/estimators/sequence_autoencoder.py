"""SequenceAutoencoder: the LSTM autoencoder of series as an estimator of scikit-learn, trained by the one loop."""

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import _check_feature_names, check_is_fitted
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lstm_studies.estimators.loop_estimator import LoopEstimator, as_sequences, padded, real_array, training_count
from lstm_studies.evaluation import detectors
from lstm_studies.models.lengths import is_step
from lstm_studies.models.series_autoencoder import SeriesAutoencoder
from lstm_studies.training import loop


class SequenceAutoencoder(TransformerMixin, LoopEstimator):
    """Codes, reconstructions and anomalies of sequences.

        codes = SequenceAutoencoder(code_size=8).fit(X).transform(X)
        labels = SequenceAutoencoder().fit(table).predict(new_table)     # -1: an anomaly, 1: none

    X is an array (N, T, I) of N sequences, a list of N arrays (T_i, I) or (T_i,), or a table: a pandas DataFrame, or an
    array (M, I), whose M records in the order of time are cut into overlapping windows of `window` records. What is
    said of sequences below holds for the records of a table: M scores, M labels. The codes of a table are its windows'.

    Args:
        code_size: Z, values of the bottleneck. hidden_size, num_layers: of the LSTMs.
        window: records of a window of a table.
        updates: optimizer steps. batch_size, learning_rate: of Adam, with a warm-up and a cosine to 0.
        validation_share: the last sequences, which choose the epoch and give the threshold, of a table those windows
            that share no record with training windows, the last one at least; 0: the last epoch is kept, and the
            training sequences give the threshold.
        quantile: share of those sequences whose error is not above the threshold of an anomaly.
        noise: standard deviation of Gaussian noise on what the encoder reads in training, in those of the data.
        seed: of the weights and of the order of the data. device: of the training. verbose: 1: a line per epoch.

    After `fit`: `model_`, a SeriesAutoencoder (a torch module with the scaling and the threshold); `n_features_in_`, I;
    `threshold_`; `history_`, a list with a dictionary per epoch.
    """

    MODEL = SeriesAutoencoder

    def __init__(
        self,
        code_size: int = 4,
        hidden_size: int = 32,
        num_layers: int = 1,
        window: int = 32,
        updates: int = 1000,
        batch_size: int = 64,
        learning_rate: float = 5e-3,
        validation_share: float = 0.2,
        quantile: float = 0.99,
        noise: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
        verbose: int = 0,
    ):
        self.code_size, self.hidden_size, self.num_layers, self.window = code_size, hidden_size, num_layers, window
        self.updates, self.batch_size, self.learning_rate = updates, batch_size, learning_rate
        self.validation_share, self.quantile, self.noise = validation_share, quantile, noise
        self.seed, self.device, self.verbose = seed, device, verbose

    # ---- training

    def fit(self, X, y=None) -> "SequenceAutoencoder":
        """Trains on X; y is not read. Raises ValueError for what is no sequences of finite numbers."""
        x, lengths, starts = self.sequences(X, fitting=True)
        _check_feature_names(self, X, reset=True)
        first = training_count(len(x), self.validation_share)
        begin = first  # of the validation
        if starts is not None and first < len(x):  # windows of a table overlap
            begin = min(first + self.window - 1, len(x) - 1)
        self.n_features_in_ = x.shape[2]
        parts = [TensorDataset(x[rows], lengths[rows]) for rows in (slice(0, first), slice(begin, None))]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = SeriesAutoencoder(x.shape[2], x.shape[1], self.hidden_size, self.code_size, self.num_layers)
            model.set_scale(x[:first][is_step(x, lengths)[:first]].numpy())
            self.train(model, self.step, parts[0], parts[1] if len(parts[1]) else None)
        rows = slice(begin, None) if len(parts[1]) else slice(None)
        errors = self.errors(x[rows], lengths[rows], None if starts is None else starts[rows] - starts[rows][0])
        model.set_threshold(errors, self.quantile)
        return self

    def step(self, model: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        x, lengths = batch
        whole = bool((lengths == x.shape[1]).all())
        errors = model(x, self.noise if model.training else 0.0, None if whole else lengths).mean(2)  # (B, T)
        return {"loss": errors.mean() if whole else errors[is_step(x, lengths)].mean()}

    # ---- what a trained model gives

    @property
    def threshold_(self) -> float:
        """The error above which a sequence is an anomaly."""
        return self.model_.threshold.item()

    def transform(self, X) -> np.ndarray:
        """Codes (N, Z)."""
        x, lengths, _ = self.known_sequences(X)
        return self.of_sequences(self.model_.encode, x, lengths)

    def inverse_transform(self, codes) -> np.ndarray:
        """Sequences (N, T, I) of codes (N, Z), T that of the longest training sequence, in the units of the data."""
        check_is_fitted(self, "model_")
        z = torch.as_tensor(np.asarray(codes), dtype=torch.float32)
        with torch.no_grad():
            return self.model_.decode(z.to(self.device), self.model_.window).cpu().numpy()

    def reconstruct(self, X) -> np.ndarray | list[np.ndarray]:
        """What becomes of the sequences (N, T, I), in the units of the data; a list if they differ in length."""
        x, lengths, _ = self.known_sequences(X)
        steps = x.shape[1]
        restored = self.of_sequences(lambda x, n: self.model_.decode(self.model_.encode(x, n), steps), x, lengths)
        return (
            restored if (lengths == steps).all() else [r[:n] for r, n in zip(restored, lengths.tolist(), strict=True)]
        )

    def score_samples(self, X) -> np.ndarray:
        """Minus the mean squared error of each sequence (N,), or of each record of a table (M,), in squared standard
        deviations of the training data: the larger, the more ordinary, as in scikit-learn."""
        return -self.errors(*self.known_sequences(X))

    def score(self, X, y=None) -> float:
        """The mean of `score_samples`, by which GridSearchCV compares."""
        return float(self.score_samples(X).mean())

    def decision_function(self, X) -> np.ndarray:
        """`score_samples` plus the threshold: below 0 for anomalies."""
        return self.score_samples(X) + self.threshold_

    def predict(self, X) -> np.ndarray:
        """1, or -1 for anomalies."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def errors(self, x: Tensor, lengths: Tensor, starts: np.ndarray | None) -> np.ndarray:
        """The mean squared error of each sequence (N,), or of each record (M,) of windows with these first records."""
        if starts is not None:
            windows = self.in_batches(self.model_, x)  # (N, T, I)
            return detectors.record_errors([windows], starts, int(starts[-1]) + x.shape[1]).mean(1)
        counted = is_step(x, lengths).numpy()
        errors = self.of_sequences(lambda x, n: self.model_(x, 0.0, n).mean(2), x, lengths)
        return (errors * counted).sum(1) / counted.sum(1)

    def of_sequences(self, function, x: Tensor, lengths: Tensor) -> np.ndarray:
        """`function` of sequences and of their lengths, or of None where all are of one length."""
        if bool((lengths == x.shape[1]).all()):
            return self.in_batches(lambda x: function(x, None), x)
        return self.in_batches(function, x, lengths)

    def learnt(self) -> dict:
        return {"feature_names": list(getattr(self, "feature_names_in_", []))}

    def set_learnt(self, saved: dict) -> None:
        self.n_features_in_ = self.model_.arguments["columns"]
        if saved.get("feature_names"):
            self.feature_names_in_ = np.array(saved["feature_names"], object)

    # ---- input

    def known_sequences(self, X) -> tuple[Tensor, Tensor, np.ndarray | None]:
        check_is_fitted(self, "model_")
        _check_feature_names(self, X, reset=False)  # a table's columns have the names and the order of the training
        x, lengths, starts = self.sequences(X)
        if x.shape[2] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} features, as in fit, not {x.shape[2]}")
        return x, lengths, starts

    def sequences(self, X, fitting: bool = False) -> tuple[Tensor, Tensor, np.ndarray | None]:
        """x (N, T, I) padded with zeros, lengths (N,), and the first record (N,) of each window of a table."""
        starts, table = None, None if isinstance(X, list | tuple) else real_array(X)
        if table is not None and table.ndim == 2:
            starts = detectors.window_starts(np.zeros(len(table)), self.window)
            if not len(starts):
                raise ValueError(f"X must have at least {self.window} records, a window, not {len(table)}")
            X = table[starts[:, None] + np.arange(self.window)]
        return *padded(as_sequences(X, fitting=fitting)), starts
