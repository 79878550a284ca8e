"""The one place where requests to a model wait: those that wait together are answered together.

Batching is natural, by no clock. A request that is alone is answered at once. A batch takes whatever queued while the
last one was busy, or arrived in the same iterations of the event loop. Stages A to C run once for its rows, D and E
once for every query among its requests. Cheap runs happen on the event loop itself, where handing them to a thread
would cost more than they do; expensive ones happen on one thread of the queue, so that probes are answered meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from service.bundle.sections import Runtime
from service.core.pipeline import Posterior
from service.core.trajectory import Monitor
from service.errors import DeadlineExceeded, Overloaded
from service.prediction.answer import Answer, Part
from service.prediction.counts import Counts
from service.prediction.query import Query
from service.prediction.sessions import monitor_of
from service.runtime.model import Model
from service.runtime.rows import Fields, Rows, alike, join
from service.runtime.timing import INLINE_SECONDS

QUIET_ITERATIONS: Final = 2  # of the event loop: a request that is read in one is queued in the next


@dataclass(slots=True, eq=False)
class JointAnswer:
    """The answer to requests with the same query.

    Attributes
    ----------
    query : Query
    answer : Answer
        Of the rows of all parts, in order.
    parts : list of Part
    bodies : list of bytes or None
        The body of every part's response, once the first of them was written.
    """

    query: Query
    answer: Answer
    parts: list[Part]
    bodies: list[bytes] | None = None

    def own(self, place: int) -> Answer:
        """The answer to one of the requests."""
        if len(self.parts) == 1:
            return self.answer
        start = sum(part.rows for part in self.parts[:place])
        return self.answer[start : start + self.parts[place].rows]


Result = tuple[JointAnswer, int]
"""A joint answer, and the place of a request among its parts."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue.

    Attributes
    ----------
    query : Query
    rows : Rows
    part : Part
    deadline : float or None
        On the monotonic clock.
    since : float
        When it came.
    monitor : Monitor or None
        Of its session.
    result : Future
    """

    query: Query
    rows: Rows
    part: Part
    deadline: float | None
    since: float
    monitor: Monitor | None = None
    result: asyncio.Future[Result] | None = None

    @property
    def left(self) -> bool:
        """Whether nothing waits for the result any more: its client disconnected, or its time is over."""
        return self.result is not None and self.result.done()

    def settle(self, joint: JointAnswer, place: int) -> None:
        """Hand over the result."""
        if self.result is not None and not self.result.done():
            self.result.set_result((joint, place))

    def fail(self, error: Exception) -> None:
        """Raise an error in place of a result."""
        if self.result is not None and not self.result.done():
            self.result.set_exception(error)


Outcome = tuple[list[Waiting], JointAnswer | Exception]
"""Requests with the same query, and their joint answer, or what one of them raised."""


class Arrivals:
    """Tells whether requests arrive together, so that waiting for the loop's next iterations would join them.

    The first in an iteration is answered at once. A second shows that waiting pays, and it stays that way until a
    request has waited alone.
    """

    def __init__(self) -> None:
        self._first_came = False  # in this iteration
        self._together = False

    def alone(self) -> bool:
        """Whether a request should be answered at once; to be called on the event loop."""
        if self._together:
            return False
        if self._first_came:
            self._together = True
            return False
        self._first_came = True
        asyncio.get_running_loop().call_soon(self._end_iteration)
        return True

    def joined(self, requests: int) -> None:
        """How many requests came together this time."""
        self._together = requests > 1

    def _end_iteration(self) -> None:
        self._first_came = False


class Queue:
    """Requests to one model; belongs to one event loop, and keeps no model in memory that no request waits for.

    Parameters
    ----------
    limits : Runtime
        Where runs happen, how many rows they join, how many requests may wait.
    counts : Counts
    """

    def __init__(self, limits: Runtime, counts: Counts) -> None:
        self._limits = limits
        self._counts = counts
        self._waiting: deque[Waiting] = deque()
        self._due = False  # a batch is due on the event loop
        self._running = False  # a thread is at work
        self._arrivals = Arrivals()
        self._thread: ThreadPoolExecutor | None = None

    def inline(self, model: Model, rows: int) -> bool:
        """Whether so many rows are run on the event loop."""
        if self._limits.execution == "auto":
            return model.run_time.of(rows) <= INLINE_SECONDS
        return self._limits.execution == "inline"

    def immediate(self, model: Model, rows: int) -> bool:
        """Whether so many rows would be run on the event loop, and now: before a client can disconnect."""
        return not self._running and self.inline(model, rows)

    async def answer(self, query: Query, rows: Rows, part: Part, *, deadline: float | None = None) -> Result:
        """The answer to one request, or to several that were answered together.

        Cancelled, the request leaves the queue.

        Parameters
        ----------
        query : Query
            Requests with this very query are answered together, if it `joins`.
        rows : Rows
        part : Part
        deadline : float, optional
            On the monotonic clock; a request that was not run by then is not run at all. The manifest may name a
            sooner one.

        Raises
        ------
        Overloaded
            If too many requests wait already.
        DeadlineExceeded
        Exception
            Whatever these rows, and no other request's, made the run raise.
        """
        now = time.monotonic()
        due = self._sooner(deadline, now)
        if due is not None and time.monotonic() >= due:
            raise DeadlineExceeded.in_the_queue()
        request = Waiting(query, rows, part, due, now)
        if query.options.session is not None:
            request.monitor = await asyncio.to_thread(monitor_of, query.model, query.options.session)
        if self._idle and self._arrivals.alone() and self.inline(query.model, len(rows)):
            return self._at_once(request)
        result = self._queued(request)
        if due is None or self._thread is None:  # no timer fires before a run on the loop ends
            return await result
        try:
            async with asyncio.timeout(due - now):
                return await result
        except TimeoutError:
            raise DeadlineExceeded.in_the_queue() from None

    def _sooner(self, deadline: float | None, now: float) -> float | None:
        seconds = self._limits.deadline
        if seconds is None:
            return deadline
        return now + seconds if deadline is None else min(deadline, now + seconds)

    @property
    def _idle(self) -> bool:
        return not self._due and not self._running

    def _at_once(self, request: Waiting) -> Result:
        joint = self._answered([request], self._guarded(request.rows, request.deadline))[0]
        self._count(joint)
        return joint, 0

    def _count(self, joint: JointAnswer) -> None:
        self._counts.count(joint.query.options.verb, joint.answer, joint.parts)

    def _guarded(self, rows: Rows, deadline: float | None) -> float | None:
        # Columns of numbers take as long as they took when they were measured; a watchdog would cost more.
        return None if self._limits.execution == "auto" and not isinstance(rows, Fields) else deadline

    def _queued(self, request: Waiting) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        self._check_room()
        result = request.result = loop.create_future()
        self._waiting.append(request)
        if self._idle:
            self._due = True
            loop.call_soon(self._gather, loop, 0, 0)
        return result

    def _check_room(self) -> None:
        if len(self._waiting) < self._limits.queue:
            return
        self._waiting = deque(request for request in self._waiting if not request.left)
        if len(self._waiting) >= self._limits.queue:
            raise Overloaded(f"{len(self._waiting)} requests wait for this model already; try again in a second")

    def _gather(self, loop: asyncio.AbstractEventLoop, quiet: int, known: int) -> None:
        # No clock: an iteration of the loop takes microseconds, and under load each one brings more requests.
        if quiet >= QUIET_ITERATIONS or len(self._waiting) >= self._limits.batch_rows:
            self._run_next(loop)
            return
        count = len(self._waiting)
        loop.call_soon(self._gather, loop, quiet + 1 if count == known else 0, count)

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        batch = self._next_batch()
        self._arrivals.joined(len(batch) + len(self._waiting))
        if not batch:
            return
        if self.inline(batch[0].query.model, sum(len(request.rows) for request in batch)):
            self._deliver(self._outcomes(batch, self._guarded(batch[0].rows, _latest(batch))))
            self._continue(loop)
        else:
            self._start_on_thread(loop, batch)

    def _next_batch(self) -> list[Waiting]:
        # The oldest request, and all others that fit; those that do not keep their places.
        batch: list[Waiting] = []
        others: list[Waiting] = []
        rows, waited, most, now = 0, 0.0, self._limits.batch_rows, time.monotonic()
        while self._waiting and rows < most:
            request = self._waiting.popleft()
            if request.left or _is_late(request, now):
                continue
            count = rows + len(request.rows)
            if batch and (count > most or not alike(batch[0].rows, request.rows)):
                others.append(request)
                continue
            batch.append(request)
            rows, waited = count, waited + now - request.since
        self._waiting.extendleft(reversed(others))
        if batch:
            batch[0].query.model.tally.waited += waited
        return batch

    def _start_on_thread(self, loop: asyncio.AbstractEventLoop, batch: list[Waiting]) -> None:
        def finished(done: Future[list[Outcome]]) -> None:
            loop.call_soon_threadsafe(self._finish, loop, done.result())

        self._running = True
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="predictions")
        self._thread.submit(self._outcomes, batch, _latest(batch)).add_done_callback(finished)

    def _finish(self, loop: asyncio.AbstractEventLoop, outcomes: list[Outcome]) -> None:
        self._running = False
        self._deliver(outcomes)
        self._continue(loop)

    def _continue(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting:
            self._due = True
            loop.call_soon(self._run_next, loop)

    def _deliver(self, outcomes: Iterable[Outcome]) -> None:
        for group, outcome in outcomes:
            if isinstance(outcome, Exception):
                group[0].fail(outcome)
                continue
            for place, request in enumerate(group):
                request.settle(outcome, place)
            self._count(outcome)

    def _outcomes(self, batch: list[Waiting], deadline: float | None) -> list[Outcome]:
        groups = _groups(batch)
        ordered = [request for group in groups for request in group]
        try:
            joints = self._answered(ordered, deadline, groups)
        except Exception as error:  # noqa: BLE001  # it belongs to the request that caused it, and ends there
            return [(batch, error)] if len(batch) == 1 else self._apart(ordered, deadline)
        return list(zip(groups, joints, strict=True))

    def _apart(self, batch: list[Waiting], deadline: float | None) -> list[Outcome]:
        # By halves: one faulty request among n costs some 2 log n runs, and fails alone.
        half = len(batch) // 2
        return self._outcomes(batch[:half], deadline) + self._outcomes(batch[half:], deadline)

    def _answered(
        self, batch: list[Waiting], deadline: float | None, groups: Sequence[list[Waiting]] = ()
    ) -> list[JointAnswer]:
        posterior = _timed(batch[0].query.model, join([request.rows for request in batch]), deadline)
        if len(groups) <= 1:
            return [_concluded(batch, posterior)]
        joints, end = [], 0
        for group in groups:
            start, end = end, end + sum(len(request.rows) for request in group)
            joints.append(_concluded(group, posterior[start:end]))
        return joints


def _is_late(request: Waiting, now: float) -> bool:
    if request.deadline is None or now <= request.deadline:
        return False
    request.fail(DeadlineExceeded.in_the_queue())
    return True


def _latest(batch: Sequence[Waiting]) -> float | None:
    # A run must not end for all when the most impatient gives up; that one has a timer of its own.
    deadlines = [request.deadline for request in batch if request.deadline is not None]
    return max(deadlines) if len(deadlines) == len(batch) else None


def _groups(batch: list[Waiting]) -> list[list[Waiting]]:
    """Requests whose stages D and E run once for all: those with the same query, if it joins."""
    first = batch[0].query
    if first.joins and all(request.query is first for request in batch):
        return [batch]
    groups: dict[int, list[Waiting]] = {}
    for request in batch:
        groups.setdefault(id(request.query if request.query.joins else request), []).append(request)
    return list(groups.values())


def _timed(model: Model, rows: Rows, deadline: float | None) -> Posterior:
    started = time.perf_counter()
    try:
        posterior = model.posterior(rows, deadline=deadline)
    except Exception:
        model.tally.failures += 1
        raise
    model.tally.add(len(rows), time.perf_counter() - started)
    return posterior


def _concluded(group: Sequence[Waiting], posterior: Posterior) -> JointAnswer:
    query, monitor = group[0].query, group[0].monitor
    return JointAnswer(query, query.conclude(posterior, monitor=monitor), [request.part for request in group])
