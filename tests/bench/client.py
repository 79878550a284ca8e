"""Requests at times fixed beforehand: an answer that is late delays no request, and its lateness counts.

One thread, raw sockets and finished bytes, so that a request costs the client some twenty microseconds. Latency runs
from the scheduled moment to the last byte of the answer; time spent waiting for a free connection is part of it.
"""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tests.bench.servers import Server
from tests.bench.wrk import Request

Times = npt.NDArray[np.float64]

PATIENCE: Final = 30.0
GRAIN: Final = 1 << 18
LENGTH: Final = b"content-length: "


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of every request, in seconds.

    Attributes
    ----------
    latencies : ndarray of shape (N,)
        From the scheduled moment to the whole answer.
    lags : ndarray of shape (N,)
        From the scheduled moment to sending: what the client itself, or a want of connections, adds.
    busy : float
        Share of the time that the client computed.
    """

    latencies: Times
    lags: Times
    busy: float

    def quantile(self, share: float) -> float:
        """Latency that this share of the requests did not exceed."""
        return float(np.quantile(self.latencies, share, method="higher"))


def poisson(rate: float, seconds: float, *, seed: int) -> Times:
    """Moments at which independent callers arrive."""
    gaps = np.random.default_rng(seed).exponential(1.0 / rate, size=int(2 * rate * seconds) + 100)
    moments = np.cumsum(gaps)
    return moments[moments < seconds]


def constant(rate: float, seconds: float) -> Times:
    """Moments at equal distances."""
    return np.arange(int(rate * seconds)) / rate


def send(server: Server, request: Request | Sequence[Request], moments: Times, *, connections: int) -> Seen:
    """Send a request at every moment, one request after another.

    Where all moments are zero, this is a closed loop of so many requests.
    """
    requests = [request] if isinstance(request, Request) else request
    with ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        links = [stack.enter_context(socket.create_connection(address)) for _ in range(connections)]
        stack.enter_context(undisturbed())
        return _Schedule(links, [_as_bytes(one) for one in requests], moments).run()


class _Schedule:
    def __init__(self, links: Sequence[socket.socket], requests: Sequence[bytes], moments: Times) -> None:
        self._links = {link.fileno(): link for link in links}
        self._free = deque(self._links)
        self._requests = requests
        self._due: list[float] = moments.tolist()
        self._sent = np.zeros(len(moments))
        self._answered = np.zeros(len(moments))
        self._requested: dict[int, int] = {}  # connection -> place of its request
        self._parts: dict[int, bytes] = dict.fromkeys(self._links, b"")

    def run(self) -> Seen:
        with select.epoll() as epoll:
            for number, link in self._links.items():
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                epoll.register(number, select.EPOLLIN)
            start, computed = time.perf_counter(), time.process_time()
            self._loop(epoll, start)
            busy = (time.process_time() - computed) / (time.perf_counter() - start)
        due = np.asarray(self._due)
        return Seen(self._answered - due, self._sent - due, busy)

    def _loop(self, epoll: select.epoll, start: float) -> None:
        following, open_requests, due = 0, len(self._due), self._due
        while open_requests:
            now = time.perf_counter() - start
            while self._free and following < len(due) and due[following] <= now:
                self._ask(following, start)
                following += 1
            waits = PATIENCE if following == len(due) or not self._free else max(0.0, due[following] - now)
            # epoll's own timeout counts whole milliseconds, select's microseconds; an epoll can be selected.
            if not select.select([epoll.fileno()], [], [], waits)[0]:
                if waits == PATIENCE:
                    raise SystemExit("the server stopped answering")
                continue
            open_requests -= sum(self._receive(number, start) for number, _ in epoll.poll(0))

    def _ask(self, place: int, start: float) -> None:
        number = self._free.popleft()
        self._requested[number] = place
        self._links[number].sendall(self._requests[place % len(self._requests)])
        self._sent[place] = time.perf_counter() - start

    def _receive(self, number: int, start: float) -> bool:
        part = self._links[number].recv(GRAIN)
        if not part:
            raise SystemExit("the server closed a connection before it had answered")
        answer = self._parts[number] + part
        self._parts[number] = b"" if (whole := complete(answer)) else answer
        if whole:
            self._answered[self._requested[number]] = time.perf_counter() - start
            self._free.append(number)
        return whole


def complete(answer: bytes) -> bool:
    """Whether this is all of an answer; SystemExit if it is no 200."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(answer[:head].decode())
    place = answer.index(LENGTH, 0, head) + len(LENGTH)
    return len(answer) >= head + 4 + int(answer[place : answer.index(b"\r\n", place)])


def _as_bytes(request: Request) -> bytes:
    headers = {"host": "127.0.0.1", "content-length": str(len(request.body)), **request.headers}
    lines = [f"POST {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + request.body


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
