"""Every kind of request beside plain rows, two baselines and the server of another checkout; interleaved.

Run as ``python -m tests.bench.comparison [--against DIR]``; it needs wrk (``apt-get install wrk``). Every round
measures all servers of a group one after the other, and the table shows medians of the rounds' ratios: only ratios
taken in one run mean anything. ``--only TEXT`` and ``--connections N`` make it shorter.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from statistics import median
from typing import Final

from tests.bench import task_models
from tests.bench.beside import answered
from tests.bench.servers import ROOT, Server, of_checkout, under_uvicorn
from tests.bench.synthetic import publish
from tests.bench.table import show_rows, with_target
from tests.bench.workloads import FIVE, P50_OF_FLOOR, Group, Workload, groups
from tests.bench.wrk import Load, Request, measure, required
from tests.shipped_model import SHIPPED

OURS, BEFORE, PLAIN, BARE, FLOOR = "ours", "before", "plain", "bare", "floor"
BASELINES: Final = {PLAIN: "tests.bench.plain:app", BARE: "tests.bench.bare:app"}
BEST: Final = {"OPENBLAS_NUM_THREADS": "1"}  # its threads wait for each other on matrices as small as these
COLUMNS: Final = ("request", "at", "ours/s", "p50 ms", "x plain rows", "x plain", "x bare", "x before", "p50 x floor")
CAPTION: Final = """\
at: connections. 1 row: 30 features, 2 classes, 3 actions; 256 rows: 30 features, 5 classes, 5 actions; others: 1 row.
Rows are answered :decide in whole: probabilities, OOD scores with p-values, risks, margin, action. plain writes our
whole JSON; bare writes arrays of probabilities, scores and costs; both answer plain rows, whatever the options of
the request to ours. Validation and metrics on in ours, logs off in all.
"""
WIDTH: Final = 150

Loads = dict[tuple[str, str], Load]
"""Server, and name of the workload or path of the baselines' request -> what wrk measured in one round."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers of a group; each has the machine to itself while it is measured."""

    servers: dict[str, Server]
    group: Group
    connections: int
    seconds: int

    def round(self, *, flipped: bool) -> Loads:
        """Everything once; the checkout that is measured first changes from round to round."""
        loads: Loads = {}
        for path, request in {
            work.baseline.path: work.baseline for work in self.group.workloads if work.baseline
        }.items():
            loads |= self._loads((PLAIN, BARE), path, request)
        for work in self.group.workloads:
            loads |= self._loads((BEFORE, OURS) if flipped else (OURS, BEFORE), work.name, work.request)
        first = self.group.workloads[0]
        return loads | self._loads((FLOOR,), first.name, first.request)

    def _loads(self, servers: Sequence[str], name: str, request: Request) -> Loads:
        return {
            (server, name): measure(
                self.servers[server].url, request, connections=self.connections, seconds=self.seconds
            )
            for server in servers
            if server in self.servers
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """Rounds of one group at one number of connections."""

    group: Group
    connections: int
    rounds: Sequence[Loads]

    def cells(self, work: Workload) -> Sequence[str]:
        """A row of the table."""
        name, first = work.name, self.group.workloads[0].name
        baseline = work.baseline.path if work.baseline else ""
        met_here = self.connections == self.group.targets_at
        return (
            f"{self.group.title}: {name}",
            str(self.connections),
            f"{median(loads[OURS, name].per_second for loads in self.rounds):,.0f}",
            f"{1e3 * median(loads[OURS, name].p50 for loads in self.rounds):.2f}",
            self._times(name, (OURS, first), work.of_plain_rows if met_here else None),
            self._times(name, (PLAIN, baseline)),
            self._times(name, (BARE, baseline), work.of_bare if met_here else None),
            self._times(
                name, (BEFORE, name), work.of_before if met_here or (name == first and self.group.bundle) else None
            ),
            self._latency(name),
        )

    def _times(self, name: str, other: tuple[str, str], at_least: float | None = None) -> str:
        ratios = [loads[OURS, name].per_second / loads[other].per_second for loads in self.rounds if other in loads]
        return with_target(median(ratios), ".2f", at_least=at_least) if ratios else ""

    def _latency(self, name: str) -> str:
        ratios = [loads[OURS, name].p50 / loads[FLOOR, name].p50 for loads in self.rounds if (FLOOR, name) in loads]
        at_most = P50_OF_FLOOR if self.connections == 1 and self.group.bundle else None
        return with_target(median(ratios), ".1f", at_most=at_most) if ratios else ""


def rows(servers: dict[str, Server], group: Group, options: argparse.Namespace) -> Iterator[Sequence[str]]:
    """A group's part of the table."""
    with ExitStack() as stack:
        beside = {FLOOR: stack.enter_context(_floor(servers[OURS], group.workloads[0].request))}
        if group.bundle:
            for name, app in BASELINES.items():
                beside[name] = stack.enter_context(under_uvicorn(app, "/docs", **BEST, PLAIN_BUNDLE=str(group.bundle)))
        for connections in options.connections or group.connections:
            bench = Bench(servers | beside, group, connections, options.seconds)
            rounds = [bench.round(flipped=bool(i % 2)) for i in range(options.rounds)]
            measured = Measured(group, connections, rounds)
            yield from (measured.cells(work) for work in group.workloads)


def published(models: Path) -> list[Group]:
    """The groups, after all of their models were put into a repository."""
    copytree(SHIPPED, models, dirs_exist_ok=True)
    publish(models, FIVE)
    task_models.publish_all(models)
    return groups(models)


@contextmanager
def _floor(ours: Server, request: Request) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        answer.write_bytes(answered(ours, request))
        with under_uvicorn("tests.bench.floor:app", "/", FLOOR_ANSWER=str(answer)) as floor:
            yield floor


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, help="another checkout, whose server is measured beside ours")
    parser.add_argument("--ours", type=Path, default=ROOT, help="the checkout that is measured  [this one]")
    parser.add_argument("--only", default="", help="groups whose title holds this text")
    parser.add_argument("--connections", type=int, action="append", help="in place of each group's own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = _options()
    required()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = [group for group in published(Path(folder)) if options.only in group.title]
        servers = {OURS: stack.enter_context(of_checkout(options.ours, Path(folder)))}
        if options.against:
            servers[BEFORE] = stack.enter_context(of_checkout(options.against, Path(folder)))
        found = [row for group in chosen for row in rows(servers, group, options)]
    caption = f"{CAPTION}Medians of {options.rounds} rounds of {options.seconds} s, interleaved."
    show_rows("Every kind of request", COLUMNS, found, caption=caption, width=WIDTH)


if __name__ == "__main__":
    main()
