"""Temperature fit on 20 000 x 1000 float64 logits: time per Newton step and peak extra memory.

Run as ``python -m tests.bench.calibration``.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np

from service.core.calibration.temperature import fit_temperature
from service.core.numerics import Array, Indices, log_softmax
from tests.bench.table import Figure, show

ROWS, CLASSES, REPEATS = 20_000, 1000, 3
TIME_TARGET = 1.5  # of three log_softmax passes, for every Newton step
MEMORY_TARGET = 64.0  # MiB


def figures(logits: Array, labels: Indices) -> Iterator[Figure]:
    """Both figures that have a target, and the times behind the first."""
    passes = 3.0 * fastest(lambda: log_softmax(logits))
    iterations = fit_temperature(logits, labels).iterations
    step = fastest(lambda: fit_temperature(logits, labels)) / iterations
    yield Figure("three float64 log_softmax passes", 1e3 * passes, "ms")
    yield Figure(f"one Newton step, of {iterations}, all else included", 1e3 * step, "ms")
    yield Figure("step over passes", step / passes, "", TIME_TARGET)
    yield Figure("peak extra memory of the fit", peak(lambda: fit_temperature(logits, labels)), "MiB", MEMORY_TARGET)


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs: what the machine can do undisturbed."""

    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(REPEATS))


def peak(work: Callable[[], object]) -> float:
    """Most MiB allocated at once while working."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def drawn(rows: int, classes: int) -> tuple[Array, Indices]:
    """Logits twice too sure, and labels."""
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.normal(size=(rows, classes))
    return logits, (logits / 2.0 + rng.gumbel(size=(rows, classes))).argmax(axis=1)


if __name__ == "__main__":
    show(f"Temperature fit, {ROWS:,} x {CLASSES:,} float64 logits", figures(*drawn(ROWS, CLASSES)))
