"""A server under load, beside a floor that answers as many bytes and does nothing for them."""

import asyncio
import multiprocessing
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

import httptools
import numpy as np
import uvicorn
from rich.table import Table
from starlette.types import Receive, Scope, Send

from service.errors import ServiceError

START_SECONDS: Final = 60.0
ROUNDS: Final = 3
WARM_UP: Final = 0.2


class BenchFailed(ServiceError):
    """A server that does not answer, or answers an error."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes
    ----------
    host : str
    port : int
    process : int or None
        Its id, where it runs here.
    """

    host: str
    port: int
    process: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What some connections saw in some time.

    Attributes
    ----------
    per_second : float
        Answers.
    p50, p99 : float
        Seconds until an answer was complete.
    """

    per_second: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians of interleaved runs of the server and the floor at one number of connections."""

    connections: int
    server: Load
    floor: Load


def compare(
    server: Address, floor: Address, request: bytes, *, connections: Sequence[int], seconds: float
) -> Iterator[Comparison]:
    """Drive both in turn, so that whatever else the machine does meets both alike.

    Parameters
    ----------
    server, floor : Address
    request : bytes
        A whole HTTP/1.1 request; every connection sends it again as soon as it has its answer.
    connections : sequence of int
    seconds : float
        Of one run; each server has three at every number of connections.

    Raises
    ------
    BenchFailed
        If an answer is anything but 200, or none comes.
    """
    for count in connections:
        runs = [
            [asyncio.run(drive(address, request, connections=count, seconds=seconds)) for address in (server, floor)]
            for _ in range(ROUNDS)
        ]
        yield Comparison(count, _median([run[0] for run in runs]), _median([run[1] for run in runs]))


async def drive(address: Address, request: bytes, *, connections: int, seconds: float, pause: float = 0.0) -> Load:
    """One run; what the first fifth of a second saw is left out.

    With a pause, every connection waits for that long on average before it sends again, by chance: the requests of
    many then come as those of callers who do not know of each other.
    """
    loop = asyncio.get_running_loop()
    start = time.perf_counter() + WARM_UP
    callers = [_Caller(request, start, start + seconds, loop.create_future(), pause) for _ in range(connections)]
    try:
        for caller in callers:
            await loop.create_connection(lambda caller=caller: caller, address.host, address.port)  # type: ignore[misc]
    except OSError as error:
        raise BenchFailed(f"nothing answers at {address.host} port {address.port}: {error.strerror}") from None
    await asyncio.gather(*(caller.done for caller in callers))
    times = np.concatenate([caller.times for caller in callers])
    if not len(times):
        raise BenchFailed("no answer was complete in time; give it more --seconds")
    return Load(len(times) / seconds, *np.quantile(times, [0.5, 0.99]).tolist())


def as_table(found: Sequence[Comparison], *, rows: int) -> Table:
    """For a terminal; the last column is what the service costs beside its HTTP server."""
    table = Table(
        "connections", "requests/s", "rows/s", "p50", "p99", "floor requests/s", "floor p50", "share of floor"
    )
    for one in found:
        cells = (
            str(one.connections),
            f"{one.server.per_second:,.0f}",
            f"{rows * one.server.per_second:,.0f}",
            *(f"{1000 * seconds:.2f} ms" for seconds in (one.server.p50, one.server.p99)),
            f"{one.floor.per_second:,.0f}",
            f"{1000 * one.floor.p50:.2f} ms",
            f"{one.server.per_second / one.floor.per_second:.2f}",
        )
        table.add_row(*cells)
    return table


def ask(address: Address, request: bytes) -> bytes:
    """Body of one answer; BenchFailed if it is no 200."""
    return bytes(asyncio.run(_ask(address, request)).body)


def answer_bytes(address: Address, request: bytes) -> int:
    """Bytes of one answer on the network, its head included; BenchFailed if it is no 200."""
    return asyncio.run(_ask(address, request)).received


async def _ask(address: Address, request: bytes) -> "_Caller":
    loop = asyncio.get_running_loop()
    caller = _Caller(request, 0.0, 0.0, loop.create_future())
    try:
        await loop.create_connection(lambda: caller, address.host, address.port)
    except OSError as error:
        raise BenchFailed(f"nothing answers at {address.host} port {address.port}: {error.strerror}") from None
    await caller.done
    return caller


def request_bytes(address: Address, path: str, body: bytes, *, key: str | None = None) -> bytes:
    """A POST as any client would send it, with the API key that it has."""
    credential = "" if key is None else f"Authorization: Bearer {key}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nAccept: */*\r\n{credential}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextmanager
def running(target: Callable[..., None], *arguments: Any) -> Iterator[Address]:
    """A server in a process of its own: ``target(*arguments, port)``, once it accepts connections."""
    address = Address("127.0.0.1", _free_port())
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, address.port), daemon=True)
    process.start()
    try:
        _wait_for(address, process)
        yield replace(address, process=process.pid)
    finally:
        process.terminate()
        process.join()


def serve_floor(body: bytes, port: int) -> None:
    """Answer everything with the same bytes: what this HTTP server costs when nothing is computed."""
    uvicorn.run(_Floor(body), host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False)


def _wait_for(address: Address, process: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.is_alive():
        try:
            socket.create_connection((address.host, address.port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchFailed("the server did not start; `temperance serve` says why")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _median(runs: Sequence[Load]) -> Load:
    return Load(*(median(getattr(run, name) for run in runs) for name in ("per_second", "p50", "p99")))


@dataclass(slots=True, eq=False)
class _Caller(asyncio.Protocol):
    request: bytes
    start: float
    end: float
    done: "asyncio.Future[None]"
    pause: float = 0.0
    times: list[float] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    received: int = 0
    _transport: Any = None
    _parser: Any = None
    _sent: float = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.done.done():
            self.done.set_exception(BenchFailed("the server closed a connection before it had answered"))

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if self._parser.get_status_code() != 200:
            self._finish(BenchFailed(f"the server answered {self._parser.get_status_code()}, not 200"))
        elif now >= self.end:
            self._finish(None)
        else:
            if self._sent >= self.start:
                self.times.append(now - self._sent)
            self._send_again()

    def _send_again(self) -> None:
        if self.pause:
            pause = random.expovariate(1.0 / self.pause)  # nothing secret
            self.done.get_loop().call_later(pause, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self.body.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._sent = time.perf_counter()
        self._transport.write(self.request)

    def _finish(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None) if error is None else self.done.set_exception(error)
        self._transport.close()


class _Floor:
    def __init__(self, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._start = {"type": "http.response.start", "status": 200, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send(self._start)
        await send(self._body)
