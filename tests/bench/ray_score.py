"""Batch scoring by one process, by a Ray cluster of one node and of two, in turn: rows per second, and what is equal.

Run as ``python -m tests.bench.ray_score``. A run over few rows is the price of a start; what a run over many takes
beyond it gives the rows per second. Every node has one processor, and all are on this machine: with two processors, two
nodes share it with the command and with Ray itself, so the figures are no forecast for two machines.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import polars as pl

from service.bundle.repository import Repository
from service.cluster.connection import INSTALL
from service.cluster.sharded_score import RayEngine
from service.runtime.model import Model, load_model
from service.scoring.score import Engine, score, score_here
from service.scoring.score_request import ScoreRequest
from tests.bench.synthetic import Network, publish
from tests.bench.table import show_rows
from tests.cluster.ray_nodes import Nodes, head_node

NETWORK: Final = Network("mlp-scored", (64, 2048, 2048, 10), 3, rows=1000)
CHUNK: Final = 2048
FEW: Final = CHUNK
MANY: Final = 40 * CHUNK
PARTS: Final = 4
ROUNDS: Final = 3
TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Bench:
    """A model and its data, few rows and many."""

    model: Model
    folder: Path

    @classmethod
    def made(cls, folder: Path, sizes: dict[str, int]) -> "Bench":
        """Publish the model, and write parts for every size."""
        publish(folder / "models", NETWORK)
        for name, rows in sizes.items():
            (folder / name).mkdir()
            for part, x in enumerate(np.array_split(NETWORK.sample(rows, seed=9), PARTS)):
                frame = pl.DataFrame(x, schema=[f"x{i}" for i in range(x.shape[1])])
                frame.write_parquet(folder / name / f"part-{part:03d}.parquet")
        return cls(load_model(Repository(folder / "models").bundle(NETWORK.name, 1)), folder)

    def seconds(self, data: str, engine: Engine, out: str) -> float:
        """Of one run, its start and its end included."""
        request = ScoreRequest(self.folder / data, self.folder / f"{out}.parquet", chunk_rows=CHUNK)
        request.out.unlink(missing_ok=True)
        began = time.perf_counter()
        score(self.model, request, engine=engine)
        return time.perf_counter() - began

    def answers(self, out: str) -> pl.DataFrame:
        """What was written last under a name."""
        return pl.read_parquet(self.folder / f"{out}.parquet")


@contextmanager
def places(nodes: Nodes) -> Iterator[dict[str, Callable[[], Engine]]]:
    """Who scores, in the order of a round; the second node comes and goes."""

    def two() -> Engine:
        nodes.add_the_second()
        return RayEngine(nodes.address)

    yield {"one process": lambda: score_here, "one node": lambda: RayEngine(nodes.address), "two nodes": two}
    nodes.lose_the_second()


def measured(bench: Bench, nodes: Nodes, sizes: dict[str, int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of a start, and rows per second beyond it, by place and round."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        with places(nodes) as engines:
            for place, engine_of in engines.items():
                engine = engine_of()
                few, many = (bench.seconds(data, engine, place) for data in sizes)
                rate = (sizes["many"] - sizes["few"]) / max(many - few, 1e-9)
                found.setdefault(place, []).append((few, rate))
    return found


def equality(one: pl.DataFrame, other: pl.DataFrame) -> str:
    """What is equal between the answers of two runs, in words."""
    if one.equals(other):
        return "every byte of every column"
    numbers = [name for name, kind in one.schema.items() if kind.is_float()]
    if not one.drop(numbers).equals(other.drop(numbers)):
        return "NOT order, labels, actions and flags"
    worst = max(float((one[name] - other[name]).abs().max() or 0.0) for name in numbers)  # type: ignore[arg-type]
    return f"order, labels, actions, flags; numbers to {worst:.1e} ({'met' if worst <= TOLERANCE else 'MISSED'})"


def run(sizes: dict[str, int], rounds: int) -> Iterator[list[str]]:
    """A line for every place."""
    with tempfile.TemporaryDirectory() as folder, head_node() as nodes:
        bench = Bench.made(Path(folder), sizes)
        found = measured(bench, nodes, sizes, rounds)
        base = found["one process"]
        for place, pairs in found.items():
            ratios = sorted(rate / own for (_, rate), (_, own) in zip(pairs, base, strict=True))
            spread = f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            start, rate = (median(values) for values in zip(*pairs, strict=True))
            same = equality(bench.answers("one process"), bench.answers(place))
            yield [place, f"{start:.1f}", f"{rate:,.0f}", spread, same]


def main() -> None:
    """Measure and print; without Ray there is nothing to compare."""
    lines = [] if find_spec("ray") is None else run({"few": FEW, "many": MANY}, ROUNDS)
    columns = ("who scores", f"start, s ({FEW} rows)", "rows/s beyond it", "of one process", "equal to one process")
    show_rows("Batch scoring", columns, lines, caption=f"Without lines, Ray is not installed: {INSTALL}.")


if __name__ == "__main__":
    main()
