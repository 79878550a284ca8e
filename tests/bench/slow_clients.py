"""Clients that hold connections and send next to nothing, kept up in number while requests are measured."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.bench.arrivals import Outcome, Outcomes, arrivals, drive, posted
from tests.bench.client import constant
from tests.bench.servers import Server
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.wrk import JSON, Request

STEP_SECONDS: Final = 0.25
IDLE: Final = 500
SLOW: Final = 100
RATE: Final = 100.0
HEAD: Final = f"POST {DECIDE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
BODY: Final = HEAD + b"Content-Length: 1000\r\n\r\n{"


class SlowClient:
    """Sends one byte at a time of a head, or of a body, and begins anew where the server has closed.

    Parameters
    ----------
    server : Server
    data : bytes
        Sent at once, before the single bytes; nothing follows if it is empty.
    """

    def __init__(self, server: Server, data: bytes) -> None:
        self._address, self._data = ("127.0.0.1", server.port), data
        self._socket = self._connected()

    def step(self) -> None:
        """Send another byte."""
        try:
            if self._data:
                self._socket.send(b"x")
            elif not self._socket.recv(1):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            self._socket.close()
            self._socket = self._connected()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def _connected(self) -> socket.socket:
        made = socket.create_connection(self._address)
        made.sendall(self._data)
        made.setblocking(False)
        return made


@contextmanager
def slow_clients(server: Server, *, idle: int = IDLE, slow: int = SLOW) -> Iterator[None]:
    """So many connections without a byte, and so many with a byte now and then, half of them within a body."""
    starts = [b""] * idle + [BODY if i % 2 else HEAD + b"X-Slow: " for i in range(slow)]
    clients, over = [SlowClient(server, start) for start in starts], threading.Event()

    def keep_on() -> None:
        while not over.wait(STEP_SECONDS):
            for client in clients:
                client.step()

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for client in clients:
            client.close()


def good_requests(server: Server, seconds: float) -> Outcomes:
    """Single rows at equal distances, on few connections."""
    request = Request(DECIDE, b'{"instances": %s}' % str(breast_rows(1)).encode(), JSON)
    return drive(server, arrivals("good", posted(request), constant(RATE, seconds)), connections=8)


def beside_slow_clients(server: Server, *, seconds: float, rounds: int) -> tuple[Outcomes, Outcomes]:
    """Good requests without and with slow clients, interleaved."""
    without: list[Outcome] = []
    beside: list[Outcome] = []
    good_requests(server, 1.0)
    for _ in range(rounds):
        without += good_requests(server, seconds).all
        with slow_clients(server):
            beside += good_requests(server, seconds).all
    return Outcomes(without), Outcomes(beside)
