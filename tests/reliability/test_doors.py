"""Every file that a person hands to a script, damaged at random: the promised result, or one line and status 2.

The loaders by themselves are in test_loaders.py; here the files go in by the flags of the scripts, and what is checked
is what the scripts leave. A dozen files per door in `make test`, 500 in `make reliability`; the same ones every time.
"""

import io
import sys

import movement_archive
import numpy as np
import pytest
import test_price_files
import torch
from fuzzing import changed_bytes, changed_text, put, zipped
from hypothesis import strategies as st
from tiny_models import IMAGES, LINES, PRICES, SEQUENCES, SERIES, STOCKS, TOY, TS, VOWELS, gzipped, message_table
from tiny_training import rows

from lstm_studies.loaders import messages as load_messages
from lstm_studies.loaders import mnist, movement, published_alstm
from lstm_studies.loaders.files import DataError
from lstm_studies.training import tables

pytestmark = [
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # of a file that fails
    pytest.mark.usefixtures("no_flush"),
]
SHORT, FEW = 12, 2  # files of a loader, and of a script, in `make test`


def numbers(path, *names):
    """Columns of such a file as numbers, all of which must be finite."""
    values = np.array([[float(row[name]) for name in names] for row in rows(path)])
    assert np.isfinite(values).all()
    return values


# ---- own tables of sequences and of prices ---------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["reconstruct", "encode"])
def test_any_table_of_sequences(tmp_path, fuzz, door, tiny_model, function):
    more = TOY if function == "reconstruct" else ["--model_from", tiny_model("sequences")]

    def load(data):
        return door("lstm_ae_toy", "--function", function, "--data", put(tmp_path / "mine.csv", data), *more)

    def check(metrics):
        if function == "reconstruct":
            assert 0 <= metrics["test_mse"] <= 1 and metrics["data"] == "own"
        else:
            codes = numbers(tmp_path / "outputs" / "encode" / "codes.csv", "z1", "z2")
            assert len(codes) == metrics["sequences"]

    fuzz(changed_text(SEQUENCES) | changed_text(SEQUENCES).map(gzipped), load, check, FEW)


@pytest.mark.parametrize("form", ["rows", "columns", "zip"])
def test_any_table_of_prices(tmp_path, fuzz, door, tiny_model, form):
    """Trained on, or handed to a trained model."""
    text, name = SERIES if form == "columns" else PRICES, "mine.zip" if form == "zip" else "mine.csv"
    functions = {
        "reconstruct": [*STOCKS, "--input_size", "2"],
        "encode": ["--model_from", tiny_model("prices")],
        "tomorrow": ["--model_from", tiny_model("tomorrow")],
    }
    files = changed_text(text)
    if form == "zip":
        files = files.map(lambda data: zipped({"mine.csv": data})) | changed_bytes(zipped({"mine.csv": text.encode()}))

    def load(example):
        function, data = example
        more = functions[function]
        return function, door("lstm_ae_snp500", "--function", function, "--data", put(tmp_path / name, data), *more)

    def check(left):
        function, metrics = left
        folder = tmp_path / "outputs" / function
        if function == "reconstruct":
            assert 0 <= metrics["test_mse"] <= 1
        elif function == "encode":
            assert len(numbers(folder / "codes.csv", "z1")) == metrics["windows"]
        else:
            assert len(numbers(folder / "tomorrow.csv", "high", "next_high")) == metrics["stocks"]

    fuzz(st.tuples(st.sampled_from(list(functions)), files), load, check, FEW)


# ---- images ----------------------------------------------------------------------------------------------------------


@st.composite
def image_folders(draw):
    """One file changed, left out, or under another name."""
    files, name = dict(IMAGES), draw(st.sampled_from(list(IMAGES)))
    content = files.pop(name)
    name = draw(st.sampled_from([name] * 6 + ["my-train-images.gz", "test-labels", "images", "train-Labels"]))
    if draw(st.integers(0, 9)):
        files[name] = draw(changed_bytes(content))
    return files


def test_any_folder_of_images(tmp_path, fuzz):
    folders = iter(range(10**6))

    def load(files):
        folder = tmp_path / str(next(folders))
        for name, content in files.items():
            put(folder / name, content)
        return mnist.own_images(folder)

    def check(images):
        sizes = [len(part) for part in images[:6]]
        assert sizes[0] == sizes[1] and sizes[2] == sizes[3] == 1 and sizes[4] == sizes[5] > 0
        assert all(part.shape[1:] == (28, 28) for part in images[:6:2])
        labels = torch.cat(images[1:6:2])
        assert labels.unique().tolist() == list(range(images.metadata["classes"]))

    fuzz(image_folders(), load, check, SHORT)


