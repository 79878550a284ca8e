"""Faults of the store under a real service that answers: no decision without a record, and recovery without a restart.

``python -m tests.record.faults`` fills the disk, locks the database, takes the rights to write from the database server
and stops it for a while. In each, what is refused must be 503 `audit-unavailable`, `/readyz` must be 503 with a reason,
what is answered must have its record, and answers must come again within 5 s of the fault's end. Errors of the disk
itself (EIO) are in tests/store/test_sqlite.py, at the engine.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
import httpx
import psutil
import psycopg

from service.store.engine import open_store
from service.store.secrets import Secrets
from tests.record.kills import START_SECONDS, Clients, Service, postgresql_server

FAULT_SECONDS: Final = 10.0
UNAVAILABLE: Final = (503, "urn:temperance:problem:audit-unavailable")
Fault = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Found:
    """What a fault showed; times in seconds."""

    name: str
    refused: dict[tuple[int, str], int]
    readiness: tuple[int, str]
    recovery: float
    confirmed: int
    lost: int

    @property
    def is_sound(self) -> bool:
        """Whether everything was as it must be."""
        is_refused = set(self.refused) == {UNAVAILABLE}
        return is_refused and self.readiness[0] == 503 and self.recovery <= 5 and not self.lost

    def __str__(self) -> str:
        return (
            f"{self.name}: refused {self.refused}, /readyz {self.readiness}, answers again after "
            f"{self.recovery:.2f} s, {self.confirmed} confirmed, {self.lost} of them without a record"
        )


def observe(name: str, folder: Path, store: str, fault: Fault, *, seconds: float) -> Found:
    """Run a service, let a fault last, and look at what it did."""
    from sklearn.datasets import load_breast_cancer

    service = Service(folder / "data", store, 2)
    service.folder.mkdir(mode=0o700)
    Secrets.read_or_made(service.folder / "secrets.json")
    service.start()
    clients = Clients(f"http://127.0.0.1:{service.port}", load_breast_cancer().data[0].tolist())
    clients.start()
    try:
        clients.wait_for_answer(time.monotonic(), START_SECONDS)
        time.sleep(0.5)
        with fault():
            time.sleep(seconds)
            readiness = _readiness(service.port)
        recovery = clients.wait_for_answer(time.monotonic(), START_SECONDS)
        time.sleep(0.5)
    finally:
        clients.end()
        service.end()
    refused = {kind: clients.refused.count(kind) for kind in set(clients.refused)}
    return Found(name, refused, readiness, recovery, len(clients.confirmed), _lost(store, clients))


def _lost(store: str, clients: Clients) -> int:
    reader = open_store(store)
    present = reader.predictions_of(clients.confirmed)
    reader.close()
    return len(set(clients.confirmed) - set(present))


def _readiness(port: int) -> tuple[int, str]:
    response = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=20)
    return response.status_code, response.text[:200]


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def full(folder: Path, seconds: float) -> Found:
    """A disk without room."""
    with _disk(folder) as place:

        @contextmanager
        def fault() -> Iterator[None]:
            filler = place / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            yield
            filler.unlink()

        return observe("full disk", folder, f"sqlite://{place}/audit.db", fault, seconds=seconds)


def locked(folder: Path, seconds: float) -> Found:
    """Another process that holds the database."""

    @contextmanager
    def fault() -> Iterator[None]:
        other = apsw.Connection(str(folder / "data" / "audit.db"))
        other.set_busy_timeout(5000)
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
        other.close()

    return observe("locked database", folder, f"sqlite://{folder}/data/audit.db", fault, seconds=seconds)


def read_only(folder: Path, seconds: float) -> Found:
    """A database server that became a standby, as it looks to its clients."""
    with postgresql_server(folder) as (store, _):

        @contextmanager
        def fault() -> Iterator[None]:
            _set_read_only(store, "on")
            yield
            _set_read_only(store, "off")

        return observe("read-only server", folder, store, fault, seconds=seconds)


def _set_read_only(store: str, value: str) -> None:
    with psycopg.connect(store, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE postgres SET default_transaction_read_only = {value}")
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'temperance'"
        )


def stopped(folder: Path, seconds: float) -> Found:
    """A database server that does not move."""
    with postgresql_server(folder) as (store, place):

        @contextmanager
        def fault() -> Iterator[None]:
            main = psutil.Process(int((place / "postmaster.pid").read_text().split()[0]))
            processes = [main, *main.children(recursive=True)]
            for process in processes:
                os.kill(process.pid, signal.SIGSTOP)
            yield
            for process in processes:
                os.kill(process.pid, signal.SIGCONT)

        return observe("stopped server", folder, store, fault, seconds=seconds)


def run(name: str, *, seconds: float = FAULT_SECONDS) -> Found:
    """One fault."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        return FAULTS[name](Path(folder), seconds)


FAULTS: Final = {"full": full, "locked": locked, "read-only": read_only, "stopped": stopped}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FAULTS))
    parser.add_argument("--seconds", type=float, default=FAULT_SECONDS)
    options = parser.parse_args()
    found = [run(name, seconds=options.seconds) for name in options.names]
    sys.stdout.write("".join(f"{one}\n" for one in found))
    return 0 if all(one.is_sound for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
