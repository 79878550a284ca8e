"""Sends mutated requests to a running server, on connections that are used again where the answer allows it.

Run as ``python -m tests.door.fuzz --url http://127.0.0.1:8000 --count 100000``.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from tests.door.answers import parsed
from tests.door.exchange import Address, Connection, connect
from tests.door.mutations import mutated

CONNECTIONS: Final = 24
SECONDS: Final = 0.25  # for which a client waits: what has no answer then is half a request, and is given up
SLOW: Final = frozenset({501, 503, 504, 505})


@dataclass(slots=True)
class Findings:
    """What came back.

    Attributes
    ----------
    statuses : Counter
        Answers by status; `none` are requests without a whole answer.
    faults : list of tuple
        Status and request of answers that must not be.
    """

    statuses: Counter[int | str] = field(default_factory=Counter)
    faults: list[tuple[int | str, bytes]] = field(default_factory=list)


async def fuzz(address: Address, count: int, *, seed: int) -> Findings:
    """Send ``count`` mutated requests."""
    findings, requests = Findings(), mutated(count, seed=seed)
    await asyncio.gather(*(_client(address, requests, findings) for _ in range(CONNECTIONS)))
    return findings


async def _client(address: Address, requests: Iterator[bytes], findings: Findings) -> None:
    connection: Connection | None = None
    for request in requests:
        if connection is None or connection.ended:
            connection = await _connected(address, request, findings)
        if connection is not None and not await _one(connection, request, findings):
            connection.close()
            connection = None
    if connection is not None:
        connection.close()


async def _connected(address: Address, request: bytes, findings: Findings) -> Connection | None:
    try:
        return await connect(address)
    except OSError:
        findings.faults.append(("no connection", request))
        return None


async def _one(connection: Connection, request: bytes, findings: Findings) -> bool:
    # Whether the connection can be used again: exactly one answer came, and nothing after it.
    del connection.received[:]
    is_head = request.lstrip().startswith(b"HEAD ")
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(SECONDS):
            await connection.send([request])
            while not connection.ended and not parsed(connection.received, is_head, ended=False)[0]:
                await connection.change()
    answers, rest = parsed(connection.received, is_head, ended=connection.ended)
    statuses: list[int | str] = [answer.status for answer in answers]
    findings.statuses.update(statuses or ["none"])
    findings.faults += [(one.status, request) for one in answers if one.status >= 500 and one.status not in SLOW]
    return len(answers) == 1 and not rest and answers[0].headers.get("connection") != "close"


def main() -> None:
    """Fuzz a server, print the statuses, and end with status 1 where one of them must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    url, started = urlsplit(arguments.url), time.monotonic()
    findings = asyncio.run(fuzz(Address(str(url.hostname), url.port or 80), arguments.count, seed=arguments.seed))
    for status, request in findings.faults[:50]:
        sys.stdout.write(f"{status} {request!r}\n")
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(findings.statuses.items(), key=str))
    sys.stdout.write(f"{arguments.count} requests in {time.monotonic() - started:.0f} s: {counts}\n")
    sys.exit(1 if findings.faults else 0)


if __name__ == "__main__":
    main()
