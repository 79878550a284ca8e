"""Whether the simulation of a process describes a real one: costs are measured, then two loads, real and simulated.

Run as ``python -m tests.bench.capacity``. Closed loops measure the costs, as ``temperance capacity measure`` does. Then
an open loop sends requests at 30 % and at 70 % of what 64 connections get, and the simulation gets the same rates. No
figure of the open loop goes into the costs. Client and server share the machine; what else it does is in the figures.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from service.api import bench
from service.api.bench import Address
from service.api.cost_measurement import Sample, counters, measured, processor_seconds
from service.bundle.repository import Repository
from service.capacity.request_costs import Costs
from service.capacity.simulation import Simulated, simulate
from service.cli.arguments import published
from service.runtime.model import load_model
from tests.bench.client import poisson, send
from tests.bench.servers import ROOT, Server, of_checkout
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.table import milliseconds, show_rows
from tests.bench.wrk import JSON, Request
from tests.shipped_model import SHIPPED

SHARES: Final = (0.3, 0.7)
CONNECTIONS: Final = 256
CLOSED: Final = 64  # connections of the closed loop that measures the capacity
MORE: Final = 16
COLUMNS: Final = ("load", "requests/s", "", "processors busy", "requests in a run", "p50", "p99")


@dataclass(frozen=True, slots=True)
class Point:
    """One open loop.

    Attributes
    ----------
    busy : float
        Processors that the server used.
    requests_per_run : float
    p50, p99 : float
        Seconds from the scheduled moment.
    lag : float
        Of 99 %: seconds that the client itself was late.
    """

    busy: float
    requests_per_run: float
    p50: float
    p99: float
    lag: float


def observed(server: Server, rate: float, seconds: float, *, seed: int) -> Point:
    """One open loop at a rate."""
    address, request = _address(server), Request(DECIDE, _body(1), JSON)
    before, used, began = counters(address), processor_seconds(address), time.perf_counter()
    seen = send(server, request, poisson(rate, seconds, seed=seed), connections=CONNECTIONS)
    used, lasted = processor_seconds(address) - used, time.perf_counter() - began
    after = counters(address)
    joined = (after["requests"] - before["requests"]) / (after["runs"] - before["runs"])
    lag = sorted(seen.lags)[int(0.99 * len(seen.lags))]
    return Point(used / lasted, joined, seen.quantile(0.5), seen.quantile(0.99), float(lag))


def costs_of(server: Server, seconds: float) -> Costs:
    """What requests of one row cost."""
    address, model = _address(server), load_model(published(Repository(SHIPPED), "breast-cancer", None))
    one, more = (Sample(bench.request_bytes(address, DECIDE, _body(rows)), rows) for rows in (1, MORE))
    return measured(address, one, more, model.run_time, rounds=3, seconds=seconds)


def _closed(server: Server, seconds: float) -> float:
    request = bench.request_bytes(_address(server), DECIDE, _body(1))
    load = asyncio.run(bench.drive(_address(server), request, connections=CLOSED, seconds=seconds))
    return load.per_second


def _address(server: Server) -> Address:
    return Address("127.0.0.1", server.port, server.pid)


def _body(rows: int) -> bytes:
    return json.dumps({"instances": breast_rows(rows)}).encode()


def cells(share: float, rate: float, points: Sequence[Point], simulated: Simulated) -> list[Sequence[str]]:
    """Three rows of the table: medians of the rounds, the simulation, and its share of them."""
    seen = [median(values) for values in zip(*(asdict(one).values() for one in points), strict=True)]
    busy, joined, p50, p99, _ = seen
    same = (simulated.busy, simulated.requests_per_run, simulated.quantile(0.5), simulated.quantile(0.99))
    ratios = [f"{a / b:.2f}" for a, b in zip(same, seen, strict=False)]
    return [
        (f"{share:.0%}", f"{rate:,.0f}", "measured", f"{busy:.2f}", f"{joined:.2f}", *map(milliseconds, (p50, p99))),
        ("", "", "simulated", f"{same[0]:.2f}", f"{same[1]:.2f}", *map(milliseconds, same[2:])),
        ("", "", "simulated / measured", *ratios),
    ]


def compared(audit: str, options: argparse.Namespace) -> None:
    """Print costs and comparison of a server with a record, or without."""
    with tempfile.TemporaryDirectory() as data:
        environment = {"TEMPERANCE_AUDIT": audit, "TEMPERANCE_DATA": str(Path(data))}
        with of_checkout(ROOT, SHIPPED, **environment) as server:
            costs = costs_of(server, options.seconds)
            capacity = median(_closed(server, options.seconds) for _ in range(3))
            rates = {share: share * capacity for share in SHARES}
            rounds = [
                {share: observed(server, rate, options.seconds, seed=i) for share, rate in rates.items()}
                for i in range(options.rounds)
            ]
    rows = [
        row
        for share, rate in rates.items()
        for row in cells(share, rate, [one[share] for one in rounds], simulate(costs, rate))
    ]
    lag = median(point.lag for one in rounds for point in one.values())
    caption = (
        f"Costs: {json.dumps({name: float(f'{value:.4g}') for name, value in asdict(costs).items()})}. "
        f"Medians of {options.rounds} rounds of {options.seconds:g} s; the client was {milliseconds(lag)} late in 1 %."
    )
    show_rows(f"One process under an open loop, TEMPERANCE_AUDIT={audit}", COLUMNS, rows, caption=caption)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--audit", nargs="*", default=["off", "strict"])
    options = parser.parse_args()
    for audit in options.audit:
        compared(audit, options)


if __name__ == "__main__":
    main()
