"""L3: workers that are killed under load. Run as ``python -m tests.life.kills``.

Every few seconds one of two workers is killed with SIGKILL. Requests that fail must have been under way in it; the
capacity is whole once as many workers as before accept connections. ``--against DIR`` drives the service of another
checkout.
"""

import argparse
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import psutil

from tests.bench.servers import ROOT
from tests.bench.table import milliseconds, show_rows, with_target
from tests.life.load import KINDS, Kind, load, share_of_capacity
from tests.life.outcomes import Ending, Outcomes, lost, shown
from tests.life.processes import Service, end_process, is_alive, service, wait_for
from tests.shipped_model import SHIPPED

SECONDS: Final = 600.0
EVERY: Final = 5.0
WHOLE_SECONDS: Final = 3.0
PATIENCE: Final = 30.0
PROBES: Final = 4
LIVE: Final = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Kill:
    """The end of a worker.

    Attributes
    ----------
    moment : float
        When the signal was sent.
    gone : float
        When the process was no more.
    whole : float or None
        Seconds until as many workers as before accepted connections; None if that was not in time.
    """

    moment: float
    gone: float
    whole: float | None


@dataclass(frozen=True, slots=True)
class Killed:
    """Kills under a load.

    Attributes
    ----------
    kind : Kind
    rate : float
        Requests in a second.
    kills : tuple of Kill
    outcomes : Outcomes
    """

    kind: Kind
    rate: float
    kills: tuple[Kill, ...]
    outcomes: Outcomes

    def failed(self, kill: Kill) -> int:
        """Requests that a kill ended: begun before the process was gone, and without an answer after the signal."""
        requests = self.outcomes.requests
        is_lost = _is_lost(self.outcomes)
        return int(np.sum(is_lost & (requests["begun"] <= kill.gone) & (requests["done"] >= kill.moment)))

    def under_way(self, kill: Kill) -> int:
        """Requests that were under way in all workers when the signal was sent."""
        requests = self.outcomes.requests
        return int(np.sum((requests["begun"] <= kill.gone) & (requests["done"] >= kill.moment)))

    @property
    def unexplained(self) -> int:
        """Requests without an answer that no kill explains."""
        return int(_is_lost(self.outcomes).sum()) - sum(self.failed(kill) for kill in self.kills)


def _is_lost(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    first = outcomes.requests["first"]
    found: npt.NDArray[np.bool_] = (first != Ending.ANSWERED) & (first != Ending.OVERLOADED)
    return found


def killed(running: Service, kind: Kind, *, kills: int, every: float = EVERY, rate: float | None = None) -> Killed:
    """Kill a worker every so often."""
    chosen = share_of_capacity(running.port, kind) if rate is None else rate
    draw, seen = random.Random(0), []  # noqa: S311  # which worker is killed is no secret
    with load(running.port, kind, chosen) as sent:
        for _ in range(kills):
            start = time.monotonic()
            time.sleep(every / 5)
            seen.append(kill(running, draw.choice(sorted(running.workers()))))
            time.sleep(max(0.0, start + every - time.monotonic()))
    return Killed(kind, chosen, tuple(seen), sent.ended)


def kill(running: Service, pid: int) -> Kill:
    """Kill a worker, and wait until another accepts connections in its place."""
    before = len(running.workers())
    moment = time.monotonic()
    end_process(pid)
    wait_for(lambda: not is_alive(pid), PATIENCE)
    gone = time.monotonic()
    with ExitStack() as probes:
        whole = wait_for(lambda: len(_accepting(running, probes)) >= before, PATIENCE, pause=0.05)
    return Kill(moment, gone, None if whole is None else time.monotonic() - moment)


def _accepting(running: Service, probes: ExitStack) -> set[int]:
    # A few more connections each time: a worker that accepts has one of them before long.
    for _ in range(PROBES):
        with suppress(OSError):
            probes.enter_context(socket.create_connection(("127.0.0.1", running.port), 1.0)).sendall(LIVE)
    return {pid for pid in running.workers() if _has_a_connection(pid, running.port)}


def _has_a_connection(pid: int, port: int) -> bool:
    try:
        found = psutil.Process(pid).connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in found)


def cells(found: Killed) -> tuple[str, ...]:
    """What `LINES` name."""
    failed = [found.failed(kill) for kill in found.kills]
    whole = [PATIENCE if kill.whole is None else kill.whole for kill in found.kills]
    return (
        f"{found.rate:,.0f}",
        f"{len(found.outcomes):,}",
        f"{len(found.kills)}",
        shown(found.outcomes.first),
        f"{np.mean(failed):.1f} / {max(failed)}",
        f"{np.mean([found.under_way(kill) for kill in found.kills]):.1f}",
        with_target(found.unexplained, ".0f", at_most=0),
        with_target(lost(found.outcomes.final), ".0f", at_most=0) if found.kind.keeps else "",
        f"{np.median(whole):.1f} s",
        f"{with_target(max(whole), '.1f', at_most=WHOLE_SECONDS)} s",
        milliseconds(float(np.quantile(found.outcomes.seconds, 0.99))),
    )


LINES: Final = (
    "requests/s",
    "requests",
    "kills",
    "no answer at first",
    "lost by a kill: mean / most",
    "under way at a kill, both workers",
    "lost, not under way at a kill",
    "lost after one retry",
    "whole again, median",
    "whole again, longest",
    "p99",
)


def measured(options: argparse.Namespace) -> Iterator[tuple[str, Killed]]:
    """Every kind of client."""
    for kind in KINDS:
        with service(SHIPPED, workers=2, checkout=options.against) as running:
            yield kind.name, killed(running, kind, kills=max(1, int(options.seconds / EVERY)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each kind of client")
    parser.add_argument("--against", type=Path, default=ROOT)
    options = parser.parse_args()
    found = dict(measured(options))
    show_rows(
        f"A worker of two is killed every {EVERY:g} s under 60 % load, shipped model",
        ("", *found),
        list(zip(LINES, *(cells(one) for one in found.values()), strict=True)),
        caption="Whole again: both workers accept connections, counted from the kill.",
    )


if __name__ == "__main__":
    main()
