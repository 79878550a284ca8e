"""What is handed to the thread that writes: entries that are committed together, and other uses of its connection.

Both belong to an event loop, which alone settles them. Tested in tests/store/test_record_writer.py.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from service.errors import DeadlineExceeded, ServiceError
from service.store.engine import Store
from service.store.entries import Write

ROW_BYTES: Final = 512  # of an entry beside its byte strings, in memory


@dataclass(slots=True, eq=False)
class Submission:
    """Entries on their way into the store.

    Attributes
    ----------
    write : Write
    loop : AbstractEventLoop
    size : int
        Bytes, some.
    is_done : bool
        Whether it is known what became of them.
    failure : ServiceError or None
        Why they are not in the store.
    waiters : list of (future, deadline)
        Of those who wait, on the clock of the event loop.
    """

    write: Write
    loop: asyncio.AbstractEventLoop
    size: int
    is_done: bool = False
    failure: ServiceError | None = None
    waiters: list[tuple[asyncio.Future[None], float]] = field(default_factory=list)

    @classmethod
    def failed(cls, failure: ServiceError) -> Self:
        """Entries that could not be handed over."""
        return cls(Write(), asyncio.get_running_loop(), 0, is_done=True, failure=failure)

    def durable(self, deadline: float) -> asyncio.Future[None]:
        """Done once the entries are durable; every waiter has a future of its own, which it may cancel.

        Raises
        ------
        StoreUnavailable
        DeadlineExceeded
            The entries may become durable later.
        """
        waiter: asyncio.Future[None] = self.loop.create_future()
        if self.is_done:
            _settle(waiter, self.failure)
        else:
            self.waiters.append((waiter, deadline))
        return waiter

    def settle(self, failure: ServiceError | None) -> None:
        """State what became of the entries; on the event loop."""
        self.is_done, self.failure = True, failure
        for waiter, _ in self.waiters:
            _settle(waiter, failure)
        self.waiters.clear()

    def expire(self, now: float) -> None:
        """Let those go whose time is over."""
        for waiter, deadline in self.waiters:
            if now >= deadline:
                _settle(waiter, DeadlineExceeded("the record of the answer was not durable in time"))


@dataclass(slots=True, eq=False)
class Use:
    """Another use of the connection.

    Attributes
    ----------
    use : callable
        Takes the store.
    loop : AbstractEventLoop
    result : Future
    """

    use: Callable[[Store], object]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[object]

    def settle(self, outcome: object, failure: ServiceError | None) -> None:
        """Hand over what came of it; on the event loop."""
        if self.result.done():
            return
        if failure is None:
            self.result.set_result(outcome)
        else:
            self.result.set_exception(failure)


def size_of(write: Write) -> int:
    """Bytes of a write in memory, some."""
    entries = len(write.predictions) + len(write.outcomes) + len(write.events) + len(write.sealed)
    blobs = sum([len(one.columns) + len(one.row_digests) for one in write.predictions])
    texts = sum([len(one.content) for one in write.sealed]) + sum([len(one.content) for one in write.replies])
    return ROW_BYTES * entries + blobs + texts


def _settle(waiter: asyncio.Future[None], failure: ServiceError | None) -> None:
    if waiter.done():
        return
    if failure is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(failure)
