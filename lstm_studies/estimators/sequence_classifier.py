"""SequenceClassifier: plain, adversarial and proximal LSTM classifiers as one estimator of scikit-learn."""

import functools

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from Classifier import LSTMClassifier
from lstm_studies.estimators.loop_estimator import LoopClassifier, as_sequences, padded, training_count
from lstm_studies.loaders.ts_files import Sequences
from lstm_studies.training import loop


class SequenceClassifier(LoopClassifier):
    """Classes of sequences: convolution over time and an LSTM in both directions (LSTMClassifier).

        SequenceClassifier().fit(X, y).score(X_test, y_test)

    X is an array (N, T, I) of N sequences, or (N, T) of values, or a list of N arrays (T_i, I) of unequal length; the
    labels y (N,) are of any kind, at least two different ones.

    Args:
        mode: "plain"; "AdvLSTM", trained on adversarial inputs of the LSTM, too; "ProxLSTM", with the proximal LSTM.
        epsilon: length of the perturbation (AdvLSTM) or weight of the proximal problem (ProxLSTM); plain has none.
        hidden_size, channels, kernel_size, normalization, bidirectional, dropout, noise, offset: of LSTMClassifier.
        updates: optimizer steps. batch_size, learning_rate: of Adam, with a warm-up and a cosine to 0.
        validation_share: random share of the sequences that chooses the epoch; 0: the last epoch is kept.
        channels_first: X is (N, I, T), or a list of (I, T_i), as in aeon.
        seed: of the weights and of the order of the data. device: of the training. verbose: 1: a line per epoch.

    After `fit`: `model_`, an LSTMClassifier with the scaling; `classes_` (K,); `n_features_in_`, I; `history_`.
    """

    MODEL = LSTMClassifier

    def __init__(
        self,
        mode: str = "plain",
        epsilon: float = 1.0,
        hidden_size: int = 64,
        channels: int = 64,
        kernel_size: int = 3,
        normalization: str = "standard",
        bidirectional: bool = True,
        dropout: float = 0.4,
        noise: float = 0.0,
        offset: float = 0.0,
        updates: int = 600,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        validation_share: float = 0.0,
        channels_first: bool = False,
        seed: int = 0,
        device: str = "cpu",
        verbose: int = 0,
    ):
        self.mode, self.epsilon, self.hidden_size, self.channels = mode, epsilon, hidden_size, channels
        self.kernel_size, self.normalization, self.bidirectional = kernel_size, normalization, bidirectional
        self.dropout, self.noise, self.offset = dropout, noise, offset
        self.updates, self.batch_size, self.learning_rate = updates, batch_size, learning_rate
        self.validation_share, self.channels_first = validation_share, channels_first
        self.seed, self.device, self.verbose = seed, device, verbose

    def fit(self, X, y) -> "SequenceClassifier":
        """Trains on X with the labels y (N,). Raises ValueError for what is no sequences of finite numbers."""
        sequences = self.sequences(X, fitting=True)
        places, first = self.places(y, len(sequences)), training_count(len(sequences), self.validation_share)
        self.n_features_in_ = sequences[0].shape[1]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            order = torch.randperm(len(sequences)) if first < len(sequences) else torch.arange(first)
            training, validation = (
                Sequences([torch.tensor(np.ascontiguousarray(sequences[i])) for i in rows.tolist()], places[rows])
                if len(rows)
                else None
                for rows in (order[:first], order[first:])
            )
            model = LSTMClassifier(
                self.n_features_in_,
                self.hidden_size,
                len(self.classes_),
                self.channels,
                self.kernel_size,
                self.mode,
                0.0 if self.mode == "plain" else self.epsilon,
                self.normalization,
                self.bidirectional,
                self.noise,
                self.dropout,
                batch_norm_places=("convolution",),
                offset=self.offset,
                class_names=tuple(map(str, self.classes_)),
            )
            if self.normalization == "standard":
                model.set_scale(training.steps)
            batches = functools.partial(training.batches_by_length, 3.0)  # shifts the lengths by up to 3 steps
            self.train(model, step, training, validation, batches=batches)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities (N, K) in the order of `classes_`. Raises ValueError."""
        check_is_fitted(self, "model_")
        x, lengths = padded(self.sequences(X))
        if x.shape[2] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} features, as in fit, not {x.shape[2]}")
        return self.in_batches(lambda x, lengths: self.model_(x, lengths).softmax(1), x, lengths)

    def sequences(self, X, fitting: bool = False) -> list[np.ndarray]:
        sequences = as_sequences(X, self.channels_first, fitting)
        if (shortest := min(map(len, sequences))) < self.kernel_size:
            raise ValueError(f"X must have at least kernel_size = {self.kernel_size} steps, not {shortest}")
        return sequences

    def set_learnt(self, saved: dict) -> None:
        super().set_learnt(saved)
        self.n_features_in_ = self.model_.arguments["input_size"]


def step(model: LSTMClassifier, batch: loop.Batch) -> dict[str, Tensor]:
    loss, logits = model.loss(*batch)
    return {"loss": loss, "accuracy": (logits.argmax(1) == batch[2]).float().mean()}
