"""Interleaved timings in processor time: what else the machine does changes them little, and all candidates alike."""

import statistics
import time
from collections.abc import Callable


def processor_seconds(function: Callable[[], object]) -> float:
    """Of one call in this process, all threads together: what the clock shows of one thread on a quiet core."""
    start = time.process_time()
    function()
    return time.process_time() - start


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each function, called in turn; the first call of each does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(processor_seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}
