"""The event loop's side of writing: bounded, with one notice per group of what became of it.

A `Writer` belongs to one event loop at a time. Tested in tests/store/test_record_writer.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar, cast

from service.errors import ServiceError
from service.record_errors import StoreUnavailable
from service.store.commit_thread import Chore, CommitThread, Observer
from service.store.engine import Store
from service.store.entries import Write
from service.store.submissions import Submission, Use, size_of

Result = TypeVar("Result")

MOST_WAITING: Final = 10_000  # submissions
MOST_BYTES: Final = 64 << 20  # of all that wait
STALLED_SECONDS: Final = 2.0
"""After which a commit that does not end counts as a fault: what comes then is refused, and does not wait too."""
LOOK_SECONDS: Final = 0.05  # between looks for waiters whose time is over


class Writer:
    """Hands entries to the thread that writes them.

    Parameters
    ----------
    connect : callable
        Opens the store; called on the thread.
    observer : Observer
    chores : sequence of Chore
        That the thread does beside.
    most_waiting, most_bytes : int
        That wait at once; more are refused.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        observer: Observer,
        chores: Sequence[Chore] = (),
        *,
        most_waiting: int = MOST_WAITING,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._thread = CommitThread(connect, self._settle, observer, chores)
        self._most_waiting, self._most_bytes = most_waiting, most_bytes
        self._waiting: set[Submission] = set()
        self._bytes = 0
        self._looks = False  # for waiters whose time is over

    @property
    def waiting(self) -> int:
        """Submissions that are not settled."""
        return len(self._waiting)

    @property
    def fault(self) -> str | None:
        """Why nothing can be written now; None where something can."""
        if self._thread.fault is not None:
            return self._thread.fault
        since = self._thread.busy_since
        if since is None or time.monotonic() - since < STALLED_SECONDS:
            return None
        return "a commit does not end"

    def check(self) -> None:
        """Whether something can be written now.

        Raises
        ------
        StoreUnavailable
        """
        if (fault := self.fault) is not None:
            raise StoreUnavailable(fault)

    def submit(self, write: Write) -> Submission:
        """Hand over what is written together, with whatever else waits; on the event loop.

        Raises
        ------
        StoreUnavailable
            At once while the store fails, and where too much waits.
        """
        self.check()
        size = size_of(write)
        if len(self._waiting) >= self._most_waiting or self._bytes + size > self._most_bytes:
            raise StoreUnavailable("too much waits to be written")
        submission = Submission(write, asyncio.get_running_loop(), size)
        self._waiting.add(submission)
        self._bytes += size
        self._thread.start()
        self._thread.put(submission)
        if not self._looks:
            self._looks = True
            submission.loop.call_later(LOOK_SECONDS, self._look, submission.loop)
        return submission

    async def use(self, use: Callable[[Store], Result]) -> Result:
        """What a function makes of the store, on the thread that writes.

        Raises
        ------
        StoreUnavailable
        """
        self.check()
        loop = asyncio.get_running_loop()
        job = Use(use, loop, loop.create_future())
        self._thread.start()
        self._thread.put(job)
        return cast("Result", await job.result)

    def post(self, use: Callable[[Store], object]) -> None:
        """Have the store used in some way, whatever comes of it."""
        loop = asyncio.get_running_loop()
        job = Use(use, loop, loop.create_future())
        job.result.add_done_callback(_seen)
        self._thread.put(job)

    @asynccontextmanager
    async def running(self, *, opens: bool = True) -> AsyncIterator[None]:
        """Open the store now, or once it is used; at the end of the context write what waits and close it."""
        try:
            if opens:
                await self._opened()
            yield
        finally:
            await asyncio.to_thread(self._thread.end)

    async def _opened(self) -> None:
        try:
            await self.use(_nothing)
        except ServiceError:
            return  # it is logged, and tried again

    def _settle(self, submissions: Sequence[Submission], failure: ServiceError | None) -> None:
        for submission in submissions:
            self._waiting.discard(submission)
            self._bytes -= submission.size
            submission.settle(failure)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer for all: a timer for every request would cost as much as its record.
        now = loop.time()
        for submission in self._waiting:
            submission.expire(now)
        self._looks = bool(self._waiting)
        if self._looks:
            loop.call_later(LOOK_SECONDS, self._look, loop)


def _nothing(store: Store) -> None:
    del store


def _seen(done: "asyncio.Future[object]") -> None:
    if not done.cancelled():
        done.exception()
