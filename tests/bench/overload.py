"""A server under more than it can do: loads above capacity, slow clients, callers above their quota, unknown paths.

Run as ``python -m tests.bench.overload``; with ``--long`` loads last longer, and ten times the capacity lasts five
minutes. ``--against DIR`` measures the loads on the server of another checkout.
"""

import argparse
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from tests.bench.above_capacity import FOUR_ROWS, LINES, WORKS, Measured, cells, measured
from tests.bench.callers import above_its_quota, cost_of_keys
from tests.bench.servers import ROOT, of_checkout, ours
from tests.bench.slow_clients import IDLE, SLOW, beside_slow_clients
from tests.bench.synthetic import publish
from tests.bench.table import milliseconds, show_rows, with_target
from tests.bench.wrk import required
from tests.shipped_model import SHIPPED

PATHS: Final = {False: 1000, True: 10_000}
"""Whether it is the long run -> unknown paths that are sent."""

BUCKET: Final = re.compile(r',?le="[^"]*"')


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    long: bool
    against: Path
    only: str
    seconds: float | None
    queue_seconds: str | None


def loads(options: Options) -> None:
    """Three and ten times the capacity."""
    usual, longest = options.seconds or (20.0 if options.long else 5.0), 300.0 if options.long else 5.0
    wanted = [(work, 3.0, usual) for work in WORKS] + [(FOUR_ROWS, 10.0, options.seconds or longest)]
    wanted = [load for load in wanted if options.only in load[0].name]
    environment = {} if options.queue_seconds is None else {"TEMPERANCE_QUEUE_SECONDS": options.queue_seconds}
    with tempfile.TemporaryDirectory() as folder:
        for network in {work.network for work, _, _ in wanted}:
            publish(Path(folder), network)
        _show_loads(measured(options.against, Path(folder), wanted, **environment))


def _show_loads(found: Sequence[Measured]) -> None:
    columns = ("", *(f"{one.times:g} x, {one.work.name}" for one in found))
    rows = [(name, *values) for name, *values in zip(LINES, *(cells(one) for one in found), strict=True)]
    show_rows(
        "More than the capacity, network of 784-2048-2048-10 but for the wide ones",
        columns,
        rows,
        caption="Poisson arrivals at so many times the capacity, which a closed loop measured on the same server. "
        "Whole :decide answers; latency from the scheduled moment. One run.",
    )


def slow(options: Options) -> None:
    """Good requests beside slow clients."""
    with of_checkout(options.against, SHIPPED) as server:
        without, beside = beside_slow_clients(server, seconds=options.seconds or 3.0, rounds=5 if options.long else 2)
    ratio = beside.quantile(0.99) / without.quantile(0.99)
    row = (
        *(milliseconds(side.quantile(share)) for side in (without, beside) for share in (0.5, 0.99)),
        with_target(ratio, ".2f", at_most=2.0),
        with_target(sum(one.status != httpx.codes.OK for one in beside.all), ".0f", at_most=0),
    )
    columns = ("without: p50", "p99", "beside: p50", "p99", "p99, ratio", "not answered")
    show_rows(f"Beside {IDLE} idle and {SLOW} slow connections, shipped model", columns, [row])


def callers(options: Options) -> None:
    """A caller above its quota; what keys and quotas cost."""
    with tempfile.TemporaryDirectory() as folder:
        found = above_its_quota(Path(folder), seconds=30.0 if options.long else 8.0)
        ratios = cost_of_keys(Path(folder), rounds=7 if options.long else 3, seconds=2 if options.long else 1)
    row = (
        with_target(found.slowdown, ".2f", at_most=2.0),
        f"{found.exactness:.3f} (1 ± 0.05 {'met' if abs(found.exactness - 1.0) <= 0.05 else 'MISSED'})",
        with_target(found.retry_after, ".2f", at_least=1.0),
        with_target(median(ratios), ".2f", at_least=0.9),
    )
    columns = (
        "other's p99, ratio",
        "answered, of the quota",
        "429 with Retry-After",
        "with keys and quotas, x without",
    )
    show_rows("One caller at ten times its quota, shipped model", columns, [row])


def paths(options: Options) -> None:
    """Series of the metrics, before and after unknown paths."""
    with ours() as server, httpx.Client(base_url=server.url) as client:
        _series(client)  # a request for metrics is counted too
        before = _series(client)
        for _ in range(PATHS[options.long]):
            client.get(f"/{uuid.uuid4()}")
        started = time.perf_counter()
        after = _series(client)
        seconds = time.perf_counter() - started
    most = max(len(names) - len(before.get(metric, ())) for metric, names in after.items())
    row = (with_target(most, ".0f", at_most=1), with_target(seconds, ".4f", at_most=0.1))
    show_rows(f"After {PATHS[options.long]:,} unknown paths", ("most series added to a metric", "/metrics, s"), [row])


def _series(client: httpx.Client) -> dict[str, set[str]]:
    """Name of a metric -> its sets of labels, the bounds of a histogram apart."""
    found: dict[str, set[str]] = {}
    for line in client.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            series = BUCKET.sub("", line.rpartition(" ")[0])
            found.setdefault(series.partition("{")[0], set()).add(series)
    return found


PARTS: Final[dict[str, Callable[[Options], None]]] = {"loads": loads, "slow": slow, "callers": callers, "paths": paths}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true", help="loads of 20 s, ten times the capacity for 5 minutes")
    parser.add_argument("--against", type=Path, default=ROOT, help="checkout whose server is measured")
    parser.add_argument("--part", choices=PARTS, nargs="*", default=list(PARTS), help="what is measured")
    parser.add_argument("--only", default="", help="part of the name of a size of requests")
    parser.add_argument("--seconds", type=float, help="of each load")
    parser.add_argument("--queue-seconds", help="TEMPERANCE_QUEUE_SECONDS of the server under load")
    flags = vars(parser.parse_args())
    required()
    parts = flags.pop("part")
    for part in parts:
        PARTS[part](Options(**flags))


if __name__ == "__main__":
    main()
