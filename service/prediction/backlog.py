"""How long a request to a model would wait, and whether it is admitted: by time, not by a number of requests."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import Overloaded
from service.runtime.timing import UNKNOWN, RunTime

WEIGHT: Final = 0.2  # of the last run in what runs are expected to take
MOST_SURPRISE: Final = 4.0  # times what was expected: one pause of the machine is no measurement
HOPELESS: Final = 0.5  # of the least that a run was expected to take: none is quicker
PATIENCE: Final = 2.0  # times its own run: an admitted request takes at most three times as long as one that is alone
SLICES: Final = 4  # of the longest wait: one batch takes one of them
LONGEST_ADVICE: Final = 5.0  # seconds
TOO_LONG: Final = "requests wait too long for this model already; try again later"
TOO_LATE: Final = "this request would not be answered before its time is over; try again later"


class Backlog:
    """What waits for a model, by caller, and what runs; in rows, and in the seconds that they are expected to take.

    Parameters
    ----------
    run_time : RunTime
        What runs took when the model was loaded; what they take from then on corrects it.
    seconds : float
        That a request may be expected to wait.
    clock : callable
        The monotonic one.
    """

    def __init__(
        self,
        run_time: RunTime = UNKNOWN,
        *,
        seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._run_time = run_time
        self._seconds = seconds
        self._rows: dict[str, int] = {}
        self._total = 0
        self._pace = 1.0  # what runs take, in terms of what they were measured to take
        self._lag = 0.0  # of the event loop, when runs end
        self._few = max(0.0, self._rows_in(seconds / SLICES))  # so many waiting rows are no backlog
        self._started: float | None = None
        self._expected = 0.0  # seconds of the run under way

    @property
    def is_short(self) -> bool:
        """Whether a request need not be checked: no run is under way, and few rows wait for one."""
        return self._started is None and self._total <= self._few

    @property
    def running_since(self) -> float | None:
        """When the run under way on the thread began, on the monotonic clock."""
        return self._started

    def add(self, caller: str, rows: int) -> None:
        """Rows wait."""
        self._rows[caller] = self._rows.get(caller, 0) + rows
        self._total += rows

    def remove(self, caller: str, rows: int) -> None:
        """They do not wait any more: they run, or their client disconnected."""
        left = self._rows[caller] - rows
        self._total -= rows
        if left:
            self._rows[caller] = left
        else:
            del self._rows[caller]

    @contextmanager
    def expecting(self, caller: str, rows: int) -> Iterator[None]:
        """Rows of a request that is being read are counted as waiting, for as long as the context lasts."""
        self.add(caller, rows)
        try:
            yield
        finally:
            self.remove(caller, rows)

    def start(self, rows: int) -> float:
        """A run begins now, and requests come while it is under way."""
        self._started, self._expected = self._clock(), self.cost(rows)
        return self._started

    def stop(self) -> None:
        """No run is under way any more."""
        self._started = None

    def learn(self, rows: int, seconds: float, *, lag: float = 0.0) -> None:
        """A run has ended well; what the next ones take is expected accordingly.

        Parameters
        ----------
        rows : int
        seconds : float
            That it took.
        lag : float
            Seconds more until the event loop had its answers: no work, and no measure of the next run's.
        """
        self._lag += WEIGHT * (lag - self._lag)
        expected = self._run_time.of(rows)
        if expected > 0.0:
            surprise = min(seconds / expected, MOST_SURPRISE * self._pace)
            self._pace += WEIGHT * (surprise - self._pace)
            self._few = max(0.0, self._rows_in(self._seconds / SLICES))

    def check(self, *, caller: str, rows: int, deadline: float | None) -> None:
        """Refuse a request that would wait too long, or would not be answered in time.

        A request may wait twice as long as its own run takes, if that is longer than the usual bound.

        Raises
        ------
        Overloaded
        """
        if not self.is_short:
            wait = self.wait(caller, rows)
            if wait > max(self._seconds, PATIENCE * self.cost(rows)):
                raise Overloaded(TOO_LONG, seconds=advice(wait))
            if deadline is not None:
                self.check_time(caller=caller, rows=rows, deadline=deadline)

    def check_time(self, *, caller: str, rows: int, deadline: float) -> None:
        """Refuse a request that would not be answered in time; one that is alone only if no run could be as quick.

        Raises
        ------
        Overloaded
        """
        wait, own = self.wait(caller, rows), self.cost(rows)
        if self.is_short:  # no run would correct a pace that refuses every request
            own = HOPELESS * min(self._run_time.of(rows), own)
        if self._clock() + wait + own > deadline:
            raise Overloaded(TOO_LATE, seconds=advice(wait))

    def wait(self, caller: str, rows: int) -> float:
        """Seconds until the run of a request begins: in fair order, others are served as much as its own caller."""
        own = self._rows.get(caller, 0)
        others = len(self._rows) - (caller in self._rows)
        return self._remaining() + self.cost(own + min(self._total - own, others * (own + rows)))

    def cost(self, rows: int) -> float:
        """Seconds that a run of so many rows is expected to take."""
        return self._pace * self._run_time.of(rows) if rows else 0.0

    def most_rows(self, most: int) -> int:
        """Rows that one run may join: those that come later wait for its end.

        Where one row takes longer than the slice of the longest wait, further rows may take as long again. Where the
        event loop is late for the end of runs, they may take as long as it is late: a run for each time that it looks.
        """
        within = self._rows_in(max(self._seconds / SLICES, 2.0 * self._pace * self._run_time.fixed, self._lag))
        return max(1, min(most, int(min(within, most))))

    def _rows_in(self, seconds: float) -> float:
        row = self._pace * self._run_time.per_row
        return math.inf if row == 0.0 else (seconds - self._pace * self._run_time.fixed) / row

    def _remaining(self) -> float:
        if self._started is None:
            return 0.0
        left = self._expected - (self._clock() - self._started)
        return max(left, -left - self._lag, 0.0)  # what is late, more than the event loop is, is likely to last


def advice(wait: float) -> float:
    """Seconds after which a refused request may come again, spread so that not all come back together."""
    return random.uniform(1.0, min(2.0 + 4.0 * wait, LONGEST_ADVICE))  # noqa: S311  # nothing secret
