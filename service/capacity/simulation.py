"""One process of the service under an open loop, event by event, with the coalescing that `prediction.queue` does.

The event loop reads what has arrived, in turns. A request that comes alone to an idle process is run at once; those
that come together, or while a run is under way, become one batch. Runs as long as `INLINE_SECONDS` happen on a thread,
beside the loop. Where answers wait for their records, one more thread commits whatever waits, as a group. A request
that would wait too long is refused.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.capacity.offered_load import unit_moments
from service.capacity.request_costs import Costs
from service.prediction.backlog import PATIENCE, SLICES
from service.prediction.queue import QUIET_ITERATIONS
from service.runtime.timing import INLINE_SECONDS

READING: Final = 0.5  # of what a request costs the event loop; the rest is its answer
WARM_UP: Final = 0.05  # of the requests, left out: they met an empty process
QUEUE_SECONDS: Final = 0.2  # `TEMPERANCE_QUEUE_SECONDS`, as it comes
REQUESTS: Final = 40_000
NOT_GATHERING: Final = -1
INSTANT: Final = 1e-9  # seconds


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of the requests.

    Attributes
    ----------
    latencies : ndarray of shape (N,)
        Seconds from the arrival to the answer, of requests that were answered.
    refused : float
        Share of the requests.
    seconds : float
        From the first arrival to the last answer.
    loop_busy, thread_busy, commit_busy : float
        Share of that time in which a processor worked for the event loop, for the thread of runs, and for commits.
    requests_per_run, records_per_commit : float
        On average; 0 where there was none.
    """

    latencies: npt.NDArray[np.float64]
    refused: float
    seconds: float
    loop_busy: float
    thread_busy: float
    commit_busy: float
    requests_per_run: float
    records_per_commit: float

    @property
    def busy(self) -> float:
        """Processors in use, on average."""
        return self.loop_busy + self.thread_busy + self.commit_busy

    def quantile(self, share: float) -> float:
        """Latency that this share of the answers did not exceed; infinite where there is none."""
        return float(np.quantile(self.latencies, share, method="higher")) if len(self.latencies) else math.inf


def simulate(
    costs: Costs,
    rate: float,
    *,
    requests: int = REQUESTS,
    burst: float = 1.0,
    queue_seconds: float = QUEUE_SECONDS,
    seed: int = 0,
) -> Simulated:
    """Requests to one process.

    Parameters
    ----------
    costs : Costs
    rate : float
        Requests per second, on average.
    requests : int
        How many are simulated.
    burst : float
        Mean number of requests that arrive at the same moment.
    queue_seconds : float
        That a request may be expected to wait; others are refused.
    seed : int

    Examples
    --------
    >>> costs = Costs(request_seconds=1e-4, run_seconds=1e-4)
    >>> calm, busy = (simulate(costs, rate, requests=2000) for rate in (100.0, 8000.0))
    >>> calm.requests_per_run < 1.1 < 2.0 < busy.requests_per_run
    True
    """
    moments = unit_moments(requests, burst=burst, seed=seed) / rate
    return Process(costs, moments.tolist(), queue_seconds).run()


