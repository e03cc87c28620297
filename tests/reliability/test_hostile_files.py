"""Run folders and checkpoints of others, damaged and forged, and files made to hang or to fill the memory.

Whatever stands in a file: the promised result, or one line and status 2, in bounded memory.
"""

import contextlib
import copy
import csv
import functools
import gzip
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from fuzzing import changed_bytes, put, saved, seal
from hypothesis import strategies as st
from trainings import ROOT

from lstm_studies.loaders import messages, mnist, prices, text_files, toy, ts_files
from lstm_studies.loaders.files import MAX_BYTES, DataError
from lstm_studies.training import checkpoint, tables

pytestmark = [
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),  # of a file that fails
    pytest.mark.filterwarnings("ignore:.*going on from last.previous.pt"),
    pytest.mark.usefixtures("no_flush"),
]

# ---- checkpoints -----------------------------------------------------------------------------------------------------

# Model, function, and the flag that takes its run folder or a checkpoint of it.
DOORS = {
    "toy": ("sequences", "encode", "model_from"),
    "prices": ("prices", "encode", "model_from"),
    "tomorrow": ("tomorrow", "tomorrow", "model_from"),
    "images": ("images", "encode", "model_from"),
    "classes": ("classes", "predict", "model_from"),
    "pretrained": ("classes", "adversarial", "pretrained"),
    "movement": ("movement", "predict", "model_from"),
    "start": ("movement", "train", "start"),
    "messages": ("messages", "predict", "model_from"),
}
FORGED = [None, True, -1, 0, 1, 3, 10**6, 10**12, -0.5, 0.5, 1e300, math.nan, "", "x", [], [1], {}, {"x": 1}]
FORGED += [torch.zeros(0), torch.zeros(3), torch.full((2, 2), math.nan), torch.zeros(2, dtype=torch.int64)]


def places(content, path=()):
    """The paths of all parts of nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def model_places(content):
    """The paths that decide a model and its settings; the state of the optimizer is for resuming."""
    return [path for path in places(content) if path[0] in ("model", "flags", "epoch", "averaged", "format")]


@st.composite
def forged(draw, content):
    """A checkpoint with one to three parts left out or replaced."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(model_places(content) or [("x",)]))
        owner = content
        for key in path[:-1]:
            owner = owner[key]
        if draw(st.integers(0, 3)) == 0:
            with contextlib.suppress(LookupError):
                del owner[path[-1]]
        else:
            owner[path[-1]] = draw(st.sampled_from(FORGED))
    return content


@st.composite
def run_folders(draw, folder):
    """Name and new content, bytes or a dictionary, of one checkpoint of a run folder."""
    name = draw(st.sampled_from(["best.pt", "last.pt"]))
    if draw(st.integers(0, 3)) == 0:
        return name, draw(changed_bytes((folder / name).read_bytes()))
    return name, draw(forged(checkpoint.load(folder / name)))


def arguments(door, folder, tmp_path):
    """Flags beside the one that is tested, for a run of milliseconds."""
    name, function, flag = DOORS[door]
    script, _, files, more = tiny_models.MODELS[name]
    argv = ["--function", function, f"--{flag}", folder / "best.pt" if flag == "start" else folder]
    if door == "messages":
        return script, [*argv, "--text", "buy the dip", "sell"]
    if flag != "model_from":
        argv += [*more, *("--epsilon 0.1 --basic_epochs 1".split() if flag == "pretrained" else [])]
    elif door == "classes":
        files = {"data": files["test"]}
    if flag != "model_from" or door in ("classes", "movement"):
        for key, content in files.items():
            argv += [f"--{key}", put(tmp_path / "data" / f"{key}.ts", content.encode())]
    return script, argv


@pytest.mark.parametrize("name", DOORS)
def test_any_checkpoint(tmp_path, fuzz, door, tiny_model, name):
    whole, folder = tiny_model(DOORS[name][0]), tmp_path / "trained"
    script, argv = arguments(name, folder, tmp_path)

    def load(example):
        file, content = example
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("grid", "folds", "seeds", "*.previous.pt"))
        if isinstance(content, dict):
            checkpoint.save(folder / file, content)
        else:
            put(folder / file, content)
        return door(script, *argv)

    def check(metrics):
        assert metrics
        assert not any(isinstance(value, float) and math.isnan(value) for value in metrics.values())

    fuzz(run_folders(whole), load, check, 2)


