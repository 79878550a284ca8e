"""Large bodies of all requests in the process: their bytes are bounded, and they are parsed one after the other.

The parsers hold Python's lock for a whole document, whatever thread they are on. So one body is parsed in an iteration
of the event loop, and between two of them the loop answers others, probes among them. The largest are parsed on a
thread: what is written in Python, which checks them value by value, then lets the loop run meanwhile.
"""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

from starlette.types import Message, Receive

from service.errors import DeadlineExceeded, Overloaded
from service.prediction.backlog import advice

LARGEST: Final = 1 << 20  # bytes that are parsed on the event loop, in some 5 ms
MOST_HELD: Final = 64 << 20  # bytes of large bodies in the process
BYTE_SECONDS: Final = 5e-9  # that parsing takes, before it was measured
WEIGHT: Final = 0.2  # of the last body in what parsing is expected to take
MOST_SURPRISE: Final = 4.0  # times what was expected: a body may be compressed, or the machine pause
WORKED_OFF: Final = 0.25  # seconds, about, until some of the bodies are answered

Parsed = TypeVar("Parsed")


class LargeBodies:
    """The large bodies that are in the process; belongs to one event loop.

    Parameters
    ----------
    seconds : float
        That a body may be expected to wait for those that are parsed before it.
    most : int
        Bytes of all bodies; one that is alone may have more.
    """

    def __init__(self, seconds: float = math.inf, *, most: int = MOST_HELD) -> None:
        self.held = 0
        self._most = most
        self._seconds = seconds
        self._parsing = asyncio.Lock()
        self._unparsed = 0
        self._byte_seconds = BYTE_SECONDS
        self._thread: ThreadPoolExecutor | None = None

    def check_wait(self) -> None:
        """Refuse a body if it would wait too long for those that are parsed before it.

        Raises
        ------
        Overloaded
        """
        if self._unparsed * self._byte_seconds > self._seconds:
            raise Overloaded(
                "large bodies wait too long for being read already; try again later", seconds=advice(WORKED_OFF)
            )

    def check_room(self, size: int) -> None:
        """Refuse so many bytes of a request if others hold too many already.

        Raises
        ------
        Overloaded
        """
        if self.held and self.held + size > self._most:
            raise Overloaded("requests hold too much memory already; try again later", seconds=advice(WORKED_OFF))

    async def parse(self, parse: Callable[[bytes], Parsed], body: bytes, *, deadline: float) -> Parsed:
        """What a body says, once those before it have been parsed.

        Raises
        ------
        DeadlineExceeded
        Exception
            Whatever ``parse`` raises.
        """
        self._unparsed += len(body)
        try:
            async with asyncio.timeout_at(deadline), self._parsing:  # the loop's clock is the monotonic one
                if time.monotonic() < deadline:  # the timer fires in a later iteration of the loop
                    return await self._measured(parse, body)
        except TimeoutError:
            pass
        finally:
            self._unparsed -= len(body)
        raise DeadlineExceeded.in_the_queue()

    async def _measured(self, parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
        started = time.monotonic()
        try:
            return await self._parse(parse, body)
        finally:
            taken = min((time.monotonic() - started) / max(1, len(body)), MOST_SURPRISE * self._byte_seconds)
            self._byte_seconds += WEIGHT * (taken - self._byte_seconds)

    async def _parse(self, parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
        if len(body) > LARGEST:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="bodies")
            return await asyncio.get_running_loop().run_in_executor(self._thread, parse, body)
        try:
            return parse(body)
        finally:
            await asyncio.sleep(0)  # the next one is parsed in another iteration of the loop


class Held:
    """ASGI's receive of one request, which counts the bytes that come, until the request was answered.

    Bytes that were declared and did not come hold nothing: slow clients keep no others out.

    Parameters
    ----------
    bodies : LargeBodies
    receive : callable
    """

    def __init__(self, bodies: LargeBodies, receive: Receive) -> None:
        self._bodies = bodies
        self._receive = receive
        self._size = 0

    async def __call__(self) -> Message:
        """The next message.

        Raises
        ------
        Overloaded
            If there is no room for its bytes.
        """
        message = await self._receive()
        size = len(message.get("body", b""))
        if self._bodies.held > self._size:  # by others
            self._bodies.check_room(size)
        self._bodies.held += size
        self._size += size
        return message

    def __enter__(self) -> Self:
        """Hold what comes from now on."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of what came."""
        self._bodies.held -= self._size
        self._size = 0
