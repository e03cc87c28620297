"""One training in two processes: it follows the single process, covers every sample once, and goes on where it was."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import one_line, run_functions
from processes import fork, needs_fork, wait
from tiny_training import same
from trainings import ALL, ROOT

import lstm_ae_toy
from lstm_studies.training import checkpoint, data_parallel, tables

# 47 sequences: the last batch has 15, and its shards are of 8 and 7. SGD, because Adam makes a whole step of the
# rounding of a gradient that is next to zero.
TOY = (
    "--quiet --limit 47 --epochs 2 --batch_size 16 --hidden_size 4 --code_size 4 --schedule constant --optimizer SGD "
    "--no_mirror --stretch 1 --filtering 0 --extension 0"
).split()
DRAWS_NOTHING = {  # what turns the random numbers of each script's steps off
    "toy": ["--no_mirror", "--stretch", "1", "--filtering", "0", "--extension", "0", "--precision", "float32"],
    "digits fc": ["--shift", "0", "--precision", "float32"],
    "digits conv": ["--precision", "float32"],
    "vowels basic": ["--dropout", "0", "--offset", "0", "--batch_norm_places", "none"],
    "messages": [
        *("--precision", "float32", "--dropout", "0", "--embedding_dropout", "0"),
        *("--word_dropout", "0", "--linear_dropout", "0"),
    ],
    "stocks predict": [],
    "movement": [],
}
IN_SHORT = ("digits fc", "movement")
pytestmark = needs_fork


def in_two(function: Callable[[], object]) -> list[int | None]:
    """`function` in two processes as torchrun starts them; their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def as_rank(rank: int) -> None:
        os.environ |= {**together, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        function()

    children = [fork(lambda rank=rank: as_rank(rank)) for rank in range(2)]
    return [wait(child) for child in children]


def toy_in_two(*argv: str) -> list[int]:
    return in_two(lambda: lstm_ae_toy.main(["--function", "reconstruct", *argv]))


def history(folder: Path) -> torch.Tensor:
    rows = tables.read_table(folder / "reconstruct" / "history.csv")
    return torch.tensor([list(row.values()) for row in rows], dtype=torch.float64)


def last(folder: Path) -> dict:
    return {k: v for k, v in checkpoint.load(folder / "reconstruct" / "last.pt").items() if k != "seconds"}


def test_two_processes_follow_one_and_resume(tmp_path, run):
    lstm_ae_toy.main(["--function", "reconstruct", *TOY, "--output_dir", str(tmp_path / "one")])
    assert toy_in_two(*TOY, "--output_dir", str(tmp_path / "two")) == [0, 0]
    assert torch.allclose(history(tmp_path / "two"), history(tmp_path / "one"), rtol=1e-4, atol=1e-7)
    weights = [last(tmp_path / name)["model"]["weights"] for name in ("one", "two")]
    assert all(torch.allclose(weights[1][name], value, rtol=1e-3, atol=1e-5) for name, value in weights[0].items())
    files = [sorted(path.name for path in (tmp_path / name / "reconstruct").iterdir()) for name in ("one", "two")]
    assert files[0] == files[1]
    short = [*TOY, "--output_dir", str(tmp_path / "again")]
    short[short.index("--epochs") + 1] = "1"
    assert toy_in_two(*short) == [0, 0] and toy_in_two(*short[:3], "--epochs", "2", *short[5:], "--resume") == [0, 0]
    ended = last(tmp_path / "again")
    assert same(ended, last(tmp_path / "two"))


@pytest.mark.parametrize(
    "name",
    [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.reliability) for name in DRAWS_NOTHING],
)
def test_two_processes_agree_with_one_in_every_script(tmp_path, run, name):
    """To 1e-6, where no step draws random numbers, which differ between the processes."""
    exact = ["--schedule", "constant", "--optimizer", "SGD", "--learning_rate", "0.01", *DRAWS_NOTHING[name]]
    run(name, tmp_path / "one", *exact)
    assert in_two(lambda: run(name, tmp_path / "two", *exact)) == [0, 0]
    one, two = (numbers(tmp_path / place / ALL[name][1]) for place in ("one", "two"))
    assert torch.allclose(two, one, rtol=1e-6, atol=1e-6), (two - one).abs().max()


def numbers(folder: Path) -> torch.Tensor:
    """Every weight of the last checkpoint."""
    weights = checkpoint.load(folder / "last.pt")["model"]["weights"].values()
    return torch.cat([value.double().flatten() for value in weights])


def test_shards_are_the_whole_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(data_parallel, "is_joined", True)
    for size in (1, 2, 3, 7, 10):
        shards = []
        for rank in range(3):
            monkeypatch.setenv("RANK", str(rank))
            own, weight = data_parallel.shard(torch.arange(size))
            assert len(own) >= 1 and weight == pytest.approx(len(own) / size if weight else 0)
            shards += own.tolist() if weight else []
        assert shards == list(range(size))


def test_alone_nothing_changes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")  # of a cluster, whose process group nobody has joined
    state = torch.get_rng_state()
    data_parallel.seed_process(0, 1, 2)
    indices = torch.arange(3)
    assert torch.equal(torch.get_rng_state(), state) and data_parallel.shard(indices)[0] is indices
    assert (
        data_parallel.all_reduce_means({"loss": 0.5}, 1.0, "cpu") == {"loss": 0.5}
        and data_parallel.all_reduce_max(15, "cpu") == 15
    )


def test_several_jobs_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        run_functions({"f": test_alone_nothing_changes}, tmp_path, jobs=2)
    assert "--jobs" in one_line(capsys)


@pytest.mark.reliability
def test_torchrun(tmp_path, count):
    """As from a shell; stopped by a signal and resumed, with noise that differs between the processes."""
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "lstm_ae_toy.py"]
    argv += ["--function", "reconstruct", *TOY, "--mirror", "--epochs", "40"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(name, *flags):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [*argv, "--output_dir", str(tmp_path / name), *flags]
        return subprocess.Popen(command, cwd=ROOT, env=environment, **silent)

    assert start("whole").wait(timeout=300) == 0
    stopped = start("stopped", "--checkpoint_every", "1000")
    while stopped.poll() is None and not (tmp_path / "stopped" / "reconstruct" / "history.csv").exists():
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=60) != 0
    assert 0 < last(tmp_path / "stopped")["epoch"] < 40
    assert start("stopped", "--resume").wait(timeout=300) == 0
    assert same(last(tmp_path / "stopped"), last(tmp_path / "whole"))
    count(1)
