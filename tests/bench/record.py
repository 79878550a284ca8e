"""What the record costs: strict audit beside none, interleaved; the disk's sync beside it, and bytes per record.

Run as ``python -m tests.bench.record [--data DIR]``; it needs wrk (``apt-get install wrk``). The store lies in DIR, by
default a temporary directory: name one on the disk that is to be measured, for some temporary directories are memory.
Only ratios taken in one run mean anything: every round measures both servers, one after the other.
"""

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.servers import ROOT, Server, of_checkout
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.table import Figure, show, show_rows, with_target
from tests.bench.wrk import JSON, Load, Request, measure, required
from tests.shipped_model import SHIPPED

MANY: Final = 64
SHARE: Final = 0.6
PAGE: Final = 4096
SYNCS: Final = 200
COLUMNS: Final = ("connections", "off/s", "strict/s", "strict / off", "p50 off", "p50 strict", "p50 more, in syncs")


@dataclass(frozen=True, slots=True)
class Pair:
    """Loads of one round, without a record and with one."""

    off: Load
    strict: Load


def sync_seconds(folder: Path) -> float:
    """Median time in which a page that was written over another is on the disk, as SQLite's log is after its first run.

    A file that grows takes longer, for its length is synced too.
    """
    path = folder / "sync"
    taken = []
    with path.open("wb", buffering=0) as file:
        file.write(bytes(PAGE * SYNCS))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(SYNCS):
            file.write(bytes(PAGE))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return median(taken)


def bytes_per_record(folder: Path) -> float:
    """Bytes of the file for each of its records, free pages left out."""
    with sqlite3.connect(folder / "audit.db") as connection:
        pages, page, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size", "freelist_count")
        )
        return float((pages - free) * page / connection.execute("SELECT count(*) FROM predictions").fetchone()[0])


def cells(connections: int, pairs: Sequence[Pair], sync: float) -> Sequence[str]:
    """A row of the table."""
    share = median(pair.strict.per_second / pair.off.per_second for pair in pairs)
    more = median(pair.strict.p50 - pair.off.p50 for pair in pairs) / sync
    return (
        str(connections),
        f"{median(pair.off.per_second for pair in pairs):,.0f}",
        f"{median(pair.strict.per_second for pair in pairs):,.0f}",
        with_target(share, ".2f", at_least=SHARE if connections == MANY else None),
        f"{1e3 * median(pair.off.p50 for pair in pairs):.3f} ms",
        f"{1e3 * median(pair.strict.p50 for pair in pairs):.3f} ms",
        with_target(more, ".2f", at_most=2.0 if connections == 1 else None),
    )


def rounds(off: Server, strict: Server, connections: int, options: argparse.Namespace) -> list[Pair]:
    """Both servers, again and again; the one that is first changes."""
    request = Request(DECIDE, json.dumps({"instances": breast_rows(1)}).encode(), JSON)
    pairs = []
    for i in range(options.rounds):
        order = (off, strict) if i % 2 else (strict, off)
        loads = {one.port: measure(one.url, request, connections=connections, seconds=options.seconds) for one in order}
        pairs.append(Pair(loads[off.port], loads[strict.port]))
    return pairs


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="directory on the disk that is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    required()
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=options.data))
        folders = {audit: Path(place) / audit for audit in ("off", "strict")}
        servers = {
            audit: stack.enter_context(of_checkout(ROOT, SHIPPED, TEMPERANCE_AUDIT=audit, TEMPERANCE_DATA=str(folder)))
            for audit, folder in folders.items()
        }
        sync = sync_seconds(Path(place))
        found = [
            cells(number, rounds(servers["off"], servers["strict"], number, options), sync) for number in (1, 8, MANY)
        ]
        size = bytes_per_record(folders["strict"])
    caption = f"One row, :decide. Medians of {options.rounds} rounds of {options.seconds} s, interleaved."
    show_rows("Strict audit on SQLite beside none", COLUMNS, found, caption=caption)
    show("The record", [Figure("sync of one page", 1e6 * sync, "us"), Figure("bytes of a one-row record", size, "B")])


if __name__ == "__main__":
    main()
