"""How long runs of a model take, and what they amount to since it was loaded."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.runtime.rows import Rows, join

INLINE_SECONDS: Final = 1e-3  # as long as a run on the event loop may keep other requests and probes waiting
MANY_ROWS: Final = 128
REPEATS: Final = 3
MOST_SECONDS: Final = 0.2  # that measuring many rows of an expensive model may take, if they take as long as one by one

Run = Callable[[Rows], object]


@dataclass(frozen=True, slots=True)
class RunTime:
    """Seconds that a run takes: those of one row, and those of every further one.

    Attributes
    ----------
    fixed : float
    per_row : float
    """

    fixed: float = 0.0
    per_row: float = 0.0

    def of(self, rows: int) -> float:
        """Seconds that so many rows take."""
        return self.fixed + rows * self.per_row


UNKNOWN: Final = RunTime()  # not measured: no run takes any time


@dataclass(slots=True)
class Tally:
    """What a model has done since it was loaded.

    Attributes
    ----------
    runs, rows, seconds
        Of the graph with stages A to C.
    failures : int
        Runs that raised something.
    waited : float
        Seconds that requests spent in the queue.
    last : float
        Seconds since the epoch at the end of the last run.
    """

    runs: int = 0
    rows: int = 0
    seconds: float = 0.0
    failures: int = 0
    waited: float = 0.0
    last: float = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """Count a run that has just ended well."""
        self.runs += 1
        self.rows += rows
        self.seconds += seconds
        self.last = time.time()


def measure(run: Run, row: Rows) -> RunTime:
    """What a run takes, measured on one row and on many; the first run, which prepares much, counts for nothing.

    Of a model so expensive that many rows would take long, every row is expected to take as long as the first.

    Raises
    ------
    Exception
        Whatever the run raises.
    """
    run(row)
    fixed = _best_seconds(run, row)
    if fixed < INLINE_SECONDS:
        many = _best_seconds(run, join([row] * MANY_ROWS))
        return RunTime(fixed, max(0.0, many - fixed) / MANY_ROWS)
    rows = min(MANY_ROWS, int(MOST_SECONDS / fixed))  # never on the event loop, however few the rows
    if rows < 2:
        return RunTime(0.0, fixed)
    return RunTime(fixed, max(0.0, _seconds(run, join([row] * rows)) - fixed) / (rows - 1))


def _best_seconds(run: Run, rows: Rows) -> float:
    return min(_seconds(run, rows) for _ in range(REPEATS))


def _seconds(run: Run, rows: Rows) -> float:
    started = time.perf_counter()
    run(rows)
    return time.perf_counter() - started
