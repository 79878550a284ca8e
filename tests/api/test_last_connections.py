"""The end of listening: what waits is accepted, what comes later is refused, and nothing is reset."""

import asyncio
import errno
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.last_connections import close, keep_out, last_accepted, waiting_on


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def accept_one(listener: socket.socket) -> None:
    listener.accept()[0].close()


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=5)


def test_connections_that_wait_are_counted(listener: socket.socket) -> None:
    with connect(listener), connect(listener):
        assert waiting_on(listener) == 2
        listener.accept()[0].close()
        assert waiting_on(listener) == 1


def test_on_a_unix_domain_socket_the_early_are_answered_and_the_late_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as early:
        one.bind(path)
        one.listen()
        early.connect(path)
        assert waiting_on(one) == 0  # the kernel does not say
        keep_out([one])
        with socket.socket(socket.AF_UNIX) as late:
            assert late.connect_ex(path) == errno.ECONNREFUSED
        accepted, _ = one.accept()
        with accepted:
            accepted.sendall(b"answer")
        assert early.recv(10) == b"answer"


def test_who_comes_after_those_that_wait_is_refused_and_those_are_answered(listener: socket.socket) -> None:
    with connect(listener) as early, socket.socket() as late:
        keep_out([listener])
        late.setblocking(False)
        assert late.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"answer")
        close([listener])
        assert early.recv(10) == b"answer"
        select.select([], [late], [], 5)
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_closing_ends_listening_for_every_process_that_shares_the_socket(listener: socket.socket) -> None:
    with listener.dup() as handle:
        close([listener])
        with socket.socket() as client:
            assert client.connect_ex(handle.getsockname()) == errno.ECONNREFUSED


async def test_the_end_of_listening_waits_for_what_is_not_accepted(listener: socket.socket) -> None:
    with connect(listener):
        thread = threading.Timer(0.2, accept_one, [listener])
        thread.start()
        await last_accepted([listener])
        assert waiting_on(listener) == 0
        thread.join()


async def test_the_end_of_listening_does_not_wait_for_ever(listener: socket.socket) -> None:
    with connect(listener):  # and no process accepts it
        await asyncio.wait_for(last_accepted([listener]), 5)
        assert waiting_on(listener) == 1
