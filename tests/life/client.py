"""The client of a load, in a process of its own: it says exactly how every request ended, and loses count of none.

``python -m tests.life.client`` reads one line of JSON, a `Plan`, from standard input and sends until that closes. One
thread, raw sockets and finished bytes; connections are made without waiting, so that none that is refused or reset is
hidden from it.
"""

import errno
import json
import os
import re
import select
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tests.life.outcomes import FIELDS, NOTHING, OF_THE_CONNECTION, Ending

GRAIN: Final = 1 << 18
MOST_EVENTS: Final = 1024
ID_BYTES: Final = 36
ID: Final = b'{"id":"'
MODEL: Final = b'"model":'
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BEGUN: Final = b"."
"""On standard output when the first request is sent."""
ROW: Final = struct.Struct("=ddBBHi")
"""A row of `FIELDS`."""
CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent.

    Attributes
    ----------
    port : int
    data : str
        A whole request, as latin-1 text.
    into : str
        File for the outcomes.
    rate : float
        Requests in a second, at equal distances; 0 sends on as many connections as there may be, without a pause.
    connections : int
        Most at once.
    keeps : bool
        Whether connections are used again.
    retries : bool
        Whether a request whose connection failed is sent once more, on a new one.
    patience : float
        Seconds that an answer may take.
    """

    port: int
    data: str
    into: str
    rate: float
    connections: int
    keeps: bool
    retries: bool
    patience: float = 20.0

    def written(self) -> bytes:
        """As the line that the process reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(slots=True, eq=False)
class _Try:
    # One of the at most two tries of a request.
    begun: float
    first: Ending | None = None


@dataclass(slots=True, eq=False)
class _Link:
    socket: socket.socket
    work: _Try | None = None
    is_connected: bool = False
    answer: bytes = b""


