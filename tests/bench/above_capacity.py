"""More requests than there is capacity for: what is answered, what is refused, and how quickly.

Capacity is measured in the same run, on the same server. Requests arrive at moments fixed beforehand, whatever has
become of those before them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from tests.bench.arrivals import Arrival, Outcomes, arrivals, closed_loop, drive, got, posted
from tests.bench.client import constant, poisson
from tests.bench.servers import Server, of_checkout
from tests.bench.synthetic import Network
from tests.bench.table import milliseconds, with_target
from tests.bench.wrk import Request

NETWORK: Final = Network("mlp-2048", (784, 2048, 2048, 10), 3, rows=1000)
WIDE: Final = Network("mlp-4096", (784, 4096, 4096, 4096, 10), 3, rows=1000)
"""Of which a row costs some milliseconds: what the client and the network cost beside it matters little."""

PROBES: Final = ("/livez", "/readyz", "/metrics")
PROBES_PER_SECOND: Final = 20.0
CONNECTIONS: Final = 4000
BEFORE: Final = 3.0
SETTLE: Final = 6.0
IN_TIME: Final = 0.5
OK: Final = 200
GOODPUT: Final = {3.0: 0.85, 10.0: 0.70}
"""Load in capacities -> least share of the capacity that is answered."""

MEMORY: Final = {3.0: None, 10.0: 128.0}
"""Load in capacities -> most MiB that it may add."""


@dataclass(frozen=True, slots=True)
class Work:
    """Requests of one size.

    Attributes
    ----------
    name : str
    rows : int
    connections : int
        With which capacity is measured: enough to keep the server busy, few enough to be refused nothing.
    network : Network
    """

    name: str
    rows: int
    connections: int
    network: Network = NETWORK

    def request(self) -> Request:
        """Rows to decide on."""
        return self.network.request("decide", self.rows)


WORKS: Final = (
    Work("1 row", 1, 64),
    Work("150 KB", 24, 8),
    Work("1 MiB", 169, 4),
    Work("1 row, wide", 1, 64, WIDE),
)
FOUR_ROWS: Final = Work("4 rows, wide", 4, 32, WIDE)
"""Of which ten times the capacity is still few enough for the client beside the server."""


class Memory:
    """Resident memory of a server and its workers, in MiB: at first, and at most.

    Parameters
    ----------
    server : Server
    """

    def __init__(self, server: Server) -> None:
        self._process = psutil.Process(server.pid)
        self.first = self.most = self._now()

    def look(self) -> None:
        """Look again."""
        self.most = max(self.most, self._now())

    def _now(self) -> float:
        processes = [self._process, *self._process.children(recursive=True)]
        return sum(float(one.memory_info().rss) for one in processes) / 2**20


@dataclass(frozen=True, slots=True)
class Measured:
    """One load on one server.

    Attributes
    ----------
    work : Work
    times : float
        Offered load in capacities.
    seconds : float
        For which it lasted.
    unloaded : Outcomes
        Of requests one after the other.
    capacity : float
        Answers per second of a closed loop.
    outcomes : Outcomes
        While the load lasted, and after it.
    memory : Memory
    """

    work: Work
    times: float
    seconds: float
    unloaded: Outcomes
    capacity: float
    outcomes: Outcomes
    memory: Memory = field(compare=False)

    @property
    def accepted(self) -> Outcomes:
        """Answers."""
        return self.outcomes.of("load", 200)

    @property
    def refused(self) -> Outcomes:
        """Refusals."""
        return self.outcomes.of("load", 503)

    @property
    def failed(self) -> int:
        """Requests that were neither answered nor refused with status 503 or 504."""
        return len(self.outcomes.of("load")) - len(self.accepted) - len(self.refused) - len(self.late)

    @property
    def late(self) -> Outcomes:
        """Requests that were not answered in time."""
        return self.outcomes.of("load", 504)

    @property
    def probes_failed(self) -> int:
        """Probes that were not answered 200."""
        return sum(one.status != OK for path in PROBES for one in self.outcomes.of(path).all)

    @property
    def lag(self) -> float:
        """How late the client itself was with 99 % of the requests, in seconds."""
        return float(np.quantile([one.lag for one in self.outcomes.of("load").all], 0.99))

    @property
    def goodput(self) -> float:
        """Answers while the load lasted, as a share of what the capacity gives."""
        return sum(one.done <= self.seconds for one in self.accepted.all) / (self.seconds * self.capacity)

    @property
    def in_time(self) -> float:
        """Share of the answers that came within half a second."""
        return float(np.mean(self.accepted.latencies <= IN_TIME)) if len(self.accepted) else 0.0

    @property
    def retry_after(self) -> float:
        """Share of refusals that say when to come again."""
        return float(np.mean([one.has_retry_after for one in self.refused.all])) if len(self.refused) else 1.0

    @property
    def recovery(self) -> float:
        """Seconds from the end of the load until single requests are answered as without load."""
        usual = max(3.0 * self.unloaded.quantile(0.99), 0.05)
        late = [one.done for one in self.outcomes.of("after").all if one.status != 200 or one.latency > usual]
        return max([self.seconds, *late]) - self.seconds


def overloaded(
    server: Server, work: Work, times: float, seconds: float, *, before: float = BEFORE, settle: float = SETTLE
) -> Measured:
    """Unloaded and at capacity for some seconds, then above it, then alone again."""
    request, memory = work.request(), Memory(server)
    closed_loop(server, request, connections=2, seconds=0.5)
    unloaded = closed_loop(server, request, connections=1, seconds=before)
    full = closed_loop(server, request, connections=work.connections, seconds=before)
    capacity = len(full.of("closed", OK)) / before
    schedule = list(_schedule(work, times * capacity, seconds, settle))
    outcomes = drive(server, schedule, connections=CONNECTIONS, look=memory.look)
    return Measured(work, times, seconds, unloaded, capacity, outcomes, memory)


def _schedule(work: Work, rate: float, seconds: float, settle: float) -> Iterator[Arrival]:
    yield from arrivals("load", posted(work.request()), poisson(rate, seconds, seed=1))
    for path in PROBES:
        yield from arrivals(path, got(path), constant(PROBES_PER_SECOND, seconds), fresh=True)
    single = posted(work.network.request("decide", 1))
    yield from arrivals("after", single, seconds + constant(PROBES_PER_SECOND, settle), fresh=True)


def cells(one: Measured) -> Sequence[str]:
    """A column of the table."""
    slowest = max(0.5, 3.0 * one.unloaded.quantile(0.99))
    return (
        f"{one.capacity:,.0f}/s, p99 {milliseconds(one.unloaded.quantile(0.99))}",
        with_target(one.goodput, ".2f", at_least=GOODPUT[one.times]),
        f"{one.in_time:.1%}",
        f"{milliseconds(one.accepted.quantile(0.5))}",
        with_target(one.accepted.quantile(0.99), ".3f", at_most=slowest),
        f"{len(one.refused):,} of {len(one.outcomes.of('load')):,}",
        with_target(one.refused.quantile(0.99), ".3f", at_most=0.05) if len(one.refused) else "none",
        with_target(one.retry_after, ".2f", at_least=1.0),
        f"{len(one.late)}",
        milliseconds(one.lag),
        with_target(one.failed, ".0f", at_most=0),
        *(with_target(one.outcomes.of(path, 200).quantile(0.99), ".3f", at_most=0.25) for path in PROBES),
        with_target(one.probes_failed, ".0f", at_most=0),
        f"{one.memory.first:.0f}",
        with_target(one.memory.most - one.memory.first, ".0f", at_most=MEMORY[one.times]),
        with_target(one.recovery, ".1f", at_most=5.0),
    )


LINES: Final = (
    "capacity; unloaded",
    "goodput, of capacity",
    "answers within 0.5 s",
    "answers, p50",
    "answers, p99, s",
    "refused (503)",
    "refused, p99, s",
    "with Retry-After",
    "not in time (504)",
    "sent late by the client, p99",
    "anything else",
    "/livez, p99, s",
    "/readyz, p99, s",
    "/metrics, p99, s",
    "probes that failed",
    "memory before, MiB",
    "memory added, MiB",
    "recovered after, s",
)


def measured(
    checkout: Path, models: Path, loads: Sequence[tuple[Work, float, float]], **environment: str
) -> list[Measured]:
    """Every load on a server of its own."""
    found = []
    for work, times, seconds in loads:
        with of_checkout(checkout, models, **environment) as server:
            found.append(overloaded(server, work, times, seconds))
    return found
