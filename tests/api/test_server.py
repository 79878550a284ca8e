"""How a real server ends: not ready at once, still answering, over in time, and with which exit code."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import httpx
import psutil
import pytest

from service.api.ending import AT_THE_END, REPLACED
from service.api.last_connections import ACCEPT_SECONDS
from service.api.server import UNWIND_SECONDS, EndTimes
from tests.api.test_mutated_bytes import Connections, settled
from tests.shipped_model import SHIPPED

Serving = Callable[..., AbstractContextManager[Any]]
HALF_BODY = (
    b"POST /v1/models/breast-cancer:decide HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 5000\r\n\r\n{"
)
STALLED = (b"", b"GET /livez HTTP/1.1\r\nHost", HALF_BODY)
"""What a client sends that then sends no more."""


BUSY = 1.5
"""Seconds more than promised: other tests share the machine. `tests/life` measures what is promised."""


def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Seconds until something holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def status(server: Any, path: str) -> int:
    """Of a request on a connection of its own; 0 if it is refused."""
    try:
        return httpx.get(f"{server.client.base_url}{path}", timeout=5).status_code
    except httpx.ConnectError:
        return 0


def workers_of(server: Any) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children() if is_worker(child)}


def is_worker(child: psutil.Process) -> bool:
    """Whether a process is a worker that has not ended."""
    try:
        return child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in str(child.cmdline())
    except psutil.NoSuchProcess:  # it ended in between; a zombie is one too
        return False


@contextmanager
def stalled(server: Any) -> Iterator[list[socket.socket]]:
    """Clients that have sent a part of a request, several of each kind."""
    address = (server.client.base_url.host, server.client.base_url.port)
    with ExitStack() as stack:
        clients = []
        for sent in STALLED * 4:
            clients.append(stack.enter_context(socket.create_connection(address, timeout=15)))
            clients[-1].sendall(sent)
        yield clients


@pytest.mark.parametrize("workers", ["1", "2"])
def test_after_sigterm_the_service_is_not_ready_at_once_and_answers_for_a_while(workers: str, serving: Serving) -> None:
    with serving(SHIPPED, "--workers", workers, TEMPERANCE_DRAIN_SECONDS="2", TEMPERANCE_DEADLINE="2") as server:
        server.client.close()
        for worker in workers_of(server):  # as where a control group is ended
            os.kill(worker, signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        assert until(lambda: status(server, "/readyz") == 503) < 0.1 + BUSY
        for _ in range(8):  # of whichever worker
            refused = httpx.get(f"{server.client.base_url}/readyz", timeout=5)
            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            assert refused.json()["type"] == "urn:temperance:problem:draining"
        assert status(server, "/v2/health/ready") == 503
        assert status(server, "/livez") == 200
        assert status(server, "/v1/models/breast-cancer") == 200
        assert server.process.wait(timeout=10) == 0
        assert 2.0 <= time.monotonic() - signalled < 2.0 + 2.0 + 2.0 + BUSY


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stalled_clients_delay_no_end_and_its_exit_code_is_0(workers: str, serving: Serving) -> None:
    times = {"TEMPERANCE_DRAIN_SECONDS": "1", "TEMPERANCE_DEADLINE": "3"}
    with serving(SHIPPED, "--workers", workers, **times) as server, stalled(server):
        server.client.close()
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=15) == 0
        assert time.monotonic() - signalled < 1.0 + 3.0 + 2.0 + BUSY


def test_a_second_signal_ends_the_wait_for_balancers(serving: Serving) -> None:
    with serving(SHIPPED, TEMPERANCE_DRAIN_SECONDS="600") as server:
        server.client.close()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: status(server, "/readyz") == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_interrupt_waits_for_no_client_and_leaves_no_traceback(workers: str, serving: Serving) -> None:
    with serving(SHIPPED, "--workers", workers, TEMPERANCE_DRAIN_SECONDS="0") as server, stalled(server):
        server.process.send_signal(signal.SIGINT)
        until(lambda: status(server, "/livez") == 0)
        interrupted = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - interrupted <= 2 * UNWIND_SECONDS + BUSY
        log = server.log.read_text()
    assert "Exception" not in log
    assert "Traceback" not in log


def test_an_interrupt_from_the_terminal_waits_for_no_balancer(serving: Serving) -> None:
    with serving(SHIPPED, TEMPERANCE_DRAIN_SECONDS="600") as server:
        server.client.close()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=10) == 0
        assert "Traceback" not in server.log.read_text()


def test_if_the_parent_is_killed_its_workers_end_and_the_address_is_free(serving: Serving) -> None:
    with serving(SHIPPED, "--workers", "2", TEMPERANCE_DEADLINE="2") as server, stalled(server):
        address = (server.client.base_url.host, server.client.base_url.port)
        workers = workers_of(server)
        assert len(workers) == 2
        server.process.kill()
        server.process.wait()
        until(lambda: status(server, "/livez") == 0, seconds=3)
        until(lambda: not any(map(is_running, workers)), seconds=8)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(address)
            again.listen()


def is_running(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_workers_are_replaced_though_clients_stall_and_the_parent_takes_signals(serving: Serving) -> None:
    with serving(SHIPPED, "--workers", "2", TEMPERANCE_DEADLINE="3") as server, stalled(server):
        before = workers_of(server)
        for _ in range(3):  # in a row, they are two rounds at most
            server.process.send_signal(signal.SIGHUP)
        until(lambda: not workers_of(server) & before, seconds=60)
        server.client.close()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0
        log = server.log.read_text()
    assert log.count("workers are replaced one after the other") <= 2
    assert "did not become ready" not in log
    assert "is killed" not in log


def test_a_worker_that_gets_sigterm_is_replaced_and_no_request_fails(serving: Serving) -> None:
    with serving(SHIPPED, "--workers", "2") as server:
        before = workers_of(server)
        os.kill(min(before), signal.SIGTERM)
        answers = set()
        began = time.monotonic()
        while len(workers_of(server) - before) == 0 or time.monotonic() - began < 1:
            answers.add(status(server, "/readyz"))
            assert time.monotonic() - began < 30
        assert answers == {200}


def test_everything_has_ended_within_the_deadline_and_two_seconds() -> None:
    times = EndTimes(drain=5.0, deadline=10.0)
    assert times.deadline < times.answers < times.process
    assert ACCEPT_SECONDS + times.process + UNWIND_SECONDS <= 12.0


async def test_connections_of_a_replaced_worker_wait_for_their_next_request_and_those_of_an_ended_one_do_not() -> None:
    one, other = socket.socketpair()
    with one, other:
        for patience, closes in ((REPLACED, False), (AT_THE_END, True)):
            connections = Connections(one)
            protocol, wire = connections.made()
            protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await settled()
            connections.ending.close(patience)
            protocol.shutdown()
            assert wire.is_closed is closes
            if not closes:
                protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await settled()
                assert wire.written.count(b"HTTP/1.1 200") == 2
                assert wire.written.count(b"connection: close") == 1
                assert wire.is_closed
            protocol.connection_lost(None)
