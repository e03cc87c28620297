"""LSTM autoencoders, Adv-ALSTM and the proximal LSTM: the models of the studies, for other people's programs.

    from lstm_studies import AdvALSTM, LSTMAutoencoder, ProxLSTM

A name is imported when it is first used, so that `import lstm_studies` does not wait for PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "2.0.0"

if TYPE_CHECKING:
    from Classifier import LSTMClassifier as LSTMClassifier
    from lstm_studies.estimators.adv_alstm import AdvALSTM as AdvALSTM
    from lstm_studies.estimators.sequence_autoencoder import SequenceAutoencoder as SequenceAutoencoder
    from lstm_studies.estimators.sequence_classifier import SequenceClassifier as SequenceClassifier
    from lstm_studies.estimators.text_classifier import TextClassifier as TextClassifier
    from lstm_studies.models.attentive_lstm import TemporalAttention as TemporalAttention
    from lstm_studies.models.conv_lstm import ConvLSTM as ConvLSTM
    from lstm_studies.models.lstm_ae import ConvLSTMAutoencoder as ConvLSTMAutoencoder
    from lstm_studies.models.lstm_ae import LSTMAutoencoder as LSTMAutoencoder
    from ProxLSTM import ProxLSTM as ProxLSTM
    from ProxLSTM import ProxLSTMCell as ProxLSTMCell

MODULES = {  # of each name that people import
    "AdvALSTM": "lstm_studies.estimators.adv_alstm",
    "ConvLSTM": "lstm_studies.models.conv_lstm",
    "ConvLSTMAutoencoder": "lstm_studies.models.lstm_ae",
    "LSTMAutoencoder": "lstm_studies.models.lstm_ae",
    "LSTMClassifier": "Classifier",
    "ProxLSTM": "ProxLSTM",
    "ProxLSTMCell": "ProxLSTM",
    "SequenceAutoencoder": "lstm_studies.estimators.sequence_autoencoder",
    "SequenceClassifier": "lstm_studies.estimators.sequence_classifier",
    "TemporalAttention": "lstm_studies.models.attentive_lstm",
    "TextClassifier": "lstm_studies.estimators.text_classifier",
}
__all__ = list(MODULES)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