def test_any_images_to_encode(tmp_path, fuzz, door, tiny_model):
    model = tiny_model("images")

    def load(data):
        path = put(tmp_path / "images", data)
        return door("lstm_ae_mnist", "--function", "encode", "--data", path, "--model_from", model)

    def check(metrics):
        assert len(numbers(tmp_path / "outputs" / "encode" / "codes.csv", "z1", "z2")) == metrics["images"]

    whole = IMAGES["my-train-images"]
    fuzz(changed_bytes(whole) | st.sampled_from([whole, gzipped(whole)]), load, check, FEW)


# ---- sequences with classes ------------------------------------------------------------------------------------------


@st.composite
def ts_files(draw):
    """Both files, one of them changed."""
    name = draw(st.sampled_from(["train", "test"]))
    return {
        **{part: text.encode() for part, text in TS.items()},
        name: draw(changed_text(TS[name], draw(st.sampled_from(",:")))),
    }


def put_ts(folder, files):
    return [word for part, data in files.items() for word in (f"--{part}", str(put(folder / f"{part}.ts", data)))]


def test_any_pair_of_ts_files(tmp_path, fuzz, door):
    def load(files):
        return door("jv_training", "--function", "basic", *VOWELS, *put_ts(tmp_path, files))

    def check(metrics):
        assert metrics["data"] == "own" and 0 <= metrics["test_accuracy"] <= 1 and metrics["test_log_loss"] >= 0

    fuzz(ts_files(), load, check, FEW)


def test_any_ts_file_to_classify(tmp_path, fuzz, door, tiny_model):
    model = tiny_model("classes")

    def load(data):
        path = put(tmp_path / "mine.ts", data)
        return door("jv_training", "--function", "predict", "--data", path, "--model_from", model)

    def check(metrics):
        shares = numbers(tmp_path / "outputs" / "predict" / "predictions.csv", "probability a", "probability b")
        assert len(shares) == metrics["sequences"] and np.allclose(shares.sum(1), 1, atol=1e-5)

    fuzz(changed_text(TS["test"]) | changed_text(TS["test"], ":"), load, check, FEW)


# ---- own daily prices ------------------------------------------------------------------------------------------------


FORMS = test_price_files.FORMS


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_prices(tmp_path, fuzz, form):
    def check(table):
        days = (len(table.tickers), len(table.dates))
        assert table.features.shape == (*days, 11) and table.labels.shape == table.adjusted.shape == days
        assert (
            all(ticker.strip() for ticker in table.tickers)
            and not np.isinf(table.features).any()
            and not (table.adjusted <= 0).any()
        )

    fuzz(changed_text(FORMS[form]), lambda data: movement.price_table(put(tmp_path / "AAPL.csv", data)), check, SHORT)


def test_any_prices_to_predict(tmp_path, fuzz, door, tiny_model):
    model = tiny_model("movement")

    def load(data):
        path = put(tmp_path / "AAPL.csv", data)
        return door("adv_alstm", "--function", "predict", "--dataset", path, "--model_from", model)

    def check(metrics):
        scores = numbers(tmp_path / "outputs" / "predict" / "predictions.csv", "score")
        assert 0 < len(scores) == metrics["rows"]

    rows = movement_archive.random_prices(3)
    texts = [movement_archive.price_file(rows, american, american) for american in (False, True)]
    header, *lines = texts[0].splitlines()  # a long file of two stocks:
    texts.append("\n".join([f"{header},Symbol", *(f"{line},{stock}" for stock in "AB" for line in lines)]) + "\n")
    fuzz(st.sampled_from(texts).flatmap(changed_text), load, check, FEW)


# ---- messages --------------------------------------------------------------------------------------------------------

CLOTHES = {  # separator and encoding
    "comma": (",", "utf-8"),
    "semicolon": (";", "utf-8-sig"),
    "tab": ("\t", "utf-16"),
    "latin1": (",", "cp1252"),
}


def dressed(data, encoding):
    """UTF-8 bytes, damaged perhaps, in another encoding."""
    return data.decode("utf-8", "replace").encode(encoding, "replace")


