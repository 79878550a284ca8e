"""One connection: sends the steps of a request, and reads what comes back, whatever it is."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.door.answers import Answer, parsed
from tests.door.pieces import HalfClose, Pause, Step

AT_ONCE: Final = 1 << 18  # bytes that a client hands to the socket before it waits


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What happened on one connection.

    Attributes
    ----------
    answers : tuple of Answer
        Those that are whole; interim ones (1xx) are not among them.
    rest : bytes
        Read after them: part of an answer, or no HTTP.
    closed : bool
        Whether the server ended the connection.
    reset : bool
        Whether it did so without reading what was sent.
    seconds : float
        From the connection to the end, or to the last answer.
    """

    answers: tuple[Answer, ...]
    rest: bytes
    closed: bool
    reset: bool
    seconds: float


class Connection(asyncio.Protocol):
    """Keeps what arrives; unlike a stream reader it keeps it through a reset too."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.reset = False
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._changed.set()
        return True  # what is still to be sent is sent: a server that answered early reads and drops it

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.reset = exc is not None
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, steps: Sequence[Step]) -> None:
        """Do every step, as long as the connection stands."""
        for step in steps:
            if self.ended:
                return
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, HalfClose):
                self._open().write_eof()
            else:
                await self._write(step)

    async def change(self) -> None:
        """Wait until something arrives, or the connection ends."""
        if not self.ended:
            await self._changed.wait()
            self._changed.clear()

    def close(self) -> None:
        """End it at once."""
        self._open().abort()

    async def _write(self, data: bytes) -> None:
        for start in range(0, len(data), AT_ONCE):
            if self._open().is_closing():  # asyncio would write a line for each piece
                return
            self._open().write(data[start : start + AT_ONCE])
            await self._writable.wait()
            if self.ended:
                return

    def _open(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport


async def connect(address: Address) -> Connection:
    """A new connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, address.host, address.port)
    return connection


async def exchange(
    address: Address, steps: Sequence[Step], *, count: int = 1, within: float = 5.0, until_closed: bool = False
) -> Exchange:
    """Send a request on a connection of its own, and read its answers.

    Parameters
    ----------
    address : Address
    steps : sequence of Step
    count : int
        Answers that are waited for.
    within : float
        Seconds after which the client gives up.
    until_closed : bool
        Whether the end of the connection is waited for too.
    """
    started = time.monotonic()
    connection = await connect(address)
    sending = asyncio.ensure_future(connection.send(steps))
    is_head = is_of_head(steps)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await _read(connection, is_head=is_head, count=count, until_closed=until_closed)
        seconds = time.monotonic() - started
        answers, rest = parsed(connection.received, is_head, ended=connection.ended)
        return Exchange(tuple(answers), rest, connection.ended, connection.reset, seconds)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, RuntimeError):
            await sending
        connection.close()


async def _read(connection: Connection, *, is_head: bool, count: int, until_closed: bool) -> None:
    while not connection.ended:
        if not until_closed and len(parsed(connection.received, is_head, ended=False)[0]) >= count:
            return
        await connection.change()


def is_of_head(steps: Sequence[Step]) -> bool:
    """Whether the first request is a HEAD, whose answer has no body."""
    first = next((step for step in steps if isinstance(step, bytes)), b"")
    return first.startswith(b"HEAD ")