@st.composite
def edited(draw, folder):
    """Name and content of the config.json or metrics.json of a run, one to three values of it left out or replaced."""
    name = draw(st.sampled_from(["config.json", "metrics.json"]))
    content = json.loads((folder / name).read_text())
    for _ in range(draw(st.integers(1, 3))):
        *path, key = draw(st.sampled_from([*places(content)] or [("x",)]))
        owner = content
        for part in path:
            owner = owner[part]
        if draw(st.integers(0, 3)) == 0:
            owner.pop(key, None) if isinstance(owner, dict) else owner.clear()
        else:
            forged = draw(st.sampled_from([value for value in FORGED if not isinstance(value, torch.Tensor)]))
            owner[key] = copy.deepcopy(forged)  # the next change may be inside of it
    return name, content


READERS_OF_JSON = {name: (function, "--dry_run") for name, (_, function, *_) in tiny_models.MODELS.items()}


SLOW = ("classes", "movement", "tomorrow", "sequences")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.reliability] * (name in SLOW)) for name in (*READERS_OF_JSON, "up or down")],
)
def test_any_config_and_metrics_edited_by_hand(tmp_path, fuzz, door, tiny_model, name):
    """A dry run, and what reads the metrics beside a model: as before, or one line."""
    model = "movement" if name == "up or down" else name
    script, function, files, _ = tiny_models.MODELS[model]
    whole, folder = tiny_model(model), tmp_path / "outputs" / function
    argv = ["--function", function, "--dry_run"]
    if name == "up or down":
        data = put(tmp_path / "data", files["dataset"].encode())
        argv = ["--function", "predict", "--dataset", data, "--model_from", folder]

    def load(example):
        file, content = example
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        (folder / file).write_text(json.dumps(content))
        return door(script, *argv)

    fuzz(edited(whole), load, lambda metrics: metrics, 3, mixed=False)


# ---- files that are no files, and files that fill the memory ---------------------------------------------------------

READERS = {  # the functions that read one file of a person, by a name that such a file may have
    "sequences.csv": toy.read_sequences,
    "prices.csv": prices.own_prices,
    "prices.zip": prices.own_prices,
    "images": mnist.read_images,
    "classes.ts": ts_files.read_ts,
    "labelled.csv": functools.partial(messages.labelled_messages, text_column="text", label_column="label"),
    "messages.csv": functools.partial(text_files.read_texts, column="text"),
    "messages.txt": functools.partial(text_files.read_texts, column="text"),
    "best.pt": checkpoint.load,
    "metrics.json": tables.read_json,
}


def make_special(kind, path):
    if kind == "folder":
        path.mkdir()
        (path / "x.dat").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "link to itself": path, "broken link": path.with_name("none")}[kind])


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to itself", "broken link"])
def test_what_is_no_file(tmp_path, kind):
    """Refused at once: a pipe would block for ever, a device never end."""
    for name, read in READERS.items():
        path = tmp_path / name
        make_special(kind, path)
        with pytest.raises((DataError, checkpoint.CheckpointError)) as caught:
            read(path)
        assert str(path) in str(caught.value) and str(caught.value).isprintable()


HUGE = ["line", "digits", "columns", "features", "wide row", "rows", "gzip bomb", "zip bomb"]


def write_huge(path, kind):
    zeros = bytes(2**24)
    if kind == "line":  # 1 GiB without a line break
        with open(path, "wb") as file:
            file.truncate(2**30)
    elif kind == "digits":  # one cell of nearly as much as is read of a file
        path.write_bytes(b"text,label\n" + b"1" * (2**28 - 2**10))
    elif kind == "gzip bomb":  # 1 GiB, in parts
        path.write_bytes(gzip.compress(zeros, 1, mtime=0) * 64)
    elif kind == "zip bomb":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("prices.csv", "w", force_zip64=True) as member,
        ):
            for _ in range(64):
                member.write(zeros)
    else:
        start, part, number = {
            "columns": (b"", b"1,", 10**7),
            "features": (b"@data\n", b"1:", 10**7),
            "wide row": (b"text,label\n", b"1,", 10**7),
            "rows": (b"text,label\n", b"1,1\n", 3 * 10**7),
        }[kind]
        path.write_bytes(start + part * number)


def memory(name):
    """Bytes of this program, now or at its peak."""
    return 1024 * int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])


def in_a_program(program, *argv):
    """Runs lines of Python that import from the tests, with a memory of its own."""
    folders = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
    command = [sys.executable, "-c", program, *map(str, argv)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True)


def read_huge(folder, kind):
    """Every reader on a file of this kind; prints the peak of the memory. In a program of its own."""
    before = memory("VmRSS")
    for name, read in READERS.items():
        path = Path(folder, name)
        write_huge(path, kind)
        try:
            read(path)
        except (DataError, checkpoint.CheckpointError) as error:
            assert str(path) in str(error) and str(error).isprintable() and len(str(error)) < 1000, error
        path.unlink()
    print(memory("VmHWM") - before)


