"""Tokens by hand; the split by texts; damaged and hostile tables; everything on files made here."""

import csv
import gzip
import io
import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from conftest import damaged_at_random, fails

import load_data
from lstm_studies.loaders import messages as load_messages
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.messages import (
    labelled_messages,
    normalize,
    spy_messages,
    tokenize,
    tokenize_as_tutorial,
)

REAL = Path(os.environ.get("DATA_DIR", "data"))
NAME = load_messages.MESSAGES_NAMES[0]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """The public address leads to a port that refuses."""
    monkeypatch.setattr(load_messages, "MESSAGES_URL", "http://127.0.0.1:9/messages.gz")
    monkeypatch.setenv("no_proxy", "*")


def table(rows, header=("", "message", "sentiment")):
    """Rows of (text, label) as the bytes of a CSV file with an index, as the real one has."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows((i, *row) for i, row in enumerate(rows))
    return text.getvalue().encode()


def write(folder, data, name=NAME):
    path = folder / "stocktwits" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


WORDS = ("up", "down", "flat", "buy", "sell", "hold")
ROWS = [
    (f"$SPY {a} {b}\nthen {c}", ("bearish", "bullish")["buy" in (a, b, c)]) for a in WORDS for b in WORDS for c in WORDS
]


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("$SPY crazy day so far!", ["$spy", "crazy", "day", "so", "far", "!"]),
        ("$SPY!!!! ... ??", ["$spy", "!!", "..", "??"]),
        ("@Joe_1 don't BUY #TheDip", ["@joe_1", "don't", "buy", "#thedip"]),
        ("$ES_F, $BTC.X $BRK.A.", ["$es_f", ",", "$btc.x", "$brk.a", "."]),
        ("$250 $ 1,250.50 $2.", ["<price>", "<price>", "<price>", "."]),
        ("up 2.5% at 11:30, 20k puts", ["up", "<number>", "%", "at", "<number>", ",", "<number>", "k", "puts"]),
        ("https://t.co/a?b=C, www.x.y zerohedge.com/news bit.ly", ["<link>", "<link>", "<link>", "<link>"]),
        ("soooooo looool book", ["sooo", "loool", "book"]),
        (":) :-( ;D =)", [":)", ":-(", ";d", "=)"]),
        ("🚀🚀🚀 👍", ["🚀🚀", "👍"]),
        ("\u202a#\u200eTrading\u202c caf\u0065\u0301 \uff35\uff30", ["#trading", "café", "up"]),
        ("S&amp;P &lt;b&gt;", ["s", "&", "p", "<", "b", ">"]),
        ("it’s", ["it's"]),
        ("", ["<unknown>"]),
        (" \n\t\u200b", ["<unknown>"]),
        ("<unknown> <link>", ["<", "unknown", ">", "<", "link", ">"]),  # cannot be written by hand
        ("$ @ # _", ["$", "@", "#", "_"]),
    ],
)
def test_tokens_by_hand(text, tokens):
    assert tokenize(text) == tuple(tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("$SPY crazy day so far!", ["<ticker>", "crazy", "day", "so", "far"]),
        ("@Joe_1 don't BUY #TheDip... :)", ["<user>", "dont", "buy", "thedip"]),
        ("$ES_F &amp; https://t.co/a?b=C", ["<ticker>", "f", "<link>"]),
        ("$12.50 12.50$ 12.50 -3", ["<price>", "<price>", "<number>", "<number>"]),
        ("2.5% 20k 1,250 $5% $5k", ["<number>"] * 3 + ["k"] + ["<number>"] * 3 + ["<price>", "k"]),
        ("🚀🚀 caf\u00e9 it\u2019s", ["caf", "its"]),
        ("<b>up</b> <user> <TICKER>", ["bupb", "user", "ticker"]),
        ("🚀 !!", ["<unknown>"]),
        ("", ["<unknown>"]),
    ],
)
def test_tokens_of_the_tutorial_by_hand(text, tokens):
    assert tokenize_as_tutorial(text) == tuple(tokens)


def test_what_counts_as_the_same_text():
    assert normalize("$AAPL  @joe: BUY at $12, http://a.b") == "<ticker> <user> : buy at <price> , <link>"
    assert normalize("$SPY @ann: buy at $7.50,\nhttps://c.d/e") == normalize("$AAPL  @joe: BUY at $12, http://a.b")
    assert normalize("buy at 12") != normalize("buy at")
    assert normalize("$") == "$" and normalize("@") == "@" and normalize("@@@") == "@@"


# ---- split -----------------------------------------------------------------------------------------------------------


def test_a_table_by_hand(tmp_path):
    rows = [(f"text {word}", "bullish") for word in "abcdefghi"]
    rows += [("Text A", "bearish"), ("text  b", "bullish"), ("sell", " bearish ")]
    data = spy_messages(write(tmp_path, table(rows)))
    metadata = data.metadata
    assert (metadata["messages"], metadata["distinct_texts"], metadata["contradicting_texts"]) == (12, 10, 1)
    assert (metadata["train"], metadata["validation"], metadata["test"]) == (8, 1, 1) and metadata["data"] == "full"
    assert metadata["bullish_share"] == pytest.approx(10 / 12) and data.classes == ("bearish", "bullish")
    found = {text: label for part in data[:3] for text, label in zip(part.texts, part.labels.tolist(), strict=True)}
    # the first message of a text stays, with its label
    assert found == {f"text {word}": 1.0 for word in "abcdefghi"} | {"sell": 0.0}


def test_no_text_is_in_two_parts(tmp_path):
    other = [(text.replace("$SPY", "$AAPL").upper(), label) for text, label in ROWS]
    data = spy_messages(write(tmp_path, table(ROWS + other)))
    parts = [{normalize(text) for text in part.texts} for part in data[:3]]
    assert [len(part) for part in parts] == [len(part.texts) for part in data[:3]]
    assert sum(map(len, parts)) == len(set.union(*parts)) == data.metadata["distinct_texts"] == 216
    assert [len(part) for part in parts] == [172, 22, 22]
    assert all(0 < part.labels.mean() < 1 for part in data[:3])


def test_the_files_order_does_not_decide_the_split(tmp_path):
    one = spy_messages(write(tmp_path, table(ROWS)))
    order = np.random.default_rng(0).permutation(len(ROWS))
    two = spy_messages(write(tmp_path, table([ROWS[i] for i in order])))
    assert all(a.texts == b.texts and a.labels.equal(b.labels) for a, b in zip(one[:3], two[:3], strict=True))
    places = [next(i for i, (text, _) in enumerate(ROWS) if text == found) for found in one.test.texts]
    assert np.ptp(places) > 100  # from the whole file, not from its end


def test_limit_keeps_the_first_training_messages_only(tmp_path):
    whole, few = (spy_messages(write(tmp_path, table(ROWS)), limit=limit) for limit in (None, 7))
    assert few.train.texts == whole.train.texts[:7] and few.train.labels.equal(whole.train.labels[:7])
    assert few.test.texts == whole.test.texts and few.validation.texts == whole.validation.texts
    fails("limit", spy_messages, tmp_path, limit=0)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_another_key_is_another_split_of_the_same_texts(tmp_path):
    path = write(tmp_path, table(ROWS))
    one, two, again = (spy_messages(path, split_key=key) for key in ("2017", "other", "other"))
    assert two.train.texts == again.train.texts and one.train.texts == spy_messages(path).train.texts
    assert {*one.test.texts} != {*two.test.texts}
    assert {text for part in one[:3] for text in part.texts} == {text for part in two[:3] for text in part.texts}
    assert not {*two.test.texts} & ({*two.train.texts} | {*two.validation.texts})


def test_any_table_with_two_columns(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"\xef\xbb\xbfstars,review\n" + b"".join(b"%d,%c\n" % (i % 2 * 4 + 1, 97 + i) for i in range(20)))
    data = labelled_messages(path, "review", "stars")
    assert data.classes == ("1", "5") and data.metadata["file"] == "reviews.csv"
    assert all(label == ((ord(text) - 97) % 2) for text, label in zip(data.train.texts, data.train.labels, strict=True))
    fails([str(path), "columns text and stars", "stars, review"], labelled_messages, path, "text", "stars")
    fails("once each", labelled_messages, path, "review", "review")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "found an empty file"),
        (b"\n\n", "found an empty file"),
        (table([]), "found no rows"),
        (table(ROWS[:9]), "at least 10 different texts"),
        (table([("same", "bullish"), ("Same", "bearish")] * 20), "found 1"),
        (table([(text, "bullish") for text, _ in ROWS]), "found 1: bullish"),
        (table([*ROWS, ("x", "neutral")]), "found 3: bearish, bullish, neutral"),
        (table([(text, label.replace("bull", "Bull")) for text, label in ROWS]), "Bullish"),
        (table([*ROWS, ("x", " ")]), ["line 434", "expected a label"]),
        (table(ROWS).replace(b"\r\n5,", b"\r\n5,6,"), ["line 13: expected 3 fields, found 4"]),
        (table(ROWS, ("", "text", "sentiment")), ["message", ", text, sentiment"]),
        (table(ROWS, ("message", "message", "sentiment")), "once each"),
        (table(ROWS)[:-10], ["line 432", "expected a label"]),
        (table(ROWS)[:-30], ["line 432", "quotation marks"]),
        (b'index,message,sentiment\n0,"never closed,bullish\n', "found 1: bullish"),
        (table(ROWS).decode().encode("utf-16"), "UnicodeDecodeError"),
        (table(ROWS).replace(b"hold", b"h\xe4ld"), "UnicodeDecodeError"),
        (b"<!doctype html><title>Sign in</title>", "web page"),
        (b"PK\x03\x04" + bytes(100), "columns message and sentiment"),
    ],
)
def test_damaged_tables(tmp_path, data, expected):
    expected = [expected] if isinstance(expected, str) else expected
    for name in load_messages.MESSAGES_NAMES:
        fails([name, *expected], spy_messages, write(tmp_path, data, name))
        (tmp_path / "stocktwits" / name).unlink()


def test_damaged_at_random(tmp_path):
    path = write(tmp_path, table(ROWS)) / "stocktwits" / NAME
    refused = 0
    for data in damaged_at_random(path.read_bytes(), 150):
        path.write_bytes(data)
        try:
            spy_messages(tmp_path)
        except DataError:
            refused += 1
    assert refused > 100


def test_hostile_texts_are_only_texts(tmp_path):
    rows = [
        ("\x00\x1b[31m", "bullish"),
        ("\u202e evil", "bearish"),
        ("=1+1", "bullish"),
        ("a" * 100_000, "bullish"),
        ("$" * 50_000, "bearish"),
        ("@" * 50_000 + "x", "bearish"),
        ("1,.1" * 10_000, "bullish"),
        ("1" * 100_000 + "%", "bullish"),
        ("&" * 50_000 + "amp;", "bearish"),
        ("www." * 10_000, "bullish"),
        ("a.b-" * 30_000, "bearish"),
        ("", "bullish"),
        ("it's" * 5000, "bearish"),
    ]
    data = spy_messages(write(tmp_path, table(rows)))
    assert data.metadata["distinct_texts"] == len(rows)
    assert all(tokenize_as_tutorial(text) for text, _ in rows)


def test_the_sample_serves_where_nothing_can_be_fetched(tmp_path, capsys):
    sample = spy_messages("/no/such/folder", "sample")
    assert sample.metadata["data"] == "sample" and sample.metadata["file"] == "messages.csv"
    assert sample.metadata["distinct_texts"] == sample.metadata["messages"] >= 600
    assert abs(sample.metadata["bullish_share"] - 0.5) < 0.05 and not sample.metadata["contradicting_texts"]
    assert not capsys.readouterr().err
    instead = spy_messages(tmp_path, "auto")
    assert instead.train.texts == sample.train.texts and NAME in instead.metadata["notice"]
    assert "NOTICE" in capsys.readouterr().err
    fails([NAME, "127.0.0.1:9", "put it there", "--source sample"], spy_messages, tmp_path, "full")
    assert not list(tmp_path.rglob("*.part"))
    fails("/no/such/folder", spy_messages, "/no/such/folder")


def test_the_download_is_checked_and_kept(tmp_path, monkeypatch):
    def fetch(url, path, digest):
        assert url == load_messages.MESSAGES_URL and digest == load_messages.MESSAGES_SHA256
        write(tmp_path, table(ROWS))

    monkeypatch.setattr(load_messages, "download", fetch)
    assert spy_messages(tmp_path).metadata["file"] == NAME


def test_every_data_set_is_reached_through_load_data():
    assert load_data.spy_messages is spy_messages and load_data.labelled_messages is labelled_messages


@pytest.mark.skipif(not (REAL / "stocktwits" / NAME).exists(), reason="DATA_DIR has no $SPY messages")
def test_real_messages():
    path = REAL / "stocktwits" / NAME
    assert sha256(path.read_bytes()).hexdigest() == load_messages.MESSAGES_SHA256
    data = spy_messages(REAL, "full")
    metadata = data.metadata
    assert (metadata["messages"], metadata["distinct_texts"], metadata["contradicting_texts"]) == (96_967, 91_066, 256)
    assert (metadata["train"], metadata["validation"], metadata["test"]) == (72_852, 9_107, 9_107)
    assert metadata["bullish_share"] == pytest.approx(0.5538, abs=5e-5)
    lengths = [len(tokenize(text)) for text in data.train.texts]
    assert np.median(lengths) == 15 and max(lengths) == 63
