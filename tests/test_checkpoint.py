"""Checkpoints: whole or absent, verified, harmless, and able to rebuild their model."""

import os
import pickle
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import Hostile, saved, seal
from torch import nn

from lstm_studies.models.lstm_ae import ConvLSTMAutoencoder, LSTMAutoencoder
from lstm_studies.training import checkpoint
from lstm_studies.training.checkpoint import CheckpointError

OLD, NEW = {"epoch": 1, "weights": torch.arange(3.0)}, {"epoch": 2, "weights": torch.arange(3.0) + 1}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# ---- contents --------------------------------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    content = {
        "text": "é",
        "none": None,
        "yes": True,
        "list": [1, float("inf")],
        "tuple": (1, "a"),
        "nested": {"a": {"b": 1}},
        "float64": torch.tensor([1 / 3], dtype=torch.float64),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
    }
    checkpoint.save(tmp_path / "a.pt", content)
    read = checkpoint.load(tmp_path / "a.pt")
    assert list(read) == list(content)
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            assert read[name].dtype == value.dtype and torch.equal(read[name], value)
        else:
            assert read[name] == value and type(read[name]) is type(value)
    assert names(tmp_path) == ["a.pt"]


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (
            LSTMAutoencoder(
                2, 5, 3, num_layers=2, num_classes=4, prediction_size=2, encoding_periods=[4.0], timescale=9
            ),
            torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(0)),
        ),
        (
            ConvLSTMAutoencoder((4,), 3, channels=2, num_classes=3, dropout=0.5, encoding_periods=[4.0]),
            torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0)),
        ),
        (ConvLSTMAutoencoder((2, 3), 3, channels=2), torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))),
    ],
)
def test_rebuilds_its_model(tmp_path, model, x):
    checkpoint.save(tmp_path / "best.pt", {"model": checkpoint.describe(model), "epoch": 1})
    torch.manual_seed(1)
    rebuilt = checkpoint.rebuild(tmp_path / "best.pt", LSTMAutoencoder, ConvLSTMAutoencoder)
    assert type(rebuilt) is type(model) and rebuilt is not model and not rebuilt.training
    assert rebuilt.arguments == model.arguments
    model.eval()
    for mine, other in zip(rebuilt(x), model(x), strict=True):
        assert (mine is None and other is None) or torch.equal(mine, other)


def round_trip(path, model):
    checkpoint.save(path, {"model": checkpoint.describe(model)})
    return checkpoint.rebuild(path, LSTMAutoencoder, ConvLSTMAutoencoder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rebuilds_in_the_types_of_the_weights(tmp_path, dtype):
    for model in (LSTMAutoencoder(2, 5, 3), ConvLSTMAutoencoder((4,), 3, channels=2)):
        rebuilt = round_trip(tmp_path / "best.pt", model.to(dtype))
        for mine, other in zip(rebuilt.parameters(), model.parameters(), strict=True):
            assert mine.dtype == dtype and torch.equal(mine, other) and mine.requires_grad
    mixed = LSTMAutoencoder(2, 5, 3)
    mixed.output.double()
    assert [p.dtype for p in round_trip(tmp_path / "best.pt", mixed).parameters()] == [
        p.dtype for p in mixed.parameters()
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {
            "dropout": np.float64(0.25),
            "timescale": np.int64(7),
            "input_mean": np.float32(0.5),
            "log_probabilities": np.bool_(True),
        },
        {"encoding_periods": np.array([6.0, 3.0]), "head": np.str_("deep"), "num_classes": np.int32(2)},
        {
            "encoding_periods": torch.tensor([6.0, 3.0]),
            "input_mean": torch.tensor(0.5),
            "input_std": torch.tensor([0.25])[0],
        },
        {"encoding_periods": (np.float64(6.0), torch.tensor(3.0))},
        {"timescale": 20_000, "checkpoint_steps": 16_384},
        {"input_mean": torch.tensor([0.5, 0.25]), "input_std": np.array([1.0, 2.0])},
    ],
    ids=str,
)
def test_rebuilds_from_numbers_of_numpy_and_torch(tmp_path, arguments):
    model, x = LSTMAutoencoder(2, 5, 3, **arguments).eval(), torch.rand(3, 6, 2)
    rebuilt = round_trip(tmp_path / "best.pt", model)
    assert rebuilt.arguments == checkpoint.describe(model)["arguments"]
    assert all(type(value) in (int, float, bool, str, list, type(None)) for value in rebuilt.arguments.values())
    assert torch.equal(rebuilt(x).reconstruction, model(x).reconstruction)


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda model: torch.compile(nn.DataParallel(model)),
    ],
    ids=["compiled", "parallel", "averaged", "both"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # by the compiler itself
def test_rebuilds_the_model_in_a_wrapper(tmp_path, wrap):
    model, x = LSTMAutoencoder(2, 5, 3).eval(), torch.rand(3, 6, 2)
    rebuilt = round_trip(tmp_path / "best.pt", wrap(model))
    assert type(rebuilt) is LSTMAutoencoder and torch.equal(rebuilt(x).reconstruction, model(x).reconstruction)
    with pytest.raises(TypeError, match="expected a model with its constructor's `arguments`, found a Linear"):
        checkpoint.describe(wrap(nn.Linear(1, 1)))


def test_numbers_of_numpy_are_read_as_python_s(tmp_path):
    content = {"epoch": np.int64(3), "losses": [np.float32(0.5), (np.float64(1.5),)], "grid": {"H": np.arange(3)}}
    checkpoint.save(tmp_path / "a.pt", content)
    read = checkpoint.load(tmp_path / "a.pt")
    assert read == {"epoch": 3, "losses": [0.5, (1.5,)], "grid": {"H": [0, 1, 2]}} and type(read["epoch"]) is int


@pytest.mark.parametrize(
    "value", [Path("a"), nn.Linear(1, 1), object(), len, np.datetime64("2020-01-01"), {"a": [b"b", range(3)]}]
)
def test_what_could_not_be_read_is_not_written(tmp_path, value):
    with pytest.raises(TypeError, match="expected plain types and tensors in a checkpoint, found"):
        checkpoint.save(tmp_path / "a.pt", {"value": value})
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "\x00", "\u202etxt"])
def test_messages_hold_no_control_codes(tmp_path, name):
    path = tmp_path / "best.pt"
    checkpoint.save(path, {"model": {"name": name, "arguments": {}, "weights": {}}})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.rebuild(path, LSTMAutoencoder)
    assert str(caught.value).isprintable() and "expected a model of LSTMAutoencoder" in str(caught.value)
    checkpoint.save(path, {"model": {"name": "LSTMAutoencoder", "arguments": {"head": name, name: 1}, "weights": {}}})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.rebuild(path, LSTMAutoencoder)
    assert str(caught.value).isprintable()


