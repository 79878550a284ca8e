"""Processor time of a request, of a row and of a joint run, from what a process took under several loads."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from service.capacity.request_costs import CapacityError, Costs
from service.runtime.timing import INLINE_SECONDS, RunTime

LEAST_REQUESTS: Final = 20
LEAST_SECONDS: Final = 1e-6
LEAST_SHARE: Final = 0.01  # of the processor time: it is no run's, however long runs are taken to be
JOINT: Final = 1.5  # requests in a run, on average, from which on requests are taken to arrive together


@dataclass(frozen=True, slots=True)
class Observed:
    """What one process did in some time.

    Attributes
    ----------
    requests, rows, runs : int
        That it answered, that were in them, and that it took for them.
    loop_seconds : float
        Processor time that its event loop used.
    other_seconds : float
        The same of its other threads.
    commits, records : int
        Groups of records that it wrote, and the records in them.
    commit_seconds : float
        That these took, one after the other.
    latency : float
        Median of the requests, in seconds.
    seconds : float
        For how long this was observed.
    """

    requests: int
    rows: int
    runs: int
    loop_seconds: float
    other_seconds: float = 0.0
    commits: int = 0
    records: int = 0
    commit_seconds: float = 0.0
    latency: float = 0.0
    seconds: float = 1.0

    @property
    def single_and_joint_runs(self) -> tuple[int, int]:
        """Runs with one request, and with several: one connection has none of these, and more have nearly no other."""
        is_joint = self.requests > JOINT * self.runs
        return (0, self.runs) if is_joint else (self.runs, 0)

    def inline_seconds(self, run_time: RunTime) -> float:
        """What the runs took of the event loop: nothing where they are so long that a thread takes them."""
        is_inline = run_time.of(self.rows // self.runs) <= INLINE_SECONDS
        return is_inline * (self.runs * run_time.fixed + self.rows * run_time.per_row)

    def record_seconds(self, run_time: RunTime) -> float:
        """Processor time of its threads that were no runs."""
        runs = self.runs * run_time.fixed + self.rows * run_time.per_row
        return max(0.0, self.other_seconds - runs + self.inline_seconds(run_time))


def processor_costs(observed: Sequence[Observed], run_time: RunTime) -> tuple[float, ...]:
    """Seconds of a request, a row, a turn with one request and one with several; least squares of relative errors.

    What runs of the graph take is known, and taken off before. None is below zero.

    Parameters
    ----------
    observed : sequence of Observed
        Under loads that differ in rows per request and in requests per run.
    run_time : RunTime
        Of the runs.

    Raises
    ------
    CapacityError
        If a load brought too few requests.

    Examples
    --------
    >>> loads = [(1000, 1000, 1000), (5000, 5000, 500), (3000, 3000, 600), (300, 9600, 300)]
    >>> turns = [5e-5 * 1000, 8e-5 * 500, 8e-5 * 600, 5e-5 * 300]
    >>> seconds = [1e-4 * load[0] + 1e-6 * load[1] + taken for load, taken in zip(loads, turns)]
    >>> found = processor_costs([Observed(*load, used) for load, used in zip(loads, seconds)], RunTime())
    >>> [round(1e6 * one, 3) for one in found]
    [100.0, 1.0, 50.0, 80.0]
    """
    if not observed or min(one.requests for one in observed) < LEAST_REQUESTS:
        raise CapacityError("too few requests were answered to tell what one costs; give it more seconds")
    counts = np.array([(one.requests, one.rows, *one.single_and_joint_runs) for one in observed], dtype=np.float64)
    used = np.array([one.loop_seconds for one in observed])
    runs = np.array([one.inline_seconds(run_time) for one in observed])
    return tuple(_non_negative(counts, np.maximum(used - runs, LEAST_SHARE * used)))


def commit_costs(observed: Sequence[Observed], run_time: RunTime) -> tuple[float, ...]:
    """Of a group of records and of every record: seconds until durable, then processor time; zeros without records."""
    written = [one for one in observed if one.commits]
    if not written:
        return 0.0, 0.0, 0.0, 0.0
    counts = np.array([(one.commits, one.records) for one in written], dtype=np.float64)
    waited = _non_negative(counts, np.array([one.commit_seconds for one in written]))
    used = _non_negative(counts, np.array([one.record_seconds(run_time) for one in written]))
    return *waited, *used


def commit_contention(spread: Observed, costs: Costs) -> float:
    """Seconds that a group of records takes longer while the event loop works all the time.

    Parameters
    ----------
    spread : Observed
        Under requests that come independently, so that the loop works while records are written.
    costs : Costs
        Those of commits on a process that does nothing else.
    """
    if not (spread.commits and spread.loop_seconds):
        return 0.0
    expected = spread.commits * costs.commit_seconds + spread.records * costs.commit_record_seconds
    more = (spread.commit_seconds - expected) / spread.commits
    return max(0.0, more) * spread.seconds / spread.loop_seconds


def _non_negative(counts: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]) -> list[float]:
    """Least squares over every set of columns; the best whose coefficients are all positive."""
    scaled, ones = counts / np.maximum(seconds, LEAST_SECONDS)[:, None], np.ones(len(seconds))
    best, least = np.zeros(counts.shape[1]), np.inf
    for size in range(1, counts.shape[1] + 1):
        for columns in combinations(range(counts.shape[1]), size):
            found = np.linalg.lstsq(scaled[:, columns], ones, rcond=None)[0]
            error = float(np.sum((scaled[:, columns] @ found - ones) ** 2))
            if (found >= 0.0).all() and error < least - 1e-12:
                best, least = np.zeros(counts.shape[1]), error
                best[list(columns)] = found
    values: list[float] = best.tolist()
    return values
