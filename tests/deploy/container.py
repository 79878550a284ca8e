"""A running container of the image, seen from outside: its state, its address, commands inside it, a client's load."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final, Self

import httpx

from tests.deploy.engine import Docker

WAIT_SECONDS: Final = 90.0
"""Far above what is measured: the machine may be shared."""
HARDENED: Final = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--memory=512m",
    "--pids-limit=256",
)


@dataclass(frozen=True, slots=True)
class Container:
    """A container that `docker run` started.

    Attributes
    ----------
    docker : Docker
    name : str
        Its id.
    port : int
        On which it listens inside.
    """

    docker: Docker
    name: str
    port: int = 8080

    @property
    def state(self) -> dict[str, Any]:
        """As `docker inspect` has it."""
        state: dict[str, Any] = json.loads(self.docker("inspect", "--format={{json .State}}", self.name))
        return state

    @property
    def health(self) -> str:
        """`starting`, `healthy` or `unhealthy`; empty while it does not run."""
        state = self.state
        return str(state["Health"]["Status"]) if state["Running"] else ""

    @property
    def url(self) -> str:
        """Of its published port."""
        return f"http://{self.docker('port', self.name, f'{self.port}/tcp').splitlines()[0]}"

    @property
    def log(self) -> str:
        """What it wrote on both outputs."""
        done = self.docker.result("logs", self.name)
        return done.stdout + done.stderr

    def run(self, *command: str) -> str:
        """Standard output of a command inside, which must succeed."""
        return self.docker("exec", self.name, *command)

    def wait(self, reached: Callable[["Container"], bool]) -> float:
        """Seconds until a state is reached; it must be."""
        start = time.monotonic()
        while not reached(self):
            assert time.monotonic() < start + WAIT_SECONDS, f"{self.state}\n{self.log}"
            time.sleep(0.1)
        return time.monotonic() - start

    def wait_until_healthy(self) -> float:
        """Seconds until the engine calls it healthy; it must become so, and not end before."""
        return self.wait(lambda own: own.health == "healthy")


@contextmanager
def running(docker: Docker, image: str, *options: str, port: int = 8080) -> Iterator[Container]:
    """A container with a published port, not yet healthy; removed at the end."""
    with docker.container(f"--publish=127.0.0.1::{port}", *options, image) as name:
        yield Container(docker, name, port)


class Load:
    """A client behind a balancer: a new connection for every request, and none once `/readyz` has not answered 200.

    Attributes
    ----------
    answered : int
        Requests with an answer of status 200.
    failed : list of str
        What became of the others.
    """

    def __init__(self, url: str, path: str, body: object, *, threads: int = 4) -> None:
        self.answered, self.failed = 0, list[str]()
        self._url, self._path, self._body = url, path, body
        self._is_over = Event()
        self._threads = [Thread(target=self._send) for _ in range(threads)] + [Thread(target=self._look)]

    def __enter__(self) -> Self:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _send(self) -> None:
        while not self._is_over.is_set():
            try:
                with httpx.Client(base_url=self._url, timeout=30) as client:
                    status = client.post(self._path, json=self._body).status_code
            except httpx.TransportError as error:
                self.failed.append(repr(error))
            else:
                if status == 200:
                    self.answered += 1
                else:
                    self.failed.append(f"status {status}")

    def _look(self) -> None:
        while not self._is_over.wait(0.2):
            try:
                is_ready = httpx.get(f"{self._url}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                is_ready = False
            if not is_ready:
                self._is_over.set()
