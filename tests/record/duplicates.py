"""The same request, sent a thousand times at once with one Idempotency-Key to two workers: one record, one answer.

``python -m tests.record.duplicates [--count 1000]``. Each copy has a connection of its own, so that both workers get
some, and is sent again while it is answered 409, as a client would.
"""

import argparse
import asyncio
import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tests.bench.servers import TEMPERANCE, Server, running
from tests.bench.shipped import DECIDE, breast_rows
from tests.shipped_model import SHIPPED

AT_ONCE: Final = 100  # connections; more wait for a place
PAUSE_SECONDS: Final = 0.05
MOST_TRIES: Final = 200


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the copies of one request.

    Attributes
    ----------
    statuses : Counter of int
        Of all tries.
    bodies : int
        Different bodies of answers with status 200.
    replayed : int
        Answers that were replays.
    records : int
        In the store.
    """

    statuses: Counter[int]
    bodies: int
    replayed: int
    records: int


async def _sent(client: httpx.AsyncClient, places: asyncio.Semaphore, key: str) -> list[httpx.Response]:
    body = json.dumps({"instances": breast_rows(1)})
    headers = {"content-type": "application/json", "idempotency-key": key, "connection": "close"}
    tries: list[httpx.Response] = []
    async with places:
        while not tries or (tries[-1].status_code == 409 and len(tries) < MOST_TRIES):
            if tries:
                await asyncio.sleep(PAUSE_SECONDS)
            tries.append(await client.post(DECIDE, content=body, headers=headers))
    return tries


async def _all_sent(server: Server, count: int) -> list[list[httpx.Response]]:
    places = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        return await asyncio.gather(*[_sent(client, places, "one-request") for _ in range(count)])


def duplicates(folder: Path, count: int) -> Found:
    """Send a request so many times to a service of two workers that keeps its record in a folder."""
    command = (str(TEMPERANCE), "serve", "--models", str(SHIPPED), "--port", "PORT", "--workers", "2")
    environment = {"TEMPERANCE_DATA": str(folder), "TEMPERANCE_LOG_LEVEL": "warning"}
    with running(*command, ready="/readyz", environment=environment) as server:
        sent = asyncio.run(_all_sent(server, count))
    last = [tries[-1] for tries in sent]
    with closing(sqlite3.connect(folder / "audit.db")) as connection:
        records = connection.execute("SELECT count(*) FROM predictions").fetchone()[0]
    return Found(
        Counter(answer.status_code for tries in sent for answer in tries),
        len({answer.content for answer in last if answer.status_code == 200}),
        sum("idempotency-replayed" in answer.headers for answer in last),
        records,
    )


def main() -> None:
    """Print what became of them; SystemExit if there is more than one record or answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        found = duplicates(Path(folder), count)
    print(found)  # noqa: T201  # a command
    if (found.statuses[200], found.bodies, found.records, found.replayed) != (count, 1, 1, count - 1):
        raise SystemExit("not every copy has the one answer of the one record")


if __name__ == "__main__":
    main()
