"""Forks of the test's process, which has imported everything: scripts that can be killed, in a moment."""

import contextlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is a fork of the test's process")


def fork(function: Callable[[], object]) -> int:
    """Runs `function` in a fork, which ends with the status that a script has; 99 for an error of the program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries that are idle here
        child = os.fork()
    if child:
        return child
    status = 99
    try:
        function()
        status = 0
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def wait(child: int, seconds: float = 600) -> int | None:
    """The exit status, that of a signal negative; None if the process still runs after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)


def in_child(function: Callable[[], object]) -> int | None:
    """The exit status of `function` in a fork."""
    return wait(fork(function))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False