def test_rebuild_of_another_class(tmp_path):
    path = tmp_path / "best.pt"
    checkpoint.save(path, {"model": checkpoint.describe(LSTMAutoencoder(1, 2))})
    with pytest.raises(CheckpointError, match=r"expected a model of ConvLSTMAutoencoder, found LSTMAutoencoder"):
        checkpoint.rebuild(path, ConvLSTMAutoencoder)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model": None},
        {"model": [1]},
        {"model": {"arguments": {}}},
        {"model": {"name": "LSTMAutoencoder"}},
        {"model": {"name": "LSTMAutoencoder", "arguments": {"width": 3}, "weights": {}}},
        {"model": {"name": "LSTMAutoencoder", "arguments": {"input_size": 1, "hidden_size": 2}, "weights": {}}},
        {"model": {"name": "LSTMAutoencoder", "arguments": {"input_size": 1, "hidden_size": "2"}, "weights": {}}},
    ],
)
def test_rebuild_from_what_is_no_model(tmp_path, content):
    checkpoint.save(tmp_path / "best.pt", content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.rebuild(tmp_path / "best.pt", LSTMAutoencoder)
    assert "best.pt" in str(caught.value) and "\n" not in str(caught.value)


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_noticed(tmp_path):
    path, chance = tmp_path / "a.pt", random.Random(0)
    checkpoint.save(path, {"weights": torch.arange(20.0), "epoch": 3})
    whole = path.read_bytes()
    seal_bytes = range(len(whole) - len(checkpoint.SEAL) - 64, len(whole))  # each of them, and 200 elsewhere
    for place in (*seal_bytes, *(chance.randrange(len(whole)) for _ in range(200))):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.pt"):
            checkpoint.load(path)


def test_every_truncation_is_noticed(tmp_path):
    path, chance = tmp_path / "a.pt", random.Random(0)
    checkpoint.save(path, {"weights": torch.arange(20.0), "epoch": 3})
    whole = path.read_bytes()
    for length in (*range(5), 63, 64, 71, 72, 73, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(50))):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.pt"):
            checkpoint.load(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_missing_empty_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing\.pt.*No such file"):
        checkpoint.load(tmp_path / "missing.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match=r"empty\.pt.*0 bytes"):
        checkpoint.load(tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="found a folder"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("pack", [saved, lambda content: pickle.dumps(content, protocol=2)])
def test_hostile_content_does_not_run(tmp_path, pack):
    data = pack({"model": Hostile(tmp_path / "ran")})
    pickle.loads(pickle.dumps(Hostile(tmp_path / "armed")))  # it would work
    assert (tmp_path / "armed").exists()
    seal(tmp_path / "a.pt", data)
    with pytest.raises(CheckpointError, match="plain types"):
        checkpoint.load(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_whole_modules_are_refused(tmp_path):
    seal(tmp_path / "a.pt", saved({"model": nn.Linear(1, 1)}))
    with pytest.raises(CheckpointError, match="plain types"):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_forged_content_with_a_right_checksum(tmp_path):
    """Whatever it is: a CheckpointError of one line, or a dictionary."""
    chance, base = random.Random(0), saved({"weights": torch.ones(3), "list": [1, 2]})
    forged = [b"", b"text", b"\x80\x02R.", base[:-30], saved([1]), saved(torch.ones(2))]
    forged += [b"\x80\x02" + chance.randbytes(30) for _ in range(50)]
    for _ in range(100):
        data = bytearray(base)
        for _ in range(5):
            data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        forged.append(bytes(data))
    refused = 0
    for data in forged:
        seal(tmp_path / "a.pt", data)
        try:
            assert isinstance(checkpoint.load(tmp_path / "a.pt"), dict)
        except CheckpointError as error:
            refused += 1
            assert "a.pt" in str(error) and "\n" not in str(error)
    assert refused > 100


# ---- the previous file -----------------------------------------------------------------------------------------------


def test_keeps_the_previous_one(tmp_path):
    path = tmp_path / "last.pt"
    for epoch in (1, 2, 3):
        checkpoint.save(path, {"epoch": epoch}, keep_previous=True)
    assert checkpoint.load(path) == {"epoch": 3}
    assert checkpoint.load(checkpoint.previous(path)) == {"epoch": 2}
    assert names(tmp_path) == ["last.previous.pt", "last.pt"]


def test_keeps_the_previous_one_without_hard_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    test_keeps_the_previous_one(tmp_path)


def test_latest_falls_back_with_a_warning(tmp_path):
    path = tmp_path / "last.pt"
    assert checkpoint.load_latest(path) is None
    checkpoint.save(path, OLD, keep_previous=True)
    checkpoint.save(path, NEW, keep_previous=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.load_latest(path)["epoch"] == 2
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.warns(UserWarning, match=r"last\.pt: .*going on from last\.previous\.pt"):
        assert checkpoint.load_latest(path)["epoch"] == 1
    path.unlink()
    assert checkpoint.load_latest(path)["epoch"] == 1
    path.write_bytes(b"")
    checkpoint.previous(path).write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=r"last\.pt: .*; .*last\.previous\.pt: .* bytes\)$"):
        checkpoint.load_latest(path)
    checkpoint.save(tmp_path / "best.pt", NEW)
    with pytest.raises(CheckpointError, match=r"bytes\); its best\.pt is whole: what applies a model takes it"):
        checkpoint.load_latest(path)


# ---- writing that fails ----------------------------------------------------------------------------------------------


def fail_at(monkeypatch, number):
    """Makes the call `number` (from 1) of os.fsync and os.replace fail; returns the list of calls so far."""
    calls = []

    def failing(name, function):
        def call(*arguments):
            calls.append(name)
            if len(calls) == number:
                raise OSError(28, "No space left on device")
            return function(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, failing(name, getattr(os, name)))
    return calls


@pytest.mark.skipif(os.name != "posix", reason="only there is the folder flushed")
def test_steps_of_a_write(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, OLD)
    with monkeypatch.context() as patch:
        calls = fail_at(patch, None)
        checkpoint.save(path, NEW, keep_previous=True)
    assert calls == ["fsync", "replace", "replace", "fsync"]  # content, previous, the file itself, folder


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_failed_write_leaves_the_old_one(tmp_path, monkeypatch, number, linked):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"epoch": 0}, keep_previous=True)
    checkpoint.save(path, OLD, keep_previous=True)
    handles = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    with monkeypatch.context() as patch:
        if not linked:
            patch.delattr(os, "link")
            patch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")), raising=False)
        fail_at(patch, number)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(path, NEW, keep_previous=True)
    # the fourth call is that of the folder, after the file is in its place
    assert checkpoint.load(path)["epoch"] == (2 if number == 4 else 1)
    assert checkpoint.load(checkpoint.previous(path))["epoch"] == (0 if number <= 2 else 1)
    assert names(tmp_path) == ["last.previous.pt", "last.pt"]
    if handles is not None:
        assert len(os.listdir("/proc/self/fd")) == handles
    checkpoint.save(path, NEW, keep_previous=True)
    assert checkpoint.load(path)["epoch"] == 2


def test_first_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    for number in (1, 2):
        with monkeypatch.context() as patch:
            fail_at(patch, number)
            with pytest.raises(OSError, match="No space left"):
                checkpoint.save(tmp_path / "last.pt", NEW, keep_previous=True)
        assert names(tmp_path) == []


@pytest.mark.parametrize("cls", [LSTMAutoencoder, ConvLSTMAutoencoder])
def test_autoencoders_load_the_former_names_of_the_positional_encoding(tmp_path, cls):
    size = {"map_shape": [4], "code_size": 3} if cls is ConvLSTMAutoencoder else {"input_size": 4, "hidden_size": 5}
    model = cls(**size, encoding_periods=[6.0, 3.0]).eval()
    described = checkpoint.describe(model)
    arguments = described["arguments"] | {"clock_periods": [6.0, 3.0]}
    del arguments["encoding_periods"]
    weights = {name.replace("encoding_to_gates", "clock"): value for name, value in described["weights"].items()}
    assert ("clock.weight" in weights) == (cls is ConvLSTMAutoencoder)
    checkpoint.save(tmp_path / "best.pt", {"model": {**described, "arguments": arguments, "weights": weights}})
    rebuilt = checkpoint.rebuild(tmp_path / "best.pt", cls)
    x = torch.rand(2, 6, 4)
    assert torch.equal(rebuilt(x).reconstruction, model(x).reconstruction)
    assert rebuilt.arguments == model.arguments
