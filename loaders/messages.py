"""Labelled short messages: the $SPY messages of StockTwits, or any CSV file with a column of texts and one of labels.

A message is read as tokens (`tokenize`), and two messages with the same normalised text (`normalize`) as one text: its
first message in the file stays, with its label, and the others are counted. Which part a text belongs to depends on
the texts alone and not on their order in the file, and no normalised text is in two parts.

Letters in shapes: N messages.
"""

import csv
import hashlib
import html
import io
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loaders.files import SAMPLES, DataError, checked_limit, choose, decoded, download, first_present, read_bytes, reading

MESSAGES_URL = (
    "https://raw.githubusercontent.com/GarrettHoffman/lstm-oreilly/"
    "907bc5a31b5767622c845f31d2dee02fdcf2c971/data/StockTwits_SPY_Sentiment_2017.gz"
)
MESSAGES_NAMES = ("StockTwits_SPY_Sentiment_2017.gz", "StockTwits_SPY_Sentiment_2017.csv")
MESSAGES_SHA256 = "2764ef980af1af85d2c4d180ced1ce54cf20186b7a07c301304dbd72a5a4eeef"
MESSAGES_CLASSES = ("bearish", "bullish")
SAMPLE = SAMPLES / "messages" / "messages.csv"
SPLIT_KEY = b"2017"  # another key would be another random split

