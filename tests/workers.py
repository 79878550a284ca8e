"""What workers of a supervisor under test run; each starts in a tenth of a second."""

import os
import socket
import time
from pathlib import Path

from service.api.worker_messages import CLOSE, LEAVE, READY


def serve(folder: Path, supervisor: socket.socket) -> None:
    """Be ready, and end once it is due."""
    (folder / str(os.getpid())).touch()
    supervisor.setblocking(True)
    supervisor.send(READY)
    while (word := supervisor.recv(1)) not in (CLOSE, LEAVE, b""):
        (folder / f"{os.getpid()}-{word.decode()}").touch()


def end_at_once(folder: Path, supervisor: socket.socket) -> None:
    """Never be ready."""
    (folder / str(os.getpid())).touch()
    del supervisor
    raise SystemExit(3)


def end_once_ready(folder: Path, supervisor: socket.socket) -> None:
    """Be ready, and end all the same."""
    (folder / str(os.getpid())).touch()
    supervisor.send(READY)


def serve_once(folder: Path, supervisor: socket.socket) -> None:
    """The first serves; those that are to take its place cannot start, until a file says otherwise."""
    if any(folder.iterdir()) and not (folder / "repaired").exists():
        (folder / f"failed-{time.monotonic_ns()}").touch()
        raise SystemExit(3)
    serve(folder, supervisor)


def ignore_everything(folder: Path, supervisor: socket.socket) -> None:
    """Be ready, and never end."""
    (folder / str(os.getpid())).touch()
    supervisor.send(READY)
    while True:
        time.sleep(60)