def dressed_tables(clothes):
    """Tables of messages, changed before the encoding or after it."""
    separator, encoding = CLOTHES[clothes]
    text = message_table(separator)
    changed = changed_text(text, separator).map(lambda data: dressed(data, encoding))
    return changed | changed_bytes(dressed(text.encode(), encoding))


@pytest.mark.parametrize("clothes", CLOTHES)
def test_any_labelled_messages(tmp_path, fuzz, clothes):
    def check(messages):
        parts = [{load_messages.normalize(text) for text in part.texts} for part in messages[:3]]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert all(part.texts and set(part.labels.tolist()) <= {0.0, 1.0} for part in messages[:3])

    def load(data):
        return load_messages.labelled_messages(put(tmp_path / "mine.csv", data), "text", "label")

    fuzz(dressed_tables(clothes), load, check, SHORT)


@pytest.mark.parametrize("kind", ["table", "lines", "input"])
def test_any_messages_to_score(tmp_path, fuzz, door, tiny_model, monkeypatch, kind):
    model = tiny_model("messages")
    files = changed_text("\n".join(LINES) + "\n", " ") | st.sampled_from([b"", b"\0b\0u\0y", b"\xff\xfeb"])
    if kind == "table":
        files = st.sampled_from(list(CLOTHES)).flatmap(dressed_tables)
    name = {"lines": "mine.txt", "input": "-"}.get(kind, "mine.csv")

    def load(data):
        path = name if name == "-" else put(tmp_path / name, data)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        column = ["--text_column", "text"]
        try:
            return door("stocktwits_sentiment", "--function", "predict", "--data", path, "--model_from", model, *column)
        except DataError as error:
            raise DataError(str(error).replace("standard input", str(tmp_path))) from None

    def check(metrics):
        left = rows(tmp_path / "outputs" / "predict" / "predictions.csv")
        assert len(left) == metrics["messages"] > 0
        assert all(0 <= float(row["probability"]) <= 1 for row in left)
        assert all(tables.as_text(row[name]) == row[name] for row in left for name in ("message", "words"))

    fuzz(files, load, check, FEW)


# ---- the published archive -------------------------------------------------------------------------------------------


def unpacked(folder, files):
    for name, content in files.items():
        put(folder / name, content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize("dataset", ["acl18", "kdd17"])
def test_any_published_model(tmp_path, fuzz, dataset, packed):
    """Arrays of NumPy, and a file of raw float32."""
    files = movement_archive.saved_models()
    names = [name for name in files if dataset in name]

    def load(example):
        name, data = example
        if packed:
            content = {f"Adv-ALSTM-master/{n}": data if n == name else own for n, own in files.items()}
            put(tmp_path / "adv_alstm" / "Adv-ALSTM-master.zip", zipped(content))
        else:
            unpacked(tmp_path / "adv_alstm" / "Adv-ALSTM", {**files, name: data})
        try:
            return published_alstm.published_variables(tmp_path, dataset, "full")
        finally:
            if not packed:
                put(tmp_path / "adv_alstm" / "Adv-ALSTM" / name, files[name])

    def check(variables):
        shapes = published_alstm.variable_shapes(published_alstm.UNITS[dataset])
        assert {name: tuple(value.shape) for name, value in variables.items()} == shapes
        assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in variables.values())

    fuzz(st.sampled_from(names).flatmap(lambda n: st.tuples(st.just(n), changed_bytes(files[n]))), load, check, SHORT)


@pytest.mark.parametrize("recompute", [False, True], ids=["features", "prices"])
def test_any_unpacked_archive(tmp_path, monkeypatch, fuzz, recompute):
    monkeypatch.setattr(movement, "MOVEMENT_SETS", movement_archive.SETS)
    files = movement_archive.members()
    names = [name for name in files if "stocknet" in name and ("raw" if recompute else "ourpped") in name]
    names.append(next(name for name in files if "stocknet" in name and "trading_dates" in name))
    folder = tmp_path / "adv_alstm" / "Adv-ALSTM"
    unpacked(folder, files)

    def load(example):
        name, data = example
        put(folder / name, data)
        try:
            return movement.stock_movement(tmp_path, "acl18", "full", steps=3, recompute=recompute)
        finally:
            put(folder / name, files[name].encode())

    def check(found):
        for part in found[:3]:
            assert len(part.x) == len(part.y) > 0 and torch.isfinite(part.x).all()

    fuzz(st.sampled_from(names).flatmap(lambda n: st.tuples(st.just(n), changed_text(files[n]))), load, check, SHORT)
