"""What the corpus is driven against: a real server, alone or behind a real HAProxy, and how much memory it takes."""

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from tests.door.exchange import Address, exchange

HAPROXY: Final = Path(shutil.which("haproxy") or "/usr/sbin/haproxy")
LIMIT: Final = {"TEMPERANCE_MAX_BODY": str(1 << 20)}
CONFIGURATION: Final = """\
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout http-request 20s
    timeout http-keep-alive 30s
frontend door
    bind 127.0.0.1:{front}
    default_backend service
backend service
    server one 127.0.0.1:{back}
"""


@contextmanager
def haproxy(back: int, folder: Path) -> Iterator[Address]:
    """HAProxy with its own rules of HTTP in force, in front of a port."""
    front = _free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(front=front, back=back), "utf-8")
    with subprocess.Popen([str(HAPROXY), "-q", "-f", str(configuration)], cwd=folder) as process:
        address = Address("127.0.0.1", front)
        try:
            asyncio.run(_answering(address))
            yield address
        finally:
            process.terminate()
            process.wait(timeout=10)


class Memory:
    """The most memory that a process and its children hold together while it is looked at, above that of the start.

    Parameters
    ----------
    pid : int
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.first = self.most = self._held()

    @property
    def growth(self) -> int:
        """In bytes."""
        return self.most - self.first

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.most = max(self.most, self._held())

    def _held(self) -> int:
        return int(sum(one.memory_info().rss for one in (self._process, *self._process.children())))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answering(address: Address, seconds: float = 10.0) -> None:
    ready, until = b"GET /readyz HTTP/1.1\r\nHost: door.test\r\nConnection: close\r\n\r\n", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            seen = await exchange(address, [ready])
        except OSError:
            await asyncio.sleep(0.05)
            continue
        if seen.answers and seen.answers[0].status == 200:
            return
    raise AssertionError("HAProxy does not pass requests on")
