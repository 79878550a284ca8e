"""Servers that benchmarks drive, each in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tests.shipped_model import SHIPPED

ROOT: Final = Path(__file__).resolve().parents[2]
TEMPERANCE: Final = str(Path(sys.executable).parent / "temperance")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a process listens."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Of its root, without a slash."""
        return f"http://127.0.0.1:{self.port}"


def ours(models: Path = SHIPPED) -> AbstractContextManager[Server]:
    """Temperance over a repository, as it comes: validation and metrics on. It logs warnings alone and keeps no record.

    What the record costs is measured by `tests.bench.record`.
    """
    return of_checkout(ROOT, models)


def of_checkout(checkout: Path, models: Path, **environment: str) -> AbstractContextManager[Server]:
    """Temperance from the source in a directory, with this environment's packages; SystemExit if it does not start."""
    module = "service.cli.main" if (checkout / "service/cli/main.py").exists() else "service.cli"
    start = f"from {module} import main; main()"
    command = (sys.executable, "-c", start, "serve", "--models", str(models.resolve()), "--port", "PORT")
    own = {"TEMPERANCE_LOG_LEVEL": "warning"} | _without_record(checkout) | environment
    return running(*command, ready="/readyz", cwd=checkout, environment=own)


def _without_record(checkout: Path) -> dict[str, str]:
    # An earlier checkout has no record, and refuses a setting that it does not know.
    return {"TEMPERANCE_AUDIT": "off"} if (checkout / "service/store").exists() else {}


def under_uvicorn(app: str, ready: str, **environment: str) -> AbstractContextManager[Server]:
    """Any other application, under the same HTTP server."""
    quiet = ("--no-access-log", "--log-level", "warning")
    command = (sys.executable, "-m", "uvicorn", app, "--port", "PORT", *quiet)
    return running(*command, ready=ready, environment=environment)


@contextmanager
def running(*command: str, ready: str, environment: Mapping[str, str], cwd: Path = ROOT) -> Iterator[Server]:
    """A command whose argument PORT becomes a free port, from its first response at ``ready`` on."""
    port = free_port()
    filled = [part.replace("PORT", str(port)) for part in command]
    with subprocess.Popen(filled, env={**os.environ, **environment}, cwd=cwd) as process:
        server = Server(port, process.pid)
        try:
            _wait(server.url + ready, process)
            yield server
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit(f"{process.args!r} ended")
