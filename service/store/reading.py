"""Reading beside the event loop: a few connections that only read, a thread for each, and a bounded queue.

Tested in tests/store/test_reading.py.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Semaphore
from typing import Final, TypeVar

from service.errors import DeadlineExceeded, Overloaded
from service.record_errors import StoreUnavailable
from service.store.engine import Store

Result = TypeVar("Result")
CONNECTIONS: Final = 2
MOST_AT_ONCE: Final = 32
"""Readings that run or wait; each may hold 10,000 outcomes."""


class Readers:
    """Readings of the store, each on a thread and with a connection of its own.

    Parameters
    ----------
    connect : callable
        Opens a connection that only reads; called on a thread, when the first reading needs it.
    connections : int, optional
    most_at_once : int, optional
        Readings that run or wait; one more is refused.
    """

    def __init__(
        self, connect: Callable[[], Store], *, connections: int = CONNECTIONS, most_at_once: int = MOST_AT_ONCE
    ) -> None:
        self._connect = connect
        self._places = Semaphore(most_at_once)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="store-reader")
        self._idle: SimpleQueue[Store] = SimpleQueue()

    async def read(self, reading: Callable[[Store], Result], *, deadline: float) -> Result:
        """What a reading returns.

        Parameters
        ----------
        reading : callable
            Called on a thread with a connection that is its own until it returns; iterators of the store end there.
        deadline : float
            On the clock of the event loop. A reading that has begun goes on behind it, and its result is dropped.

        Raises
        ------
        StoreUnavailable, StoreDamaged
        Overloaded
            If too many readings wait.
        DeadlineExceeded
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many requests read the record at once; try again")
        future = self._threads.submit(self._run, reading)
        future.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.wrap_future(future)  # one that still waits at the deadline is cancelled
        except TimeoutError:
            raise DeadlineExceeded("the record was not read in time; ask for less of it") from None

    def close(self) -> None:
        """Close every connection, after the readings that have begun."""
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()

    def _run(self, reading: Callable[[Store], Result]) -> Result:
        store = self._connection()
        try:
            result = reading(store)
        except StoreUnavailable:
            store.close()  # the next reading connects again
            raise
        except BaseException:
            self._idle.put(store)
            raise
        self._idle.put(store)
        return result

    def _connection(self) -> Store:
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._connect()
