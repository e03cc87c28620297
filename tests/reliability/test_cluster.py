"""Grids on a cluster of two workers in processes of their own: it loses a host, its network and its scheduler.

The search ends with the table and the weights of one that nobody disturbed, or in one line, after which --resume does.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from tiny_training import rows, weights, without_seconds
from trainings import ROOT

SIZES = [4, 5, 6, 7]
GRID = "--function reconstruct --limit 64 --epochs 10 --batch_size 2 --code_size 2 --quiet --hidden_size 4 5 6 7"
HELD = 30  # seconds without the network
pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(sys.platform == "win32", reason="no groups of processes there"),
]


def program(*argv, **more):
    """A process in a group of its own, as if on a host of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen([sys.executable, *map(str, argv)], env=environment, start_new_session=True, **more)


def kill_host(process):
    """All its processes at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def free_port():
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


def wait_for_listener(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at port {port}"
            time.sleep(0.1)


class Cable:
    """Passes what comes to its port on to another one, and back; while it is cut, it holds everything."""

    def __init__(self, port):
        self.passes, self.target = threading.Event(), port
        self.passes.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.sockets = [self.listener]
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                self.passes.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.passes.set()
        for own in self.sockets:
            with contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
            own.close()


class Dask:
    """A scheduler and two workers, each with its nanny in a group of processes."""

    def __init__(self, folder):
        pytest.importorskip("distributed")
        self.folder, self.hosts = folder, []
        folder.mkdir()
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self.start("scheduler", "--port", self.port, "--no-dashboard", "--host", "127.0.0.1")
        wait_for_listener(self.port)  # a worker gives up whose first call is refused
        self.cable = Cable(self.port)
        self.workers = [self.worker(self.port), self.worker(self.cable.port)]

    def worker(self, port):
        place = self.folder / f"worker{len(self.hosts)}"
        own = ("--nthreads", 1, "--no-dashboard", "--local-directory", place, "--host", "127.0.0.1")
        return self.start("worker", f"tcp://127.0.0.1:{port}", *own)

    def start(self, *argv):
        with open(self.folder / f"{len(self.hosts)}.log", "wb") as log:
            self.hosts.append(program("-m", "dask", *argv, stdout=log, stderr=log))
        return self.hosts[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for host in self.hosts:
            kill_host(host)
        self.cable.close()


def search(folder, *more):
    argv = [ROOT / "lstm_ae_toy.py", *GRID.split(), "--checkpoint_every", 1, "--output_dir", folder, *more]
    return program(*argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(process, timeout=600):
    """Status and the lines of its standard error."""
    error = process.communicate(timeout=timeout)[1]
    return process.returncode, error.splitlines()


def wait_for(process, folder, trainings):
    """Until so many combinations have an epoch behind them."""
    deadline = time.monotonic() + 180
    while len(list(folder.glob("reconstruct/grid/*/history.csv"))) < trainings:
        assert process.poll() is None and time.monotonic() < deadline, ended(process, 10)
        time.sleep(0.1)


def outcome(folder):
    """The table without times, and the weights of every combination and of the chosen one."""
    run = folder / "reconstruct"
    places = [run, *(run / "grid" / f"hidden_size={size}" for size in SIZES)]
    values = [{name: value.tolist() for name, value in weights(place / "last.pt").items()} for place in places]
    return without_seconds(rows(run / "grid.csv")), values


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert ended(search(folder)) == (0, [])
    return outcome(folder)


def search_on(cluster, folder, *more):
    return search(folder / "a", "--backend", "dask", "--scheduler", cluster.address, *more)


def search_disturbed(folder, disturb):
    """Status and standard error of a search whose cluster `disturb` meets when two combinations train."""
    with Dask(folder / "dask") as cluster:
        process = search_on(cluster, folder)
        wait_for(process, folder / "a", 2)
        disturb(cluster)
        return ended(process)


def test_a_host_is_lost(tmp_path, undisturbed, count):
    """A worker and its nanny: its combination goes on on the other one, from the last checkpoint."""
    status, _ = search_disturbed(tmp_path, lambda cluster: kill_host(cluster.workers[0]))
    assert status == 0 and outcome(tmp_path / "a") == undisturbed
    count(len(SIZES))


def test_the_network_is_lost_for_half_a_minute(tmp_path, undisturbed, count):
    """Between the scheduler and a worker, which goes on meanwhile; the other one has the whole network."""

    def hold(cluster):
        cluster.cable.passes.clear()
        time.sleep(HELD)
        cluster.cable.passes.set()

    status, _ = search_disturbed(tmp_path, hold)
    assert status == 0 and outcome(tmp_path / "a") == undisturbed
    count(len(SIZES))


def test_the_scheduler_is_lost(tmp_path, undisturbed, count):
    """The search ends in one line; with another scheduler, --resume ends it."""
    status, lines = search_disturbed(tmp_path, lambda cluster: kill_host(cluster.scheduler))
    assert status == 1 and len(lines) == 1 and "the scheduler of the cluster is lost; --resume" in lines[0], lines
    with Dask(tmp_path / "again") as cluster:
        status, _ = ended(search_on(cluster, tmp_path, "--resume"))
    assert status == 0 and outcome(tmp_path / "a") == undisturbed
    count(len(SIZES))


def test_ray_searches_a_grid(tmp_path, undisturbed, count):
    """A cluster of two workers that the search itself starts."""
    pytest.importorskip("ray")
    status, _ = ended(search(tmp_path / "a", "--backend", "ray", "--jobs", 2))
    assert status == 0 and outcome(tmp_path / "a") == undisturbed
    count(len(SIZES))
