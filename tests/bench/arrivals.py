"""An open loop that takes whatever comes back: answers, refusals, closed connections.

One thread, raw sockets and finished bytes. Requests are sent at moments fixed beforehand, each on a connection of its
own while the server is busy; latency runs from the scheduled moment to the last byte of the answer. Where more
connections are needed than there may be, a request waits, and that counts.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.bench.client import undisturbed
from tests.bench.servers import Server
from tests.bench.wrk import Request

GRAIN: Final = 1 << 18
PATIENCE: Final = 30.0
LOOK_EVERY: Final = 0.1
TICK: Final = 0.0005
OPENED_BEFORE: Final = 2000  # connections: opening one costs both sides more than a request
MOST_EVENTS: Final = 4096
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: *\d+\r\n", re.IGNORECASE)
CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
REFUSED: Final = (429, 503)
LOST: Final = 0
"""Status of a request whose connection was closed before its answer, or that was not answered for long."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at its moment.

    Attributes
    ----------
    moment : float
        In seconds from the start.
    kind : str
        Under which its outcome is counted.
    data : bytes
        Head and body.
    fresh : bool
        On a new connection, whatever the limit: a probe.
    """

    moment: float
    kind: str
    data: bytes
    fresh: bool = False


class Outcome(NamedTuple):
    """What became of a request; times in seconds from the start."""

    kind: str
    moment: float
    begun: float
    done: float
    status: int
    has_retry_after: bool = False

    @property
    def latency(self) -> float:
        """From the scheduled moment to the whole answer; in a closed loop, from the moment it was sent."""
        return self.done - self.moment

    @property
    def lag(self) -> float:
        """From the scheduled moment to sending: what the client itself adds."""
        return self.begun - self.moment


@dataclass(frozen=True, slots=True)
class Outcomes:
    """All of a run."""

    all: Sequence[Outcome]

    def of(self, kind: str, *statuses: int) -> "Outcomes":
        """Those of a kind, with one of the statuses if any are named."""
        return Outcomes([one for one in self.all if one.kind == kind and (not statuses or one.status in statuses)])

    def __len__(self) -> int:
        return len(self.all)

    @property
    def latencies(self) -> npt.NDArray[np.float64]:
        """Of all of them, shape (N,)."""
        return np.array([one.latency for one in self.all])

    def quantile(self, share: float) -> float:
        """Latency that this share did not exceed; NaN for none."""
        return float(np.quantile(self.latencies, share, method="higher")) if self.all else float("nan")


def arrivals(kind: str, data: bytes, moments: Iterable[float], *, fresh: bool = False) -> list[Arrival]:
    """The same request at several moments."""
    return [Arrival(moment, kind, data, fresh) for moment in moments]


def posted(request: Request) -> bytes:
    """A POST request as bytes."""
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(request.body)), **request.headers}
    return _head(f"POST {request.path}", headers) + request.body


def got(path: str) -> bytes:
    """A GET request as bytes."""
    return _head(f"GET {path}", {"Host": "127.0.0.1"})


def _head(line: str, headers: dict[str, str]) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode()


def closed_loop(server: Server, request: Request, *, connections: int, seconds: float) -> Outcomes:
    """As many requests as so many connections get answers to, each sent as soon as the one before it is answered."""
    moments = np.zeros(int(20_000 * seconds))
    return drive(server, arrivals("closed", posted(request), moments), connections=connections, stop=seconds)


def drive(
    server: Server,
    schedule: Iterable[Arrival],
    *,
    connections: int,
    stop: float = float("inf"),
    look: Callable[[], None] | None = None,
) -> Outcomes:
    """Send all requests at their moments.

    Parameters
    ----------
    server : Server
    schedule : iterable of Arrival
    connections : int
        Most at once, apart from those of fresh requests.
    stop : float
        Seconds after which no further request is sent.
    look : callable, optional
        Called some ten times in a second.
    """
    return _Client(server.port, sorted(schedule, key=lambda one: one.moment), connections, stop, look).run()


@dataclass(slots=True, eq=False)
class _Link:
    socket: socket.socket
    place: int = -1
    begun: float = 0.0
    writing: bool = False
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: bytes = b""


class _Client:
    def __init__(
        self,
        port: int,
        schedule: Sequence[Arrival],
        connections: int,
        stop: float,
        look: Callable[[], None] | None,
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._schedule = schedule
        self._most = connections
        self._stop = stop
        self._look = look
        self._links: dict[int, _Link] = {}
        self._idle: deque[_Link] = deque()
        self._pending: deque[int] = deque()  # due, without a connection
        self._outcomes: list[Outcome] = []
        self._busy = self._pooled = 0
        self._start = self._looked = 0.0

    def run(self) -> Outcomes:
        with select.epoll() as self._epoll, undisturbed():
            for _ in range(min(self._most, OPENED_BEFORE)):
                self._idle.append(self._connect(fresh=False))
            self._start = time.perf_counter()
            self._loop()
            for link in list(self._links.values()):
                self._close(link)
        return Outcomes(self._outcomes)

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _loop(self) -> None:
        following, schedule, open_loop = 0, self._schedule, self._stop == float("inf")
        last = min(self._stop, schedule[-1].moment)
        while True:
            now = self._now()
            while following < len(schedule) and schedule[following].moment <= now < self._stop and not self._pending:
                self._begin(following)
                following += 1
            if self._is_over(following, now):
                return
            if now - last > PATIENCE:
                self._abandon(following)
                return
            self._receive_all(TICK if open_loop else LOOK_EVERY)
            if open_loop:
                time.sleep(TICK)  # what comes meanwhile is handled at once, which costs the machine less
            if self._look is not None and now - self._looked >= LOOK_EVERY:
                self._looked = now
                self._look()

    def _is_over(self, following: int, now: float) -> bool:
        none_left = now >= self._stop or (following == len(self._schedule) and not self._pending)
        return none_left and not self._busy

    def _abandon(self, following: int) -> None:
        unsent = [*self._pending, *range(following, len(self._schedule))]
        under_way = [link.place for link in self._links.values() if link.place >= 0]
        for place in [*under_way, *unsent]:
            one = self._schedule[place]
            self._outcomes.append(Outcome(one.kind, one.moment, self._now(), self._now(), LOST))

    def _receive_all(self, seconds: float) -> None:
        for number, event in self._epoll.poll(seconds, MOST_EVENTS):
            link = self._links.get(number)
            if link is None:
                continue
            if event & ~select.EPOLLOUT:
                self._receive(link)
            elif link.unsent:
                self._send(link)

    def _begin(self, place: int) -> None:
        one = self._schedule[place]
        if not one.fresh and not self._idle and self._pooled >= self._most:
            self._pending.append(place)
            return
        link = self._connect(fresh=one.fresh) if one.fresh or not self._idle else self._idle.pop()
        link.place, link.begun, link.unsent, link.answer = place, self._now(), memoryview(one.data), b""
        self._busy += 1
        self._send(link)

    def _connect(self, *, fresh: bool) -> _Link:
        link = _Link(socket.create_connection(self._address))
        link.socket.setblocking(False)
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links[link.socket.fileno()] = link
        self._epoll.register(link.socket.fileno(), select.EPOLLIN)
        self._pooled += not fresh
        return link

    def _close(self, link: _Link) -> None:
        del self._links[link.socket.fileno()]
        self._epoll.unregister(link.socket.fileno())
        link.socket.close()

    def _send(self, link: _Link) -> None:
        try:
            while link.unsent:
                link.unsent = link.unsent[link.socket.send(link.unsent) :]
        except BlockingIOError:
            self._watch(link, writing=True)
        except OSError:
            link.unsent = memoryview(b"")  # closed by the server; what it answered before may still be read
            self._watch(link, writing=False)
        else:
            self._watch(link, writing=False)

    def _watch(self, link: _Link, *, writing: bool) -> None:
        if writing is not link.writing:
            link.writing = writing
            self._epoll.modify(link.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def _receive(self, link: _Link) -> None:
        try:
            part = link.socket.recv(GRAIN)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if link.place < 0:
            self._drop_idle(link)
        elif not part:
            self._end(link, LOST, b"", keep=False)
        else:
            link.answer += part
            self._complete(link)

    def _drop_idle(self, link: _Link) -> None:
        self._idle.remove(link)
        self._pooled -= 1
        self._close(link)

    def _complete(self, link: _Link) -> None:
        answer = link.answer
        end = answer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = answer[: end + 2]
        length = LENGTH.search(head)
        if length is None or len(answer) < end + 4 + int(length[1]):
            return
        self._end(link, int(head[9:12]), head, keep=not link.unsent and CLOSE.search(head) is None)

    def _end(self, link: _Link, status: int, head: bytes, *, keep: bool) -> None:
        one = self._schedule[link.place]
        moment = link.begun if self._stop < float("inf") else one.moment
        has_retry_after = status in REFUSED and RETRY_AFTER.search(head) is not None
        self._outcomes.append(Outcome(one.kind, moment, link.begun, self._now(), status, has_retry_after))
        self._busy -= 1
        link.place = -1
        if keep and not one.fresh:
            self._idle.append(link)
        else:
            self._pooled -= not one.fresh
            self._close(link)
        if self._pending and self._now() < self._stop:
            self._begin(self._pending.popleft())
