"""SIGINT and SIGTERM: a run saves a state from which it can resume, and exits with status 130 or 143."""

import os
import signal
from collections.abc import Callable
from contextlib import contextmanager


class Interrupted(BaseException):
    """SIGINT or SIGTERM ended the run after its state was saved.

    Not an Exception, as KeyboardInterrupt is none: it is raised anywhere, and libraries turn those into their own.
    """

    def __init__(self, signum: int, where: str = ""):
        super().__init__(signum, where)  # the arguments themselves: a worker process sends it pickled
        self.signum, self.where = signum, where

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}{self.where}"


@contextmanager
def interruptible():
    """Makes SIGINT and SIGTERM raise Interrupted at once; inside `deferred_signals` they wait for a safe point.

    A library that was interrupted in its midst may end in an error of its own, which is then Interrupted, too.
    """
    received: list[int] = []

    def stop(signum, frame):
        received.append(signum)
        raise Interrupted(signum)

    with handlers(stop):
        try:
            yield
        except Exception as error:
            if received:
                raise Interrupted(received[0]) from error
            raise


@contextmanager
def deferred_signals():
    """Yields a list that receives a first SIGINT or SIGTERM; a second one of the same kind ends the process at once.

    Of the same kind: from a terminal, a worker gets SIGINT itself and SIGTERM from the process that started it.
    """
    received: list[int] = []

    def stop(signum, frame):
        if signum in received:
            os._exit(128 + signum)
        received.append(signum)

    with handlers(stop):
        yield received


@contextmanager
def handlers(handler: Callable):
    try:
        old = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, which alone receives signals
        old = {}
    try:
        yield
    finally:
        for signum, function in old.items():
            signal.signal(signum, function)
