"""Labelled short messages: the $SPY messages of StockTwits, or any CSV file with a column of texts and one of labels.

A message is read as tokens, by `tokenize` or as a tutorial does it (`tokenize_as_tutorial`). Messages with the same
normalised text (`normalize`) count as one text: the first of them in the file stays, with its label. A text's split
depends on the normalised text alone and not on the file's order, so no normalised text is in two splits.

Letters in shapes: N messages.
"""

import hashlib
import html
import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lstm_studies.loaders.files import SAMPLES, DataError, checked_limit, choose, download, first_present
from lstm_studies.loaders.text_files import read_columns

MESSAGES_URL = (
    "https://raw.githubusercontent.com/GarrettHoffman/lstm-oreilly/"
    "907bc5a31b5767622c845f31d2dee02fdcf2c971/data/StockTwits_SPY_Sentiment_2017.gz"
)
MESSAGES_NAMES = ("StockTwits_SPY_Sentiment_2017.gz", "StockTwits_SPY_Sentiment_2017.csv")
MESSAGES_SHA256 = "2764ef980af1af85d2c4d180ced1ce54cf20186b7a07c301304dbd72a5a4eeef"
MESSAGES_CLASSES = ("bearish", "bullish")
SAMPLE = SAMPLES / "messages" / "messages.csv"
SPLIT_KEY = "2017"  # another key is another random split

PADDING, UNKNOWN, TICKER, USER, LINK, PRICE, NUMBER = SPECIAL = (
    "<padding>",  # at place 0 of every vocabulary; no text holds it
    "<unknown>",
    "<ticker>",
    "<user>",
    "<link>",
    "<price>",
    "<number>",
)
TOKEN = re.compile(
    r"(?P<link>https?:\S+|www\.\S+|\w[\w.-]{0,50}\.(?:com|org|net|co|ly|gl|io|tv|be)\b(?:/\S*)?)"
    r"|(?P<price>\$\s?\d(?:[\d,.]*\d)?)"
    r"|(?P<ticker>\$[a-z]+(?:[._-][a-z]+)*)"
    r"|(?P<user>@\w+)"
    r"|(?P<number>\d(?:[\d,.:/]*\d)?)"
    r"|(?P<word>\#?[^\W\d_]+(?:'[^\W\d_]+)*)"  # a hash before it and apostrophes in it belong to a word
    r"|(?P<face>[:;=][-']?[()\[\]dp/]+)"
    r"|(?P<sign>[^\w\s])(?P=sign)*"
    r"|\S"
)
ENTITIES = {"link": LINK, "price": PRICE, "number": NUMBER}
TUTORIAL_ENTITIES = {entity.upper() for entity in (TICKER, USER, LINK, PRICE, NUMBER)}


class LabelledTexts(NamedTuple):
    texts: list[str]  # N messages as they were written
    labels: Tensor  # (N,) float32, 1 for the second of the classes


class Messages(NamedTuple):
    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts
    classes: tuple[str, str]  # names of the labels 0 and 1
    metadata: dict


# ---- texts -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2**18)
def tokenize(text: str) -> tuple[str, ...]:
    """The tokens of a message, in lower case.

    Links, prices and numbers become the tokens <link>, <price> and <number>. Tickers ($SPY), users (@name), words
    (also #word and don't), faces such as :) and single other signs stay as they are; a run of one sign (!!!!) becomes
    two of it, a letter in a row (sooooo) at most three. HTML escapes and invisible characters are resolved first.
    A message without any token is the one token <unknown>.
    """
    tokens = []
    for match in TOKEN.finditer(_plain(text)):
        token = ENTITIES.get(match.lastgroup, match.group())
        tokens.append(sys.intern(token[:2] if match.lastgroup == "sign" else token))
    return tuple(tokens) or (UNKNOWN,)


def _plain(text: str) -> str:
    text = html.unescape(text).lower()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
        # Zero-width and direction marks (Cf), combining accents and emoji variants (Mn): invisible, or one sign in two
        text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn"))
    return re.sub(r"([^\W\d_])\1{3,}", r"\1\1\1", text)


@lru_cache(maxsize=2**18)
def tokenize_as_tutorial(text: str) -> tuple[str, ...]:
    """The tokens of a message as the tutorial of github.com/GarrettHoffman/lstm-oreilly makes them.

    In lower case; tickers, users, links, prices and numbers become <ticker>, <user>, <link>, <price> and <number>; HTML
    escapes, punctuation and every character outside ASCII (emojis, typographic apostrophes) are deleted, so that don't
    is dont; the rest is split at white space. A message without any token is the one token <unknown>; the tutorial
    drops it.
    """
    text = text.lower()
    for pattern, entity in ((r"\$[a-z]+", TICKER), (r"@\w+", USER), (r"https?://\S+", LINK)):
        text = re.sub(pattern, f" {entity.upper()} ", text)  # what a person writes is in lower case by now
    text = re.sub(r"(\$?)(\d*\.?\d+)([%k$]?)", _tutorial_number, text)
    text = re.sub(r"&\w+|[^\x00-\x7f]", "", text)
    text = re.sub(r"[^\w\s<>]|_", "", text)
    words = (word if word in TUTORIAL_ENTITIES else word.replace("<", "").replace(">", "") for word in text.split())
    return tuple(sys.intern(word.lower()) for word in words if word) or (UNKNOWN,)


