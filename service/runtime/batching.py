"""Requests that arrive together are judged together: one run of the graph for all rows that are waiting.

Batching is natural. Nothing waits for company: a run takes whatever queued while the last one was busy, or arrived in
the same turn of the event loop. Cheap runs happen on the event loop itself, where handing them to a thread would cost
more than they do; dear ones happen on one thread of the model's own, so that probes are answered meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, Self, TypeVar

from service.bundle.sections import Runtime
from service.errors import DeadlineExceeded, Overloaded
from service.runtime.rows import Fields, Rows, alike, join

INLINE_SECONDS: Final = 1e-3  # as long as other requests and probes may be kept waiting by a run on the event loop
PROBE_ROWS: Final = 128
PROBES: Final = 3


class Rowwise(Protocol):
    """An answer whose parts belong to rows."""

    def __getitem__(self, rows: slice) -> Self: ...


Answer = TypeVar("Answer", bound=Rowwise)
Answer_co = TypeVar("Answer_co", bound=Rowwise, covariant=True)


class Run(Protocol[Answer_co]):
    """Judges rows, by a deadline on the monotonic clock."""

    def __call__(self, rows: Rows, /, *, deadline: float | None = None) -> Answer_co:
        """What the model makes of rows."""


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


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Answer]):
    rows: Rows
    requests: int
    deadline: float | None
    future: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)


class Turns:
    """Tells whether requests come together, so that waiting for the end of a turn of the event loop would join them.

    Whoever comes first in a turn is answered at once. Whoever comes second shows that waiting pays, and it stays that
    way until a request has waited for nobody.
    """

    def __init__(self) -> None:
        self._answered = False  # in this turn
        self._company = False

    def alone(self) -> bool:
        """Whether the one who asks should wait for nobody; to be called on the event loop."""
        if self._company:
            return False
        if self._answered:
            self._company = True
            return False
        self._answered = True
        asyncio.get_running_loop().call_soon(self._end)
        return True

    def met(self, requests: int) -> None:
        """How many requests came together this time."""
        self._company = requests > 1

    def _end(self) -> None:
        self._answered = False


class Batcher(Generic[Answer]):
    """Runs one model for all who ask; belongs to one event loop.

    Parameters
    ----------
    run : callable
        Judges rows by a deadline; from one thread at a time.
    limits : Runtime
        Where runs happen, how many rows they join, how many requests may wait.
    """

    def __init__(self, run: Run[Answer], limits: Runtime) -> None:
        self.tally = Tally()
        self._run = run
        self._limits = limits
        self._fixed, self._per_row = 0.0, 0.0
        self._queue: deque[_Waiting[Answer]] = deque()
        self._requests = 0  # in the queue
        self._reserved = 0  # in others' queues
        self._busy = False  # a drain is due, or a thread is at work
        self._turns = Turns()
        self._thread: ThreadPoolExecutor | None = None

    def warm_up(self, row: Rows) -> None:
        """Prove that one row is answered, and measure what rows cost."""
        self._run(row)
        self._fixed = _best_seconds(self._run, row)
        if self._fixed < INLINE_SECONDS:
            many = _best_seconds(self._run, join([row] * PROBE_ROWS))
            self._per_row = max(0.0, many - self._fixed) / PROBE_ROWS

    @property
    def busy(self) -> bool:
        """Whether whoever asks now has to wait for a run."""
        return self._busy

    def inline(self, rows: int) -> bool:
        """Whether so many rows are judged on the event loop."""
        if self._limits.execution == "auto":
            return self._fixed + rows * self._per_row <= INLINE_SECONDS
        return self._limits.execution == "inline"

    def _watched(self, rows: Rows, deadline: float | None) -> float | None:
        # Columns of numbers take as long as they took when they were measured; a watch on them would take longer.
        return None if self._limits.execution == "auto" and not isinstance(rows, Fields) else deadline

    async def answer(self, rows: Rows, *, deadline: float | None = None, requests: int = 1) -> Answer:
        """What the model makes of one request's rows, or of several requests' that stand or fall together.

        Parameters
        ----------
        rows : Rows
        deadline : float, optional
            On the monotonic clock; a request that has not had its turn by then is not run at all.
        requests : int
            How many these are, for the bound on those that may wait.

        Raises
        ------
        Overloaded
            If too many requests wait already.
        DeadlineExceeded
        Exception
            Whatever these rows, and nobody else's, made the run raise.
        """
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded.in_the_queue()
        loop = asyncio.get_running_loop()
        if not self._busy and self._turns.alone() and self.inline(len(rows)):
            return self._timed(rows, self._watched(rows, deadline))
        self._check_room(self._requests + self._reserved)
        waiting: _Waiting[Answer] = _Waiting(rows, requests, deadline, loop.create_future())
        self._queue.append(waiting)
        self._requests += requests
        if not self._busy:
            self._busy = True
            loop.call_soon(self._drain, loop)
        if deadline is None or self._thread is None:  # what runs on the loop lets no timer fire before its own end
            return await waiting.future
        try:
            async with asyncio.timeout(deadline - waiting.since):
                return await waiting.future
        except TimeoutError:
            raise DeadlineExceeded.in_the_queue() from None

    def reserve(self) -> None:
        """Count a request that waits elsewhere for this model's next run, until `release`.

        Raises
        ------
        Overloaded
        """
        self._check_room(self._requests + self._reserved)
        self._reserved += 1

    def release(self, requests: int) -> None:
        """So many that had been reserved wait no more."""
        self._reserved -= requests

    def _check_room(self, waiting: int) -> None:
        if waiting < self._limits.queue:
            return
        before = self._requests
        self._forget_the_gone()
        if (waiting := waiting - before + self._requests) >= self._limits.queue:
            raise Overloaded(f"{waiting} requests wait for this model already; try again in a second")

    def _forget_the_gone(self) -> None:
        self._queue = deque(waiting for waiting in self._queue if not waiting.future.done())
        self._requests = sum(waiting.requests for waiting in self._queue)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, rows = self._next_batch()
        self._turns.met(len(batch) + len(self._queue))
        if not batch:
            self._busy = False
        elif self.inline(rows):
            parts = [waiting.rows for waiting in batch]
            self._deliver(batch, self._answers(parts, self._watched(parts[0], _latest(batch))))
            self._go_on(loop)
        else:
            self._start(loop, batch)

    def _next_batch(self) -> tuple[list[_Waiting[Answer]], int]:
        batch: list[_Waiting[Answer]] = []
        rows, now = 0, time.monotonic()
        while self._queue and (not batch or self._fits(batch[0].rows, rows)):
            waiting = self._queue.popleft()
            self._requests -= waiting.requests
            self.tally.waited += now - waiting.since
            if waiting.future.done():
                continue  # its client has gone
            if waiting.deadline is not None and now > waiting.deadline:
                waiting.future.set_exception(DeadlineExceeded.in_the_queue())
                continue
            batch.append(waiting)
            rows += len(waiting.rows)
        return batch, rows

    def _fits(self, first: Rows, rows: int) -> bool:
        following = self._queue[0].rows
        return rows + len(following) <= self._limits.batch_rows and alike(first, following)

    def _start(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting[Answer]]) -> None:
        def finished(done: Future[list[Answer | Exception]]) -> None:
            loop.call_soon_threadsafe(self._finish, loop, batch, done.result())

        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="batches")
        parts = [waiting.rows for waiting in batch]
        self._thread.submit(self._answers, parts, _latest(batch)).add_done_callback(finished)

    def _finish(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting[Answer]], answers: list[Answer | Exception]
    ) -> None:
        self._deliver(batch, answers)
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = bool(self._queue)
        if self._busy:
            loop.call_soon(self._drain, loop)

    def _deliver(self, batch: Sequence[_Waiting[Answer]], answers: Sequence[Answer | Exception]) -> None:
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.future.done():
                continue
            if isinstance(answer, Exception):
                waiting.future.set_exception(answer)
            else:
                waiting.future.set_result(answer)

    def _answers(self, parts: list[Rows], deadline: float | None) -> list[Answer | Exception]:
        try:
            judged = self._timed(join(parts), deadline)
        except Exception as error:  # noqa: BLE001  # it belongs to the request whose rows raised it, and ends there
            return [error] if len(parts) == 1 else self._apart(parts, deadline)
        if len(parts) == 1:
            return [judged]
        ends = [0]
        for part in parts:
            ends.append(ends[-1] + len(part))
        return [judged[slice(*ends[i : i + 2])] for i in range(len(parts))]

    def _apart(self, parts: list[Rows], deadline: float | None) -> list[Answer | Exception]:
        # By halves: one poisoned request among n costs some 2 log n runs, and fails alone.
        half = len(parts) // 2
        return self._answers(parts[:half], deadline) + self._answers(parts[half:], deadline)

    def _timed(self, rows: Rows, deadline: float | None) -> Answer:
        started = time.perf_counter()
        try:
            answer = self._run(rows, deadline=deadline)
        except Exception:
            self.tally.failures += 1
            raise
        self.tally.runs += 1
        self.tally.rows += len(rows)
        self.tally.seconds += time.perf_counter() - started
        self.tally.last = time.time()
        return answer


def _latest(batch: Sequence[_Waiting[Answer]]) -> float | None:
    # A run must not end for all when the most impatient gives up; that one has a timer of its own.
    deadlines = [waiting.deadline for waiting in batch if waiting.deadline is not None]
    return max(deadlines) if len(deadlines) == len(batch) else None


def _best_seconds(run: Run[Rowwise], rows: Rows) -> float:
    return min(_seconds(run, rows) for _ in range(PROBES))


def _seconds(run: Run[Rowwise], rows: Rows) -> float:
    started = time.perf_counter()
    run(rows)
    return time.perf_counter() - started
