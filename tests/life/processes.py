"""A service as processes: the one that was started, its workers, its port, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.bench.servers import ROOT, free_port

START_SECONDS: Final = 90.0
END_SECONDS: Final = 45.0
LOOK: Final = 0.01
WORKER: Final = "spawn_main"
READY: Final = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SETTING: Final = re.compile(r"^    (\w+):", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Service:
    """A running `temperance serve`.

    Attributes
    ----------
    process : Popen
        That was started; with several workers, their parent.
    port : int
    log : Path
    """

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def workers(self) -> set[int]:
        """Processes that serve, apart from the first."""
        try:
            children = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return set()
        return {child.pid for child in children if _is_worker(child)}

    def send(self, number: signal.Signals) -> float:
        """Send a signal; when that was."""
        self.process.send_signal(number)
        return time.monotonic()

    def ended(self, seconds: float = END_SECONDS) -> int | None:
        """Exit code; None if it does not end in time, and then it is killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """End everything of it at once."""
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        for pid in workers:
            end_process(pid)


def end_process(pid: int) -> None:
    """Kill a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def service(
    models: Path, *, workers: int, checkout: Path = ROOT, port: int | None = None, **settings: object
) -> Iterator[Service]:
    """A service of a checkout, from its readiness on; settings that the checkout does not know are left out."""
    taken = free_port() if port is None else port
    with tempfile.TemporaryDirectory() as data, tempfile.NamedTemporaryFile(suffix=".log") as log:
        chosen = {"port": taken, "workers": workers, "models": models, "data": data, "log_level": "warning", **settings}
        process = subprocess.Popen(command(), cwd=checkout, env=_environment(checkout, chosen), stderr=log)
        started = Service(process, taken, Path(log.name))
        try:
            wait_for(lambda: is_ready(taken) or process.poll() is not None, START_SECONDS)
            if process.poll() is not None:
                raise SystemExit(f"the service did not start:\n{started.log.read_text()}")
            yield started
        finally:
            if process.poll() is None:
                started.kill()


def command() -> list[str]:
    """`temperance serve`, of the checkout in the working directory."""
    return [sys.executable, "-c", "from service.cli.main import main; main()", "serve"]


def _environment(checkout: Path, settings: dict[str, object]) -> dict[str, str]:
    known = set(SETTING.findall((checkout / "service" / "settings.py").read_text("utf-8")))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    return clean | {f"TEMPERANCE_{name.upper()}": str(value) for name, value in settings.items() if name in known}


def wait_for(is_so: Callable[[], bool], seconds: float, *, pause: float = LOOK) -> float | None:
    """Seconds until something is so, seen by looking often; None if it is not in time."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if is_so():
            return time.monotonic() - start
        time.sleep(pause)
    return None


def exchanged(port: int, data: bytes = READY, *, seconds: float = 5.0) -> bytes | None:
    """What a connection of its own brings back, until it closes; None where there is none, or it is reset."""
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as link:
            link.sendall(data)
            parts = list(iter(lambda: link.recv(1 << 16), b""))
    except OSError:
        return None
    return b"".join(parts)


def is_ready(port: int) -> bool:
    """Whether `/readyz` says so."""
    return (exchanged(port) or b"").startswith(b"HTTP/1.1 200")


def listens(port: int) -> bool:
    """Whether a connection is made, whatever comes of it."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def can_be_taken(port: int) -> bool:
    """Whether another service could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_worker(child: psutil.Process) -> bool:
    try:
        return any(WORKER in part for part in child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
