"""The protocol on bytes that chance has changed, split and delayed, in process: nothing hangs or is written late.

The long version: ``python -m pytest tests/api/test_mutated_bytes.py -m long``.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.api.connection_scan import ConnectionScan
from service.api.ending import AT_THE_END, ENDING, Ending
from service.api.http_limits import HttpLimits
from service.api.http_protocol import StrictHttpProtocol
from service.api.loop_load import LoopLoad, Overload
from service.api.refusals import REFUSALS, Refusals
from service.telemetry import Telemetry

WHOLE = (
    b"GET /aa HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /abc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /abcd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=f\r\nde\r\n0\r\nT: v\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    b"GET http://x/ HTTP/1.0\r\n\r\n",
    b"POST /ex HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"\r\n",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\0",
    b"#",
    b"\xff",
    b"8000000000000000",
    b"Host: y\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\n",
    b"Connection: upgrade\r\n",
    b"A" * 5000,
    b"x: y\r\n" * 101,
)


class Wire(asyncio.Transport):
    """Holds what is written, and does not take anything after the end."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__({"socket": connection})
        self.written, self.is_closed, self.is_half = b"", False, False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        assert not self.is_half
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.is_half = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """Nothing is read here."""

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, or does not, as the length of the path has it, and answers."""
    is_whole = len(scope["path"]) % 3 == 0
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        is_whole = not message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def mutated(draw: random.Random) -> bytearray:
    data = bytearray(b"".join(draw.choice(WHOLE) for _ in range(draw.randint(1, 4))))
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            data[at:at] = draw.choice(PIECES)
        elif kind == 1:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 2:
            del data[at : at + draw.randint(1, 8)]
        else:
            data[at:at] = data[max(0, at - draw.randint(1, 30)) : at]
    return data


class Connections:
    """Makes connections that share what those of one process share."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._config = Config(app, log_config=None, access_log=False, ws="none", interface="asgi3")
        self._config.load()
        self.state = ServerState()
        self._refusals = Refusals(Telemetry(CollectorRegistry()), lambda: "an-id", Overload())

    def made(self) -> tuple[StrictHttpProtocol, Wire]:
        wire = Wire(self._socket)
        shared: dict[str, Any] = {"limits": HttpLimits(), "scan": ConnectionScan(), "load": LoopLoad()}
        self.ending = Ending()  # of this connection alone
        state = {REFUSALS: self._refusals, ENDING: self.ending}
        protocol = StrictHttpProtocol(self._config, self.state, state, **shared)
        protocol.connection_made(wire)
        return protocol, wire


async def send(protocol: StrictHttpProtocol, wire: Wire, data: bytearray, draw: random.Random, ending: Ending) -> None:
    """Give a connection bytes in parts, let time pass, and lose it."""
    now = asyncio.get_running_loop().time()
    while data and not wire.is_closed:
        size = draw.choice((1, 3, 10, 100, 10_000))
        part, data = bytes(data[:size]), data[size:]
        protocol.data_received(part)
        if draw.random() < 0.5:
            await asyncio.sleep(0)
    await settled()
    if draw.random() < 0.2:
        ending.close(AT_THE_END)
        protocol.shutdown()
    for later in (3, 6, 80, 200, 206):
        if not wire.is_closed:
            protocol.check(now + later)
        await settled()
    # Only a body that is still read keeps a connection: its time is the application's.
    assert wire.is_closed or not protocol.cycle.response_complete
    protocol.connection_lost(None)
    await settled()


async def settled() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def send_many(seeds: range, connection: socket.socket) -> set[bytes]:
    """Status lines that came of it."""
    connections, seen = Connections(connection), set()
    for seed in seeds:
        draw = random.Random(seed)  # noqa: S311  # changes bytes, hides nothing
        protocol, wire = connections.made()
        await send(protocol, wire, mutated(draw), draw, connections.ending)
        assert not connections.state.tasks, seed
        seen |= {line[:12] for line in wire.written.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")}
    return seen


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """With nothing in it to read."""
    one, other = socket.socketpair()
    with one, other:
        yield one


async def check(seeds: range, connection: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    failed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    with caplog.at_level(logging.WARNING):
        seen = await send_many(seeds, connection)
    assert failed == []
    assert caplog.records == []
    assert {b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 405", b"HTTP/1.1 408"} <= seen
    assert not any(line.startswith(b"HTTP/1.1 500") for line in seen)


async def test_mutated_requests_end_in_an_answer_or_a_closed_connection(
    connection: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    await check(range(3000), connection, caplog)


@pytest.mark.long
async def test_two_hundred_thousand_mutated_requests_do_so_too(
    connection: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    await check(range(200_000), connection, caplog)