@pytest.mark.reliability
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["line", "digits", "columns", "features", "wide row", "rows", "gzip bomb", "zip bomb"])
def test_huge_files_do_not_fill_the_memory(tmp_path, count, kind):
    """Every reader takes each of them, of the right kind or not, in at most six times the bytes that it reads."""
    program = "import sys; from test_hostile_files import read_huge; read_huge(*sys.argv[1:])"
    ended = in_a_program(program, tmp_path, kind)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 6 * MAX_BYTES, f"{int(ended.stdout) / 2**20:.0f} MiB"
    count(len(READERS))


@pytest.mark.reliability
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_table_of_100_megabytes_is_read_in_bounded_memory(tmp_path):
    """1.5 million rows of prices, in at most 25 times their bytes."""
    with open(tmp_path / "prices.csv", "w") as file:
        file.write("date,symbol,open,high,low,close,volume\n")
        for day in np.arange("1990-01-01", "1998-03-20", dtype="datetime64[D]"):
            file.writelines(
                f"{day},S{stock},101.512345,102.512345,101.251234,102.012345,1000000\n" for stock in range(500)
            )
    size = (tmp_path / "prices.csv").stat().st_size
    assert 80e6 < size < 120e6
    program = "import sys; from test_hostile_files import read_prices_of; read_prices_of(sys.argv[1])"
    ended = in_a_program(program, tmp_path / "prices.csv")
    assert ended.returncode == 0, ended.stderr
    symbols, days, peak = ended.stdout.split()
    assert (int(symbols), int(days)) == (500, 3000) and int(peak) < 25 * size, f"{int(peak) / 2**20:.0f} MiB"


def read_prices_of(path):
    before = memory("VmRSS")
    read = prices.own_prices(path)
    print(len(read.symbols), len(read.dates), memory("VmHWM") - before)


def test_a_bomb_in_a_checkpoint(tmp_path):
    """Parts of zeros, compressed: 64 MiB in a file of some kilobytes, under the right checksum."""
    packed = io.BytesIO()
    whole = io.BytesIO(saved({"x": torch.zeros(2**24)}))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    path = seal(tmp_path / "best.pt", packed.getvalue())
    with pytest.raises(checkpoint.CheckpointError, match="its parts are larger than the file"):
        checkpoint.load(path)


# ---- links out of the folder -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no such links there")
def test_links_out_of_a_run_folder_lead_nowhere(tmp_path, door, tiny_model):
    """What a new run replaces and removes is in its folder; what links in it point at stays as it is."""
    outside = tmp_path / "outside"
    for name in ("best.pt", ".best.pt.1.tmp", "grid/history.csv"):
        put(outside / name, b"mine")
    folder = tmp_path / "outputs" / "reconstruct"
    folder.mkdir(parents=True)
    (folder / "best.pt").symlink_to(outside / "best.pt")
    (folder / "config.json").symlink_to(outside / "best.pt")
    (folder / "more").symlink_to(outside)
    (folder / ".x.tmp").symlink_to(outside / "best.pt")
    script, function, files, more = tiny_models.MODELS["sequences"]
    data = put(tmp_path / "mine.csv", files["data"].encode())
    assert door(script, "--function", function, "--data", data, *more)["data"] == "own"
    assert all(path.read_bytes() == b"mine" for path in outside.rglob("*") if path.is_file())
    assert len(list(outside.rglob("*"))) == 4 and not (folder / "best.pt").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="no such links there")
def test_a_grid_that_is_a_link_is_removed_and_what_it_points_at_is_not(tmp_path, door):
    outside = put(tmp_path / "outside" / "mine.txt", b"mine").parent
    folder = tmp_path / "outputs" / "reconstruct"
    folder.mkdir(parents=True)
    (folder / "grid").symlink_to(outside)
    script, function, files, more = tiny_models.MODELS["sequences"]
    data = put(tmp_path / "mine.csv", files["data"].encode())
    door(script, "--function", function, "--data", data, *more)
    assert (outside / "mine.txt").read_bytes() == b"mine" and not (folder / "grid").exists()


# ---- formulas --------------------------------------------------------------------------------------------------------


def test_text_is_no_formula_and_numbers_stay(tmp_path):
    cells = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "-", "a=1", "a\rb", "", "=cmd|' /C calc'!A0"]
    values = [-1.5, 0, "-1.25", "+2", "-inf", "1e-3"]
    tables.write_csv(tmp_path / "x.csv", [{"=name": cell, "number": value} for cell in cells for value in values])
    with open(tmp_path / "x.csv", newline="") as file:
        header, *left = csv.reader(file)
    assert header == ["'=name", "number"]
    assert [row[1] for row in left] == [str(value) for value in values] * len(cells)
    texts = [row[0] for row in left[:: len(values)]]
    marked = [f"'{cell}" if cell.startswith(tuple("=+-@\t\r")) else cell for cell in cells]
    assert texts == [cell.replace("\r", "\n") for cell in marked]