UNKNOWN, TICKER, USER, LINK, PRICE, NUMBER = SPECIAL = (
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
NAMELESS = {"link": LINK, "price": PRICE, "number": NUMBER}


class LabelledTexts(NamedTuple):
    texts: list  # N messages as they were written
    labels: torch.Tensor  # (N,) float32, 1 for the second of the classes


class Messages(NamedTuple):
    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts
    classes: tuple  # names of the labels 0 and 1
    facts: dict


# ------------------------------------------------------------------------------------------------------ texts


def tokenize(text):
    """The tokens of a message, in lower case.

    Links, prices and numbers become the tokens <link>, <price> and <number>. Tickers ($SPY), users (@name), words
    (also #word and don't), faces such as :) and single other signs stay as they are; a run of one sign (!!!!) becomes
    two of it, a letter in a row (sooooo) at most three. HTML escapes and invisible characters are resolved first.
    A message without anything is the one token <unknown>.
    """
    tokens = []
    for match in TOKEN.finditer(_plain(text)):
        token = NAMELESS.get(match.lastgroup, match.group())
        tokens.append(token[:2] if match.lastgroup == "sign" else token)
    return tokens or [UNKNOWN]


def _plain(text):
    text = html.unescape(text).lower()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
        # Zero-width and direction marks (Cf), combining accents and emoji variants (Mn): invisible, or one sign in two
        text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn"))
    return re.sub(r"([^\W\d_])\1{3,}", r"\1\1\1", text)


def kind(token):
    """<ticker> or <user> for the name of one, else the token itself."""
    if len(token) > 1 and token[0] == "$" and token[1].isalpha():
        return TICKER
    if len(token) > 1 and token[0] == "@" and token[1] != "@":
        return USER
    return token


def normalize(text):
    """What makes two messages the same text: their tokens, with tickers and users by kind."""
    return " ".join(map(kind, tokenize(text)))


def build_vocabulary(texts, min_count=2):
    """SPECIAL, then every other token with at least `min_count` occurrences in `texts`, the most frequent first."""
    counts = Counter(token for text in texts for token in tokenize(text))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [*SPECIAL, *(token for token, count in ranked if count >= min_count and token not in SPECIAL)]


def encode(tokens, index):
    """The places of tokens in a vocabulary, given as {token: place}.

    A ticker or user that the vocabulary does not name is <ticker> or <user>, any other token <unknown>.
    """
    unknown = index[UNKNOWN]
    return [index.get(token, index.get(kind(token), unknown)) for token in tokens]


# ------------------------------------------------------------------------------------------------------ files


def spy_messages(data_dir, source="auto", limit=None):
    """StockTwits messages about $SPY from data_dir/stocktwits, each labelled bearish (0) or bullish (1) by its author.

    The file has no licence, so the bundled sample is not a part of it: its messages are invented (data/README.md).
    `limit` keeps the first training messages. Returns Messages as `labelled_messages` does.
    """
    folder, facts = choose(data_dir, source, "stocktwits", [MESSAGES_NAMES], _fetch_messages, MESSAGES_URL)
    path = SAMPLE if facts["data"] == "sample" else first_present(folder, MESSAGES_NAMES)
    messages = labelled_messages(path, "message", "sentiment", limit)
    if messages.classes != MESSAGES_CLASSES:
        raise DataError(
            f"{path}: expected the labels {' and '.join(MESSAGES_CLASSES)}, found {' and '.join(messages.classes)}"
        )
    return messages._replace(facts={**messages.facts, **facts})


def _fetch_messages(folder, absent):
    download(MESSAGES_URL, folder / absent[0], [MESSAGES_SHA256])


def labelled_messages(path, text_column, label_column, limit=None):
    """Messages of a CSV file, gzipped or not, whose first line names its columns; the label has two values.

    80 % of the distinct texts are for training, 10 % each for validation and test, by the order of a keyed hash of the
    normalised text. Returns Messages; its classes are the two labels in alphabetical order, and its facts the counts
    of messages, of distinct texts, of texts whose messages have different labels, and of the parts. Raises DataError,
    with the line where there is one.
    """
    limit, path = checked_limit(limit), Path(path)
    texts, names = _read_columns(path, text_column, label_column)
    classes = tuple(sorted(set(names)))
    if len(classes) != 2:
        raise DataError(
            f"{path}: expected two labels in the column {label_column}, found {len(classes)}: {', '.join(classes[:5])}"
        )
    version = f"1 {unicodedata.unidata_version} {text_column!r} {label_column!r}"
    arrays = decoded(
        path, "split", version, lambda: _distinct_rows(texts, names), lambda kept: _is_split(kept, len(texts))
    )
    rows, contradicting = arrays["rows"].tolist(), arrays["contradicting"].item()
    if len(rows) < 10:
        raise DataError(f"{path}: expected at least 10 different texts to split 80/10/10, found {len(rows)}")
    edges = (0, len(rows) * 8 // 10, len(rows) * 9 // 10, len(rows))
    parts = [
        _part(rows[a:b][:n], texts, names, classes[1])
        for a, b, n in zip(edges, edges[1:], (limit, None, None), strict=False)
    ]
    facts = {
        "data": "full",
        "file": path.name,
        "messages": len(texts),
        "distinct_texts": len(rows),
        "contradicting_texts": contradicting,
        f"{classes[1]}_share": names.count(classes[1]) / len(names),
        **{name: len(part.texts) for name, part in zip(("train", "validation", "test"), parts, strict=True)},
    }
    return Messages(*parts, classes, facts)


def _read_columns(path, text_column, label_column):
    """Texts and labels as written, line by line of the table; both lists have the same length."""
    expected = f"a CSV table with the columns {text_column} and {label_column}"
    data, texts, labels = read_bytes(path, expected), [], []
    with reading(path, expected):
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, [])
        if header.count(text_column) != 1 or header.count(label_column) != 1 or text_column == label_column:
            raise DataError(
                f"{path}: expected {expected}, once each, found {', '.join(header)[:200] or 'an empty file'}"
            )
        text_at, label_at = header.index(text_column), header.index(label_column)
        for row in rows:
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                raise DataError(f"{path}, line {rows.line_num}: expected {len(header)} fields, found {len(row)}")
            label = row[label_at].strip()
            if not label:
                raise DataError(f"{path}, line {rows.line_num}: expected a label in {label_column}, found none")
            texts.append(row[text_at])
            labels.append(label)
    if not texts:
        raise DataError(f"{path}: expected {expected}, found no rows")
    return texts, labels


def _distinct_rows(texts, labels):
    """Arrays: the rows of the first messages of all normalised texts, in the order of the split, and contradicting, how
    many of these texts also have messages of another label."""
    first, contradicting = {}, set()
    for row, text in enumerate(map(normalize, texts)):
        if labels[first.setdefault(text, row)] != labels[row]:
            contradicting.add(text)
    rows = [first[text] for text in sorted(first, key=_split_order)]
    return {"rows": np.array(rows), "contradicting": np.array(len(contradicting))}


def _is_split(arrays, messages):
    """Whether types and shapes are those of `_distinct_rows`, and its rows those of a table of so many messages."""
    rows, contradicting = arrays["rows"], arrays["contradicting"]
    return (
        rows.dtype == contradicting.dtype == np.int64
        and rows.ndim == 1
        and contradicting.shape == ()
        and 0 <= rows.min() <= rows.max() < messages
    )


def _split_order(text):
    """A number that only the text decides: the split neither follows the file's order nor changes with it."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=SPLIT_KEY, digest_size=16).digest()


def _part(rows, texts, labels, positive):
    return LabelledTexts([texts[row] for row in rows], torch.tensor([float(labels[row] == positive) for row in rows]))