class Process:
    """One process: its event loop, its thread of runs and its thread that commits.

    Parameters
    ----------
    costs : Costs
    moments : sequence of float
        At which requests arrive, ascending.
    queue_seconds : float
    """

    def __init__(self, costs: Costs, moments: Sequence[float], queue_seconds: float = QUEUE_SECONDS) -> None:
        self._costs, self._moments, self._queue_seconds = costs, moments, queue_seconds
        self._reading = READING * costs.handling_seconds
        self._writing = costs.handling_seconds - self._reading
        self._most = max(1, most_rows(costs, queue_seconds) // costs.rows)
        self._few = (queue_seconds / SLICES - costs.run_seconds) / (costs.rows * costs.run_row_seconds or 1e-12)
        self._commits = Commits(costs)
        self._now, self._following = 0.0, 0
        self._waiting: deque[int] = deque()
        self._batch: list[int] = []  # that the thread runs
        self._run_end = math.inf
        self._together = False  # requests came together the last time
        self._due = False  # a batch is run in the next turn
        self._quiet = NOT_GATHERING  # turns without arrivals, while a batch gathers
        self._done = np.full(len(moments), np.nan)
        self._refused = self._runs = 0
        self._loop_busy = self._thread_busy = 0.0

    def run(self) -> Simulated:
        """All requests, from the first to the last."""
        while (event := self._next_event()) < math.inf:
            began = max(self._now, event)
            self._commits.proceed(idle=began - self._now)
            self._now = began
            self._turn()
            self._commits.proceed(working=self._now - began)
            self._loop_busy += self._now - began
            self._now = self._commits.begin(self._now)
        return self._result()

    def _next_event(self) -> float:
        if self._due or self._is_gathering:
            return self._now
        arrival = self._moments[self._following] if self._following < len(self._moments) else math.inf
        return min(arrival, self._run_end, self._commits.end(self._now))

    def _turn(self) -> None:
        """What the event loop does before it looks again: answers, then new requests, then a run."""
        for place in self._commits.ended(self._now):
            self._write(place)
        if self._run_end <= self._now:
            self._end_run()
        was_idle = self._is_idle
        read = self._read()
        if was_idle and read and not self._together:
            self._first_of_a_turn(read)
        if self._is_idle and self._waiting:
            self._quiet = 0
        elif self._is_gathering:
            self._gather(read)
        elif self._due:
            self._run_next()

    def _gather(self, read: int) -> None:
        self._now += self._costs.gather_seconds
        self._quiet = 0 if read else self._quiet + 1
        if self._quiet >= QUIET_ITERATIONS or len(self._waiting) >= self._costs.batch_rows:
            self._run_next()

    @property
    def _is_gathering(self) -> bool:
        return self._quiet != NOT_GATHERING

    @property
    def _is_idle(self) -> bool:
        return not (self._due or self._is_gathering or self._batch)

    def _read(self) -> int:
        count, until = 0, self._now  # what arrives meanwhile is read in the next turn
        while self._following < len(self._moments) and self._moments[self._following] <= until:
            self._now += self._reading
            if self._is_admitted():
                self._waiting.append(self._following)
                count += 1
            else:
                self._refused += 1
            self._following += 1
        return count

    def _is_admitted(self) -> bool:
        costs, waiting = self._costs, len(self._waiting)
        if not self._batch and waiting <= self._few:
            return True
        remaining = max(0.0, self._run_end - self._now) if self._batch else 0.0
        wait = remaining + (costs.run_of(waiting * costs.rows) if waiting else 0.0)
        return wait <= max(self._queue_seconds, PATIENCE * costs.run_of(costs.rows))

    def _first_of_a_turn(self, read: int) -> None:
        # The first is answered at once if its run is short; a second shows that waiting for others pays.
        if self._is_inline(1):
            self._run([self._waiting.popleft()])
        self._together = read > 1

    def _run_next(self) -> None:
        self._due, self._quiet = False, NOT_GATHERING
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        self._together = len(batch) + len(self._waiting) > 1
        if self._is_inline(len(batch)):
            self._run(batch)
            self._due = bool(self._waiting)
        else:
            self._start(batch)

    def _is_inline(self, requests: int) -> bool:
        return self._costs.run_of(requests * self._costs.rows) <= INLINE_SECONDS

    def _run(self, batch: list[int]) -> None:
        self._runs += 1
        self._now += self._costs.turn_of(len(batch)) + self._costs.run_of(len(batch) * self._costs.rows)
        self._conclude(batch)

    def _start(self, batch: list[int]) -> None:
        self._runs += 1
        self._now += self._costs.turn_of(len(batch))
        seconds = self._costs.run_of(len(batch) * self._costs.rows)
        self._batch, self._run_end = batch, self._now + seconds
        self._thread_busy += seconds

    def _end_run(self) -> None:
        batch, self._batch, self._run_end = self._batch, [], math.inf
        self._conclude(batch)
        self._due = bool(self._waiting)

    def _conclude(self, batch: list[int]) -> None:
        if self._costs.is_recorded:
            self._commits.submit(batch)
        else:
            for place in batch:
                self._write(place)

    def _write(self, place: int) -> None:
        self._now += self._writing
        self._done[place] = self._now

    def _result(self) -> Simulated:
        latencies = self._done - np.asarray(self._moments) + self._costs.transport_seconds
        seen = latencies[int(WARM_UP * len(latencies)) :]
        seconds = self._now - self._moments[0]
        answered = len(latencies) - self._refused
        return Simulated(
            latencies=seen[~np.isnan(seen)],
            refused=self._refused / len(latencies),
            seconds=seconds,
            loop_busy=self._loop_busy / seconds,
            thread_busy=self._thread_busy / seconds,
            commit_busy=self._commits.busy / seconds,
            requests_per_run=answered / self._runs if self._runs else 0.0,
            records_per_commit=answered / self._commits.number if self._commits.number else 0.0,
        )


class Commits:
    """The thread that commits records: whatever came while it was busy is one group.

    It shares the interpreter with the event loop. It begins between two turns, and the loop waits for its part. At its
    statements it waits for the loop, so that it takes longer while the loop works.

    Parameters
    ----------
    costs : Costs

    Attributes
    ----------
    number : int
        Of groups.
    busy : float
        Seconds of the interpreter.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._waiting: list[int] = []
        self._group: list[int] = []
        self._left = 0.0  # of the group under way, as a share
        self._alone = 1.0  # seconds that it takes while the event loop does nothing
        self.number = 0
        self.busy = 0.0

    def submit(self, batch: list[int]) -> None:
        """Records of a batch wait from now on."""
        self._waiting += batch

    def begin(self, now: float) -> float:
        """Between two turns of the event loop: until when it has to wait for the interpreter."""
        if self._group or not self._waiting:
            return now
        self._group, self._waiting = self._waiting, []
        busy = self._costs.commit_interpreter_of(len(self._group))
        self._left, self._alone = 1.0, max(INSTANT, self._costs.commit_of(len(self._group)) - busy)
        self.number += 1
        self.busy += busy
        return now + busy

    def proceed(self, *, idle: float = 0.0, working: float = 0.0) -> None:
        """So many seconds pass for the group under way, while the event loop is idle or works."""
        self._left -= idle / self._alone + working / (self._alone + self._costs.commit_contention_seconds)

    def end(self, now: float) -> float:
        """When the group under way is durable if the event loop stays idle; infinite where there is none."""
        return now + max(0.0, self._left) * self._alone if self._group else math.inf

    def ended(self, now: float) -> list[int]:
        """Requests whose records have become durable by now, each once."""
        if self.end(now) > now:
            return []
        group, self._group = self._group, []
        return group


def most_rows(costs: Costs, queue_seconds: float) -> int:
    """Rows that one run joins at most, as `prediction.backlog.Backlog.most_rows`."""
    if costs.run_row_seconds == 0.0:
        return costs.batch_rows
    within = (max(queue_seconds / SLICES, 2.0 * costs.run_seconds) - costs.run_seconds) / costs.run_row_seconds
    return max(1, min(costs.batch_rows, int(within)))