class Client:
    """Sends a plan's requests until its input closes.

    Parameters
    ----------
    plan : Plan
    stop : int
        File descriptor that becomes readable when no further request is to be begun.
    """

    def __init__(self, plan: Plan, stop: int) -> None:
        self._plan = plan
        self._data = plan.data.encode("latin-1")
        self._stop = stop
        self._links: dict[int, _Link] = {}
        self._idle: deque[_Link] = deque()
        self._busy = self._begun = 0
        self._done = bytearray()  # of `FIELDS`: tuples of two million requests would take half a gigabyte
        self._answers: dict[bytes, int] = {}

    def run(self) -> None:
        """Send, and write down what became of everything."""
        with select.epoll() as self._epoll:
            self._epoll.register(self._stop, select.EPOLLIN)
            self._loop()
            for link in list(self._links.values()):
                self._drop(link)
        done = np.frombuffer(self._done, dtype=FIELDS)
        if len(done) != self._begun:
            raise SystemExit(f"{self._begun} requests were begun, and {len(done)} have an end")
        with Path(self._plan.into).open("wb") as file:
            np.savez(file, requests=done, answers=np.array([*self._answers], dtype="S"))

    def _loop(self) -> None:
        start, is_open, looked = time.monotonic(), True, 0.0
        while is_open or self._busy:
            now = time.monotonic()
            due = self._due(now - start) if is_open else 0
            for _ in range(due):
                self._begin(_Try(time.monotonic()))
            for number, event in self._epoll.poll(self._pause(now - start) if is_open else 0.05, MOST_EVENTS):
                if number == self._stop:
                    self._epoll.unregister(number)
                    is_open = False
                elif link := self._links.get(number):
                    self._serve(link, event)
            if now - looked > 1.0:
                looked = now
                self._give_up(now - self._plan.patience)

    def _due(self, elapsed: float) -> int:
        # What the connections have no room for is begun later: a server that pauses gets no thousand connections.
        room = self._plan.connections - self._busy
        if not self._plan.rate:
            return room
        return max(0, min(room, int(elapsed * self._plan.rate) - self._begun))

    def _pause(self, elapsed: float) -> float:
        if not self._plan.rate or self._busy >= self._plan.connections:
            return 0.05
        return max(0.0005, min(0.05, (self._begun + 1) / self._plan.rate - elapsed))

    def _begin(self, work: _Try) -> None:
        self._begun += 1
        self._busy += 1
        self._send(self._idle.popleft() if self._idle else self._connected(), work)

    def _connected(self) -> _Link:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(made)
        self._links[made.fileno()] = link
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return link

    def _send(self, link: _Link, work: _Try) -> None:
        link.work, link.answer = work, b""
        if link.is_connected:
            self._write(link)
        else:
            self._connect(link)

    def _connect(self, link: _Link) -> None:
        number = link.socket.connect_ex(("127.0.0.1", self._plan.port))
        if number == 0:
            link.is_connected = True
            self._write(link)
        elif number == errno.EINPROGRESS:
            self._epoll.modify(link.socket.fileno(), select.EPOLLOUT)
        else:
            self._fail(link, _kind(number))

    def _write(self, link: _Link) -> None:
        try:
            sent = link.socket.send(self._data)
        except OSError as error:
            # Closed by the server. What it answered before can still be read, and says more.
            if error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                raise
            return
        if sent < len(self._data):
            raise SystemExit("a request must fit into the buffer of a socket")

    def _serve(self, link: _Link, event: int) -> None:
        if link.is_connected:
            self._receive(link)
        elif event & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
            self._finish_connecting(link)

    def _finish_connecting(self, link: _Link) -> None:
        number = link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._fail(link, _kind(number))
            return
        self._epoll.modify(link.socket.fileno(), select.EPOLLIN)
        link.is_connected = True
        self._write(link)

    def _receive(self, link: _Link) -> None:
        try:
            part = link.socket.recv(GRAIN)
        except BlockingIOError:
            return
        except OSError:
            self._broken(link, Ending.RESET)
            return
        if not part:
            self._broken(link, Ending.CLOSED)
            return
        link.answer += part
        self._complete(link)

    def _broken(self, link: _Link, ending: Ending) -> None:
        if link.work is None:
            self._idle.remove(link)
            self._drop(link)
        else:
            self._fail(link, Ending.CUT if link.answer else ending)

    def _complete(self, link: _Link) -> None:
        answer, end = link.answer, link.answer.find(b"\r\n\r\n")
        if end < 0 or link.work is None:
            return
        head = answer[: end + 2]
        length = LENGTH.search(head)
        if length is None or len(answer) < end + 4 + int(length[1]):
            return
        status, body = int(head[9:12]), answer[end + 4 :]
        self._end(link.work, _of_status(status, body), status, self._place(body) if status == 200 else NOTHING)
        link.work, link.answer = None, b""
        if self._plan.keeps and CLOSE.search(head) is None:
            self._idle.append(link)
        else:
            self._drop(link)

    def _place(self, body: bytes) -> int:
        # Ids and times are left out: then one version gives one answer.
        start = body.index(MODEL)
        text = body[start:].replace(body[len(ID) : len(ID) + ID_BYTES], b"") if body.startswith(ID) else body[start:]
        return self._answers.setdefault(text, len(self._answers))

    def _fail(self, link: _Link, ending: Ending) -> None:
        work, link.work = link.work, None
        self._drop(link)
        if work is None:
            return
        if self._plan.retries and work.first is None and ending in OF_THE_CONNECTION:
            work.first = ending
            self._send(self._connected(), work)
        else:
            self._end(work, ending, 0, NOTHING)

    def _end(self, work: _Try, ending: Ending, status: int, answer: int) -> None:
        first = ending if work.first is None else work.first
        self._done += ROW.pack(work.begun, time.monotonic(), first, ending, status, answer)
        self._busy -= 1

    def _drop(self, link: _Link) -> None:
        number = link.socket.fileno()
        del self._links[number]
        self._epoll.unregister(number)
        link.socket.close()

    def _give_up(self, before: float) -> None:
        for link in [one for one in self._links.values() if one.work is not None and one.work.begun < before]:
            self._fail(link, Ending.UNANSWERED)


def _kind(number: int) -> Ending:
    if number == errno.ECONNREFUSED:
        return Ending.REFUSED
    if number in {errno.ECONNRESET, errno.EPIPE}:
        return Ending.RESET
    if number == errno.ETIMEDOUT:
        return Ending.UNANSWERED
    raise SystemExit(f"the client itself failed: {errno.errorcode.get(number, number)}")


def _of_status(status: int, body: bytes) -> Ending:
    if status == 200:
        return Ending.ANSWERED
    if status == 503 and b"overloaded" in body:
        return Ending.OVERLOADED
    return Ending.ERROR if status >= 500 else Ending.OTHER


def main() -> None:
    """Send the plan that standard input holds."""
    source = sys.stdin.fileno()
    plan = Plan(**json.loads(_line(source)))
    os.write(sys.stdout.fileno(), BEGUN)
    Client(plan, source).run()


def _line(source: int) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        text += os.read(source, 1)  # no more: what says the end must stay for epoll
    return text


if __name__ == "__main__":
    main()