def _tutorial_number(match: re.Match) -> str:
    """<PRICE> with a dollar sign before or after the number; else a <NUMBER>, or two for 2.5% and 2.5k."""
    before, digits, after = match.groups()
    if after == "$" or (before and after != "%"):
        return f" <PRICE> {after}"
    count = len(digits.strip(".").split(".")) if after else 1
    return " <NUMBER> " * count + after


TOKENIZERS = {"detailed": tokenize, "tutorial": tokenize_as_tutorial}


def kind(token: str) -> str:
    """<ticker> or <user> for the name of one, else the token itself."""
    if len(token) > 1 and token[0] == "$" and token[1].isalpha():
        return TICKER
    if len(token) > 1 and token[0] == "@" and token[1] != "@":
        return USER
    return token


def normalize(text: str) -> str:
    """What makes two messages the same text: their tokens, with tickers and users by kind."""
    return " ".join(map(kind, tokenize(text)))


# ---- files -----------------------------------------------------------------------------------------------------------


def spy_messages(
    data_dir: Path | str, source: str = "auto", limit: int | None = None, split_key: str = SPLIT_KEY
) -> Messages:
    """StockTwits messages about $SPY from data_dir/stocktwits, each labelled bearish (0) or bullish (1) by its author.

    The file has no licence, so the bundled sample is not a part of it: its messages are invented (data/README.md).
    `limit` and `split_key` are those of `labelled_messages`, and so is what it returns. Raises DataError.
    """
    folder, origin = choose(data_dir, source, "stocktwits", [MESSAGES_NAMES], _fetch_messages, MESSAGES_URL)
    path = SAMPLE if origin["data"] == "sample" else first_present(folder, MESSAGES_NAMES)
    messages = labelled_messages(path, "message", "sentiment", limit, "utf-8-sig", split_key)
    if messages.classes != MESSAGES_CLASSES:
        raise DataError(
            f"{path}: expected the labels {' and '.join(MESSAGES_CLASSES)}, found {' and '.join(messages.classes)}"
        )
    return messages._replace(metadata={**messages.metadata, **origin})


def _fetch_messages(folder: Path, absent: list[str]) -> None:
    download(MESSAGES_URL, folder / absent[0], MESSAGES_SHA256)


def labelled_messages(
    path: Path | str,
    text_column: str,
    label_column: str,
    limit: int | None = None,
    encoding: str | None = None,
    split_key: str = SPLIT_KEY,
) -> Messages:
    """Messages of a CSV file, gzipped or not, whose first line names its columns; the label has two values.

    Separators and encodings: those of `text_files.read_columns`.
    80 % of the distinct texts are for training, of which `limit` keeps the first, 10 % each for validation and test, by
    the order of a hash of the normalised text with the key `split_key`. Returns Messages; its classes are the two
    labels in alphabetical order, and its metadata the counts of messages, of distinct texts, of texts whose messages
    have different labels, and of the splits. Raises DataError, with the line where there is one.
    """
    limit, path = checked_limit(limit), Path(path)
    table = read_columns(path, (text_column, label_column), encoding)
    texts, names = table[text_column].tolist(), _checked_labels(path, table[label_column])
    classes = tuple(sorted(set(names)))
    if len(classes) != 2:
        raise DataError(
            f"{path}: expected two labels in the column {label_column}, found {len(classes)}: {', '.join(classes[:5])}"
        )
    rows, contradicting = _distinct_rows(texts, names, split_key)
    if len(rows) < 10:
        raise DataError(f"{path}: expected at least 10 different texts to split 80/10/10, found {len(rows)}")
    edges = (0, len(rows) * 8 // 10, len(rows) * 9 // 10, len(rows))
    splits = [
        _split(rows[a:b][:n], texts, names, classes[1])
        for a, b, n in zip(edges, edges[1:], (limit, None, None), strict=False)
    ]
    metadata = {
        "data": "own",
        "file": path.name,
        "messages": len(texts),
        "distinct_texts": len(rows),
        "contradicting_texts": contradicting,
        f"{classes[1]}_share": names.count(classes[1]) / len(names),
        **{name: len(split.texts) for name, split in zip(("train", "validation", "test"), splits, strict=True)},
    }
    return Messages(*splits, classes, metadata)


def _checked_labels(path: Path, column: pd.Series) -> list[str]:
    labels = column.str.strip()
    if (labels == "").any():
        raise DataError(f"{path}, line {labels.index[labels == ''][0]}: expected a label, found none")
    return labels.tolist()


def _distinct_rows(texts: Sequence[str], labels: Sequence[str], split_key: str) -> tuple[list[int], int]:
    """The rows of the first messages of all normalised texts, in the order of the split, and how many of these texts
    also have messages of another label."""
    first, contradicting = {}, set()
    for row, text in enumerate(map(normalize, texts)):
        if labels[first.setdefault(text, row)] != labels[row]:
            contradicting.add(text)

    def order(text: str) -> bytes:
        """A number that only the text decides: the split neither follows the file's order nor changes with it."""
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=split_key.encode(), digest_size=16).digest()

    return [first[text] for text in sorted(first, key=order)], len(contradicting)


def _split(rows: Sequence[int], texts: Sequence[str], labels: Sequence[str], positive: str) -> LabelledTexts:
    return LabelledTexts([texts[row] for row in rows], torch.tensor([float(labels[row] == positive) for row in rows]))
