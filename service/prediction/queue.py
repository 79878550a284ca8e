"""The one place where requests to a model wait: those that wait together are answered together.

Batching is natural, by no clock. A request that is alone is answered at once. A batch takes whatever queued while the
last one was busy, or arrived in the same iterations of the event loop. Stages A to C run once for its rows, D and E
once for every query among its requests. Cheap runs happen on the event loop itself, where handing them to a thread
would cost more than they do; expensive ones happen on one thread of the queue, so that probes are answered meanwhile.

Callers are served in fair order, and a request is admitted, before it is parsed, only if it need not wait for long.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

from service.bundle.runtime_options import Runtime
from service.errors import DeadlineExceeded, Overloaded
from service.prediction.answer import Part
from service.prediction.arrivals import Arrivals
from service.prediction.backlog import Backlog, advice
from service.prediction.counts import Counts
from service.prediction.fair_order import Entry, FairOrder
from service.prediction.joint_answer import JointAnswer, Result
from service.prediction.joint_runs import Outcome, answered, latest, outcomes
from service.prediction.query import Query
from service.prediction.sessions import monitor_of
from service.prediction.waiting import Waiting
from service.runtime.model import Model
from service.runtime.rows import Rows, alike
from service.runtime.timing import INLINE_SECONDS, UNKNOWN, RunTime

QUIET_ITERATIONS: Final = 2  # of the event loop: a request that is read in one is queued in the next


class Queue:
    """Requests to one model; belongs to one event loop, and keeps no model in memory that no request waits for.

    Parameters
    ----------
    limits : Runtime
        Where runs happen, how many rows they join, how many requests may wait.
    counts : Counts
    run_time : RunTime
        What runs of the model take.
    seconds : float
        That a request may be expected to wait.

    Attributes
    ----------
    backlog : Backlog
        What waits and runs, by caller.
    """

    def __init__(
        self, limits: Runtime, counts: Counts, run_time: RunTime = UNKNOWN, *, seconds: float = math.inf
    ) -> None:
        self._limits = limits
        self._counts = counts
        self._waiting: FairOrder[Waiting] = FairOrder()
        self.backlog = Backlog(run_time, seconds=seconds)
        self._is_slow = run_time.of(1) > INLINE_SECONDS or limits.execution == "thread"
        self._due = False  # a batch is due on the event loop
        self._arrivals = Arrivals()
        self._thread: ThreadPoolExecutor | None = None

    def inline(self, model: Model, rows: int) -> bool:
        """Whether so many rows are run on the event loop."""
        if self._limits.execution == "auto":
            return model.run_time.of(rows) <= INLINE_SECONDS
        return self._limits.execution == "inline"

    def immediate(self, model: Model, rows: int) -> bool:
        """Whether so many rows would be run on the event loop, and now: before a client can disconnect."""
        return self.running_since is None and self.inline(model, rows)

    @property
    def running_since(self) -> float | None:
        """When the run under way on the thread began, on the monotonic clock."""
        return self.backlog.running_since

    def admit(self, rows: int, *, caller: str, deadline: float | None = None) -> None:
        """Refuse a request that would wait too long, before its body is read or parsed.

        Parameters
        ----------
        rows : int
            That it is expected to have.
        caller : str
        deadline : float, optional
            On the monotonic clock.

        Raises
        ------
        Overloaded
        """
        self.backlog.check(caller=caller, rows=rows, deadline=deadline)

    def expecting(self, rows: int, *, caller: str) -> AbstractContextManager[None]:
        """Rows of a request that is being parsed count as waiting, while the context lasts."""
        return self.backlog.expecting(caller, rows)

    async def answer(
        self, query: Query, rows: Rows, part: Part, *, deadline: float | None = None, caller: str = ""
    ) -> Result:
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
        caller : str
            Its name: callers are served in fair order.

        Raises
        ------
        Overloaded
            If too many requests wait already, or this one would not be answered by its deadline.
        DeadlineExceeded
        Exception
            Whatever these rows, and no other request's, made the run raise.
        """
        now = time.monotonic()
        due = self._sooner(deadline, now)
        if due is not None and time.monotonic() >= due:
            raise DeadlineExceeded.in_the_queue()
        request = Waiting(query, rows, part, due, now, caller)
        if query.options.session is not None:
            request.monitor = await asyncio.to_thread(monitor_of, query.model, query.options.session)
        if self._idle and self._arrivals.alone() and self.inline(query.model, len(rows)):
            return self._at_once(request)
        result = self._queued(request)
        try:
            if due is None or self._thread is None:  # no timer fires before a run on the loop ends
                return await result
            async with asyncio.timeout_at(due):  # the loop's clock is the monotonic one
                return await result
        except TimeoutError:
            raise DeadlineExceeded.in_the_queue() from None
        finally:
            if request.is_counted:
                self._leave(request)

    def _sooner(self, deadline: float | None, now: float) -> float | None:
        seconds = self._limits.deadline
        if seconds is None:
            return deadline
        return now + seconds if deadline is None else min(deadline, now + seconds)

    @property
    def _idle(self) -> bool:
        return not self._due and self.running_since is None

    def _at_once(self, request: Waiting) -> Result:
        joint = answered([request], request.deadline)[0]
        self._count(joint)
        return joint, 0

    def _count(self, joint: JointAnswer) -> None:
        self._counts.count(joint.query.options.verb, joint.answer, joint.parts)
        self._counts.time(joint.query.model.name, joint.queued, joint.timings)

    def _queued(self, request: Waiting) -> asyncio.Future[Result]:
        loop, rows = asyncio.get_running_loop(), len(request.rows)
        self._check_room()
        if request.deadline is not None and (self._thread is not None or self._is_slow):
            self.backlog.check_time(caller=request.caller, rows=rows, deadline=request.deadline)
        result = request.result = loop.create_future()
        self._waiting.push(request, caller=request.caller, size=rows)
        self.backlog.add(request.caller, rows)
        request.is_counted = True
        self._counts.wait(request.query.model.name)
        if self._idle:
            self._due = True
            loop.call_soon(self._gather, loop, 0, 0)
        return result

    def _leave(self, request: Waiting) -> None:
        request.is_counted = False
        self._counts.wait(request.query.model.name, -1)
        self.backlog.remove(request.caller, len(request.rows))

    def _check_room(self) -> None:
        if len(self._waiting) < self._limits.queue:
            return
        self._waiting.remove(lambda request: request.left)
        if len(self._waiting) >= self._limits.queue:
            number = len(self._waiting)
            raise Overloaded(f"{number} requests wait for this model already; try again later", seconds=advice(1.0))

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
        rows = sum(len(request.rows) for request in batch)
        if self.inline(batch[0].query.model, rows):
            started = time.monotonic()
            self._conclude(outcomes(batch, latest(batch)), rows, started, loop)
        else:
            self._start_on_thread(loop, batch, rows)

    def _next_batch(self) -> list[Waiting]:
        # The first request, and all others that fit; those that do not keep their places.
        batch: list[Waiting] = []
        others: list[Entry[Waiting]] = []
        rows, waited, most, now = 0, 0.0, self.backlog.most_rows(self._limits.batch_rows), time.monotonic()
        while self._waiting and rows < most:
            entry = self._waiting.pop()
            request = entry[2]
            if request.left or request.is_late(now):
                continue
            count = rows + len(request.rows)
            if batch and (count > most or not alike(batch[0].rows, request.rows)):
                others.append(entry)
                continue
            request.is_counted = False
            self.backlog.remove(request.caller, len(request.rows))
            self._waiting.serve(entry)
            batch.append(request)
            rows, waited = count, waited + now - request.since
        self._waiting.put_back(others)
        if batch:
            self._counts.wait(batch[0].query.model.name, -len(batch))
            batch[0].query.model.tally.waited += waited
        return batch

    def _start_on_thread(self, loop: asyncio.AbstractEventLoop, batch: list[Waiting], rows: int) -> None:
        def finished(done: Future[list[Outcome]]) -> None:
            loop.call_soon_threadsafe(self._finish, loop, done.result(), rows, started)

        started = self.backlog.start(rows)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictions")
            self._set_timers(loop, batch)
        self._thread.submit(outcomes, batch, latest(batch)).add_done_callback(finished)

    def _finish(self, loop: asyncio.AbstractEventLoop, done: list[Outcome], rows: int, started: float) -> None:
        self.backlog.stop()
        self._conclude(done, rows, started, loop)

    def _conclude(self, done: list[Outcome], rows: int, started: float, loop: asyncio.AbstractEventLoop) -> None:
        ended = time.monotonic()
        self._deliver(done)
        joints = [outcome for _, outcome in done if not isinstance(outcome, Exception)]
        if len(joints) == len(done):
            seconds = joints[-1].timings.concluded - joints[0].timings.started
            self.backlog.learn(rows, seconds, lag=ended - started - seconds)
        self._continue(loop)

    def _continue(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting:
            self._due = True
            loop.call_soon(self._run_next, loop)
        else:
            self._waiting.restart()

    def _deliver(self, done: Iterable[Outcome]) -> None:
        for group, outcome in done:
            if isinstance(outcome, Exception):
                group[0].fail(outcome)
                continue
            outcome.undelivered += [place for place, request in enumerate(group) if request.left]
            for place, request in enumerate(group):
                request.settle(outcome, place)
            self._count(outcome)

    def _set_timers(self, loop: asyncio.AbstractEventLoop, batch: list[Waiting]) -> None:
        # Of requests that came before there was a thread; those that come later have timers of their own.
        for request in (*batch, *self._waiting.items()):
            if request.deadline is not None:
                loop.call_at(request.deadline, request.fail, DeadlineExceeded.in_the_queue())
