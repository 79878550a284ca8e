"""The client of the loads says how every request ended, whatever a server does."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.bench.servers import free_port
from tests.life.load import KINDS, Load, load
from tests.life.outcomes import Ending, lost
from tests.life.processes import wait_for

ANSWER = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
BODY = b'{"id":"00000000-0000-0000-0000-000000000000","model":"m","version":"1"}'
RESET = struct.pack("ii", 1, 0)


def answered(link: socket.socket) -> None:
    link.sendall(ANSWER % (len(BODY), BODY))


def reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def closed(link: socket.socket) -> None:
    del link


def cut(link: socket.socket) -> None:
    link.sendall((ANSWER % (len(BODY), BODY))[:-3])


def overloaded(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 503 x\r\ncontent-length: 10\r\n\r\noverloaded")


def draining(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 503 x\r\ncontent-length: 8\r\n\r\ndraining")


def not_found(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n")


BEHAVIOURS: dict[Ending, Callable[[socket.socket], None]] = {
    Ending.ANSWERED: answered,
    Ending.RESET: reset,
    Ending.CLOSED: closed,
    Ending.CUT: cut,
    Ending.OVERLOADED: overloaded,
    Ending.ERROR: draining,
    Ending.OTHER: not_found,
}
"""What a connection is answered with, before it is closed."""


class Scripted:
    """Answers connections in a fixed order of behaviours, and counts them.

    Parameters
    ----------
    order : list of Ending
    """

    def __init__(self, order: list[Ending]) -> None:
        self.served: list[Ending] = []
        self._order = order
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            with link:
                if not link.recv(1 << 16):
                    continue
                ending = self._order[len(self.served) % len(self._order)]
                self.served.append(ending)
                BEHAVIOURS[ending](link)


@contextmanager
def scripted(order: list[Ending]) -> Iterator[Scripted]:
    server = Scripted(order)
    try:
        yield server
    finally:
        server.close()


def sent(server: Scripted, kind: int, *, requests: int) -> Load:
    with load(server.port, KINDS[kind], 500.0, connections=1) as running:
        assert wait_for(lambda: len(server.served) >= requests, 20.0) is not None
    return running


def test_every_ending_is_counted_as_what_it_is() -> None:
    with scripted(list(BEHAVIOURS)) as server:
        found = sent(server, 0, requests=70).ended
        assert list(found.requests["first"]) == list(found.requests["final"]) == [int(one) for one in server.served]
    assert {Ending(int(one)) for one in found.requests["final"]} == set(BEHAVIOURS)
    assert len(found.answers) == 1
    assert lost(found.final) == len(found) - found.final[Ending.ANSWERED] - found.final[Ending.OVERLOADED]


@pytest.mark.parametrize("failure", [Ending.RESET, Ending.CLOSED, Ending.CUT])
def test_a_retry_is_made_once_and_both_tries_are_counted(failure: Ending) -> None:
    with scripted([Ending.ANSWERED, failure, Ending.ANSWERED, failure, failure]) as server:
        found = sent(server, 1, requests=50).ended
    pairs = {(Ending(int(one["first"])), Ending(int(one["final"]))) for one in found.requests}
    assert pairs == {(Ending.ANSWERED, Ending.ANSWERED), (failure, Ending.ANSWERED), (failure, failure)}


def test_where_nothing_listens_every_request_is_refused() -> None:
    with load(free_port(), KINDS[0], 0.0, connections=1) as running:
        pass
    assert set(running.ended.final) <= {Ending.REFUSED}
