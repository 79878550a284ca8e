"""What joining concurrent requests into one run is worth: the same server, with batching and without.

Run as ``python -m tests.bench.batching``. Both versions of a network live in one server and differ in the manifest's
``[runtime] batch_rows`` alone; rounds measure one after the other, and only ratios within a round count.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.servers import Server, ours
from tests.bench.synthetic import Network, publish, publish_unbatched
from tests.bench.table import milliseconds, show_rows, with_target
from tests.bench.wrk import Load, measure, required

CLASSES: Final = 10
ACTIONS: Final = 3
ALONE: Final = 0.9
TARGETS: Final = {512: {1: ALONE, 64: 1.3}, 2048: {1: ALONE, 64: 4.0}}
"""Width of the hidden layers -> connections -> how many times as fast batching must be."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One round: requests joined, and each run by itself."""

    joined: Load
    apart: Load


def network(width: int) -> Network:
    """784 - width - width - 10."""
    return Network(f"mlp-{width}", (784, width, width, CLASSES), ACTIONS, rows=1000)


def compare(server: Server, width: int, connections: int, rounds: int, seconds: int) -> list[Pair]:
    """Both versions, one after the other; the one that is measured first changes from round to round."""
    joined, apart = (network(width).request("decide", 1, version=version) for version in (1, 2))
    pairs = []
    for i in range(rounds):
        order = (joined, apart) if i % 2 else (apart, joined)
        loads = {one.path: measure(server.url, one, connections=connections, seconds=seconds) for one in order}
        pairs.append(Pair(loads[joined.path], loads[apart.path]))
    return pairs


def cells(name: str, pairs: Sequence[Pair], target: float) -> Sequence[str]:
    """A row of the table."""
    ratio = median(pair.joined.per_second / pair.apart.per_second for pair in pairs)
    sides = [[pair.joined for pair in pairs], [pair.apart for pair in pairs]]
    rates = (f"{median(load.per_second for load in side):,.0f}" for side in sides)
    times = (
        f"{milliseconds(median(load.p50 for load in side))} / {milliseconds(median(load.p99 for load in side))}"
        for side in sides
    )
    return (name, *rates, with_target(ratio, ".2f", at_least=target), *times)


def rows(server: Server, rounds: int, seconds: int) -> Iterator[Sequence[str]]:
    """All of the table."""
    for width, targets in TARGETS.items():
        for connections, target in targets.items():
            pairs = compare(server, width, connections, rounds, seconds)
            yield cells(f"784-{width}-{width}-10, {connections}", pairs, target)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    required()
    columns = ("network, connections", "joined/s", "apart/s", "ratio", "joined p50 / p99", "apart p50 / p99")
    with tempfile.TemporaryDirectory() as folder:
        for width in TARGETS:
            publish(Path(folder), network(width))
            publish_unbatched(Path(folder), network(width))
        with ours(Path(folder)) as server:
            found = list(rows(server, options.rounds, options.seconds))
    caption = (
        f"Whole :decide answers of 1 row, 784 numbers of four digits in JSON; K = {CLASSES}, A = {ACTIONS}: nll with "
    )
    show_rows(
        "Batching: requests joined, against batch_rows = 1 on the same server",
        columns,
        found,
        caption=caption + f"p-value, temperature, risks, margin, action. Medians of {options.rounds} rounds of "
        f"{options.seconds} s, interleaved.",
    )


if __name__ == "__main__":
    main()
