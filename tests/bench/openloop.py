"""Latency at half and at four fifths of capacity, for callers who do not wait for one another.

Run as ``python -m tests.bench.openloop``. Capacity is what wrk gets over 64 connections; unloaded is one connection
with a request every five milliseconds. Arrivals are Poisson, latency counts from the scheduled moment, and every round
measures capacity anew.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from tests.bench.client import Seen, constant, poisson, send
from tests.bench.servers import Server, ours
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.table import milliseconds, show_rows, with_target
from tests.bench.wrk import JSON, Request, measure, required

CAPACITY_CONNECTIONS: Final = 64
CONNECTIONS: Final = 256  # more than ever wait, so that none waits for a connection
UNLOADED_RATE: Final = 200.0
SHARES: Final = {0.5: 5.0, 0.8: None}
"""Load -> how many times the unloaded p99 its p99 may be."""


@dataclass(frozen=True, slots=True)
class Round:
    """Capacity, and what was seen without load and at every share of it."""

    capacity: float
    unloaded: Seen
    loaded: dict[float, Seen]


def one_round(server: Server, request: Request, seconds: float, *, seed: int) -> Round:
    """Everything once."""
    capacity = measure(server.url, request, connections=CAPACITY_CONNECTIONS).per_second
    unloaded = send(server, request, constant(UNLOADED_RATE, seconds), connections=1)
    loaded = {
        share: send(server, request, poisson(share * capacity, seconds, seed=seed), connections=CONNECTIONS)
        for share in SHARES
    }
    return Round(capacity, unloaded, loaded)


def cells(rounds: Sequence[Round]) -> list[Sequence[str]]:
    """A row without load, and one for every share."""
    rows = [("unloaded, 1 connection", f"{UNLOADED_RATE:,.0f}", *_times([r.unloaded for r in rounds]), "")]
    for share, target in SHARES.items():
        seen = [r.loaded[share] for r in rounds]
        ratio = median(r.loaded[share].quantile(0.99) / r.unloaded.quantile(0.99) for r in rounds)
        rate = median(share * r.capacity for r in rounds)
        row = (f"{share:.0%} of capacity", f"{rate:,.0f}", *_times(seen), with_target(ratio, ".1f", at_most=target))
        rows.append(row)
    return list(rows)


def _times(seen: Sequence[Seen]) -> tuple[str, str, str, str]:
    return (
        milliseconds(median(s.quantile(0.5) for s in seen)),
        milliseconds(median(s.quantile(0.99) for s in seen)),
        milliseconds(median(float(np.quantile(s.lags, 0.99)) for s in seen)),
        f"{median(s.busy for s in seen):.0%}",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    required()
    request = Request(DECIDE, json.dumps({"instances": breast_rows(1)}).encode(), JSON)
    with ours() as server:
        send(server, request, constant(UNLOADED_RATE, 1.0), connections=1)
        rounds = [one_round(server, request, options.seconds, seed=i) for i in range(options.rounds)]
    columns = (
        "open loop, Poisson arrivals",
        "requests/s",
        "p50",
        "p99",
        "p99 sent late",
        "client busy",
        "p99 x unloaded",
    )
    caption = (
        "K = 2, A = 3; the whole :decide answer of 1 row: nll and mahalanobis with p-values, ranges of 30 features, "
    )
    show_rows(
        "Latency from the scheduled moment, shipped model",
        columns,
        cells(rounds),
        caption=caption
        + f"temperature, risks, margin, action. Medians of {options.rounds} rounds of {options.seconds:g} s.",
    )


if __name__ == "__main__":
    main()
