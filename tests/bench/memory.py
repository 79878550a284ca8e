"""Resident memory of a server that answers single rows for a long time.

Run as ``python -m tests.bench.memory``; with ``--long`` a million requests in place of a hundred thousand.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Final

import numpy as np
import psutil

from tests.bench.client import send
from tests.bench.servers import Server, ours
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.table import Figure, show
from tests.bench.wrk import JSON, Request

FIRST: Final = 50_000
SHORT: Final = 100_000
LONG: Final = 1_000_000
AT_ONCE: Final = 50_000  # so that the client's own lists stay small
CONNECTIONS: Final = 64
GROWTH: Final = 1.0  # %


def figures(server: Server, total: int) -> Iterator[Figure]:
    """Resident memory at the start, after the first requests and at the end."""
    requests = [Request(DECIDE, json.dumps({"instances": [row]}).encode(), JSON) for row in breast_rows(100)]
    yield Figure("before the first request", resident(server), "MiB")
    done = FIRST
    send(server, requests, np.zeros(FIRST), connections=CONNECTIONS)
    settled = resident(server)
    yield Figure(f"after {FIRST:,}", settled, "MiB")
    while done < total:
        send(server, requests, np.zeros(min(AT_ONCE, total - done)), connections=CONNECTIONS)
        done += min(AT_ONCE, total - done)
        yield Figure(f"after {done:,}", resident(server), "MiB")
    yield Figure("growth", 100.0 * (resident(server) / settled - 1.0), "%", GROWTH)


def resident(server: Server) -> float:
    """MiB that the process holds in memory."""
    return float(psutil.Process(server.pid).memory_info().rss) / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true", help=f"{LONG:,} requests")
    total = LONG if parser.parse_args().long else SHORT
    caption = f"Requests of 1 row, :decide, {CONNECTIONS} connections, a hundred different rows; K = 2, A = 3, "
    with ours() as server:
        show(
            f"Resident memory over {total:,} requests, shipped model",
            figures(server, total),
            caption=caption + "nll and mahalanobis with p-values, ranges, temperature, risks. One process, one run.",
        )


if __name__ == "__main__":
    main()
