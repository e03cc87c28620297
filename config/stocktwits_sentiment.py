"""Settings and presets of stocktwits_sentiment.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstm_studies.training.presets import Script
from lstm_studies.training.settings import (
    Application,
    Count,
    DownloadedData,
    NotNegative,
    PositiveInt,
    Rate,
    Training,
    UsageError,
    choice_flag,
    data_flag,
    model_flag,
    training_flag,
)

EXAMPLES = (  # what `predict` scores if it is given no messages
    "$SPY buy the dip",
    "$SPY I'd rather not buy this dip",
    "$SPY new all time high next week, shorts will cover",
    "$SPY puts for Friday, this rally has no volume",
    "$SPY what a day",
)


@dataclass(frozen=True)
class Baseline(DownloadedData):
    """logistic regression on words and bigrams, and on character n-grams too"""

    data: Path | None = data_flag(None, "CSV file of your own labelled texts instead of the $SPY messages")
    text_column: str = data_flag("message", "column of --data with the texts")
    label_column: str = data_flag("sentiment", "column of --data with one of two labels")
    limit: PositiveInt | None = data_flag(None, "number of training messages, the first ones; default: all")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "text_column label_column", self.data is not None, "--data")
        self.need(given, "source", self.data is None, "the $SPY messages")


@dataclass(frozen=True)
class ShowMessages(Baseline):
    """shows messages as written, as tokens and as vocabulary indices; a padded batch; a histogram of lengths"""

    min_count: PositiveInt = model_flag(2, "least number of occurrences of a known word or bigram")
    tokenizer: Literal["detailed", "tutorial"] = model_flag(
        "detailed", "detailed keeps signs, emojis and tickers; tutorial does not"
    )


@dataclass(frozen=True)
class Train(Training, ShowMessages):
    """trains, saves and tests; learning curves, calibration, confusion matrix; with --seeds also their ensemble"""

    hidden_size: PositiveInt = model_flag(128, "units of the first LSTM", "grid")
    num_layers: PositiveInt = model_flag(2, "stacked LSTMs, each half as wide as the one before")
    lstm_sizes: tuple[PositiveInt, ...] = model_flag(
        (), "units of each LSTM, instead of --hidden_size and --num_layers"
    )
    embedding_size: PositiveInt = model_flag(100, "values per word")
    bidirectional: bool = model_flag(False, "a second LSTM per layer, which reads the message backwards")
    pooling: Literal["last", "mean", "max", "max_mean"] = model_flag(
        "max_mean", "last, mean, max or max_mean of the hidden states"
    )
    ngram_buckets: Count = model_flag(2**15, "size of the hash table of character n-grams; 0: words alone")
    embedding_start: Literal["neighbours", "random", "uniform"] = model_flag(
        "neighbours", "initial embeddings: neighbours (co-occurrence), random, uniform"
    )
    linear: bool = model_flag(True, "linear model of words and bigrams, added to the LSTMs' logit")
    linear_scale: NotNegative = model_flag(6.0, "factor of the linear model's logit, and so of its learning rate")

    dropout: Rate = training_flag(0.5, "dropout rate of hidden states, between layers and before the logit")
    embedding_dropout: Rate = training_flag(0.3, "dropout rate of the embeddings' dimensions")
    word_dropout: Rate = training_flag(0.1, "probability that the LSTMs read a word as the unknown word")
    linear_dropout: Rate = training_flag(0.1, "dropout rate of the words and bigrams of the linear model")
    loss: Literal["cross_entropy", "squared_error"] = training_flag(
        "cross_entropy", "cross_entropy or squared_error of the probability"
    )
    part_loss: NotNegative = training_flag(0.5, "weight of the losses of the LSTMs alone and the linear model alone")
    epsilon: NotNegative = training_flag(0.0, "norm of adversarial perturbations; 0: none", "grid")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "linear_scale linear_dropout part_loss", self.linear, "--linear")
        if self.lstm_sizes and {"hidden_size", "num_layers"} & set(given):
            raise UsageError("--lstm_sizes: expected --lstm_sizes, or --hidden_size and --num_layers, found both")
        if self.ngram_buckets == 1:
            raise UsageError("--ngram_buckets: expected 0 or at least 2 (the first one stays empty), found 1")

    @property
    def layer_sizes(self) -> list[int]:
        """Units of each LSTM."""
        halved = [max(1, self.hidden_size >> layer) for layer in range(self.num_layers)]
        return list(self.lstm_sizes) or halved


@dataclass(frozen=True)
class FreshSplits(Train):
    """the LSTM and the linear models on other random splits of the messages"""

    splits: PositiveInt = data_flag(5, "number of splits")
    split: int | None = None  # of the model that is trained


@dataclass(frozen=True)
class Predict(Application):
    """writes the probability of each message and its most influential words to predictions.csv"""

    text: tuple[str, ...] = choice_flag((), "messages to score; default: those of --data, else a few examples")
    data: Path | None = data_flag(
        None,
        "messages to score: a CSV file with --text_column, a .txt file with one per line, or - for lines from the "
        "standard input",
        aliases=["file"],
    )
    text_column: str = data_flag("message", "column of --data with the texts")

    def check(self, given) -> None:
        super().check(given)
        self.need(given, "text_column", self.data is not None, "--data")


TRAINING = ("train", "fresh_splits")


def best(asked) -> dict[str, Any]:
    if asked.function not in TRAINING:
        return {}
    return {"epochs": 4, "learning_rate": 2e-3, "optimizer": "AdamW", "weight_decay": 0.01, "precision": "bfloat16"}


def published(asked) -> dict[str, Any]:
    """The tutorial's preprocessing, model and training."""
    preprocessing = {"tokenizer": "tutorial", "min_count": 1}
    if asked.function not in TRAINING:
        return preprocessing if asked.function == "show_messages" else {}
    return {
        **preprocessing,
        **{"embedding_size": 300, "embedding_start": "uniform", "pooling": "last", "ngram_buckets": 0, "linear": False},
        **{"hidden_size": 128, "num_layers": 2, "dropout": 0.5, "embedding_dropout": 0.0, "word_dropout": 0.0},
        **{"loss": "squared_error", "optimizer": "Adadelta", "learning_rate": 0.1, "schedule": "constant"},
        **{"gradient_clipping": 0.0, "batch_size": 256, "epochs": 50, "precision": "bfloat16"},
    }


def quick(asked) -> dict[str, Any]:
    return {"limit": 8000, **({**best(asked), "epochs": 2} if asked.function in TRAINING else {})}


SCRIPT = Script(
    "stocktwits_sentiment",
    {
        "show_messages": ShowMessages,
        "train": Train,
        "predict": Predict,
        "baseline": Baseline,
        "fresh_splits": FreshSplits,
    },
    {"best": best, "published": published, "quick": quick},
    study=("show_messages", "train", "predict", "baseline"),
)
