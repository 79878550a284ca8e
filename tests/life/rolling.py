"""L1: restarts under load that lose nothing. Run as ``python -m tests.life.rolling``.

By SIGHUP, which replaces the workers of one service, and by SIGTERM to two services in turn behind an HAProxy that
follows `/readyz`. The load is 60 % of what a closed loop measured on the same server. ``--against DIR`` drives the
service of another checkout.
"""

import argparse
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tests.bench.servers import ROOT, free_port
from tests.bench.table import milliseconds, show_rows, with_target
from tests.door.servers import HAPROXY
from tests.life.load import KINDS, Kind, load, share_of_capacity
from tests.life.outcomes import Outcomes, lost, shown
from tests.life.processes import Service, is_ready, service, wait_for
from tests.shipped_model import SHIPPED

RESTARTS: Final = 20
REQUESTS: Final = 50_000
ROLL_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 2.0
BEFORE: Final = 0.5
"""Seconds of load before the first restart, and after each."""

CONFIGURATION: Final = """\
global
    maxconn 2000
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout check 5s
    timeout client 30s
    timeout server 30s
frontend door
    bind 127.0.0.1:{front}
    default_backend services
backend services
    http-reuse safe
    option httpchk GET /readyz
    default-server check inter 100ms fall 1 rise 1 pool-purge-delay 30s
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
"""
"""Nothing is sent twice by the proxy: what a restart loses is seen."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """Restarts under a load.

    Attributes
    ----------
    kind : Kind
    rate : float
        Requests in a second.
    outcomes : Outcomes
    seconds : tuple of (float or None)
        That each restart took; None for one that was not over in time.
    """

    kind: Kind
    rate: float
    outcomes: Outcomes
    seconds: tuple[float | None, ...]

    @property
    def aborted(self) -> int:
        """Restarts that were not over in time."""
        return self.seconds.count(None)

    @property
    def lost_without_retry(self) -> float:
        """Share of the requests that a client without a retry loses."""
        return lost(self.outcomes.first) / len(self.outcomes)


def by_hangup(running: Service, kind: Kind, restarts: int, *, least: int = 0, rate: float | None = None) -> Rolled:
    """Workers are replaced again and again, until there were so many restarts and so many requests."""
    chosen = share_of_capacity(running.port, kind) if rate is None else rate
    took: list[float | None] = []
    with load(running.port, kind, chosen) as sent:
        start = time.monotonic()
        time.sleep(BEFORE)
        while len(took) < restarts or (time.monotonic() - start) * chosen < least:
            took.append(roll(running))
            time.sleep(BEFORE)
    return Rolled(kind, chosen, sent.ended, tuple(took))


def roll(running: Service, *, seconds: float = ROLL_SECONDS) -> float | None:
    """Send SIGHUP; seconds until no worker from before is left and as many others serve, None if it takes too long."""
    before = running.workers()
    running.send(signal.SIGHUP)
    return replaced(running, before, seconds=seconds)


def replaced(running: Service, before: set[int], *, seconds: float) -> float | None:
    """Seconds until no worker from before is left and as many others serve; None if it takes too long."""
    return wait_for(lambda: _are_replaced(before, running.workers()), seconds)


def _are_replaced(before: set[int], now: set[int]) -> bool:
    return not before & now and len(now) >= len(before)


@contextmanager
def balanced(one: int, two: int) -> Iterator[int]:
    """HAProxy in front of two ports; its own port."""
    front = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(front=front, one=one, two=two), "utf-8")
        with subprocess.Popen([str(HAPROXY), "-q", "-f", str(file)], cwd=folder) as process:
            try:
                wait_for(lambda: is_ready(front), 10.0)
                yield front
            finally:
                process.terminate()
                process.wait(timeout=10)


class Pair:
    """Two services, each of which can be ended and started again on its port.

    Parameters
    ----------
    models : Path
    checkout : Path
    """

    def __init__(self, models: Path, checkout: Path) -> None:
        self.ports: Final = (free_port(), free_port())
        self._models, self._checkout = models, checkout
        self._stacks = (ExitStack(), ExitStack())
        self._running: dict[int, Service] = {}

    def start(self, place: int) -> None:
        """Start one; it is ready afterwards."""
        one = service(
            self._models, workers=1, checkout=self._checkout, port=self.ports[place], drain_seconds=DRAIN_SECONDS
        )
        self._running[place] = self._stacks[place].enter_context(one)

    def restart(self, place: int) -> float | None:
        """End one by SIGTERM and start it again; seconds of that, None if it had to be killed."""
        began = self._running[place].send(signal.SIGTERM)
        code = self._running[place].ended()
        self._stacks[place].close()
        self.start(place)
        return None if code is None else time.monotonic() - began

    def close(self) -> None:
        """End both."""
        for stack in self._stacks:
            stack.close()


def behind_readiness(
    models: Path, kind: Kind, restarts: int, *, checkout: Path = ROOT, least: int = 0, rate: float | None = None
) -> Rolled:
    """Two services end by SIGTERM in turn and are started again, behind a proxy that follows their readiness."""
    pair, took = Pair(models, checkout), list[float | None]()
    with closing(pair):
        for place in range(2):
            pair.start(place)
        with balanced(*pair.ports) as front:
            chosen = share_of_capacity(front, kind) if rate is None else rate
            with load(front, kind, chosen) as sent:
                start = time.monotonic()
                time.sleep(BEFORE)
                while len(took) < restarts or (time.monotonic() - start) * chosen < least:
                    took.append(pair.restart(len(took) % 2))
                    time.sleep(BEFORE)
    return Rolled(kind, chosen, sent.ended, tuple(took))


def cells(found: Rolled) -> tuple[str, ...]:
    """What `LINES` name."""
    times = [one for one in found.seconds if one is not None]
    slow = found.outcomes.seconds
    return (
        f"{found.rate:,.0f}",
        f"{len(found.outcomes):,}",
        f"{len(found.seconds)}",
        with_target(found.aborted, ".0f", at_most=0),
        f"{np.median(times):.1f} s" if times else "",
        shown(found.outcomes.first),
        f"{with_target(100 * found.lost_without_retry, '.4f', at_most=0.01 if found.kind.keeps else 0.0)} %",
        with_target(lost(found.outcomes.final), ".0f", at_most=0) if found.kind.keeps else "",
        f"{milliseconds(float(np.quantile(slow, 0.99)))} / {milliseconds(float(slow.max()))}",
    )


LINES: Final = (
    "requests/s",
    "requests",
    "restarts",
    "restarts not over in time",
    "seconds of a restart",
    "no answer at first",
    "lost without a retry",
    "lost after one retry",
    "p99 / slowest",
)


def measured(options: argparse.Namespace) -> Iterator[tuple[str, Rolled]]:
    """Every way of restarting, with every kind of client."""
    for kind in KINDS:
        with service(SHIPPED, workers=2, checkout=options.against) as running:
            found = by_hangup(running, kind, options.restarts, least=options.requests)
        yield f"SIGHUP, {kind.name}", found
    for kind in KINDS:
        found = behind_readiness(SHIPPED, kind, options.restarts, checkout=options.against, least=options.requests)
        yield f"SIGTERM, {kind.name}", found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--against", type=Path, default=ROOT)
    options = parser.parse_args()
    found = dict(measured(options))
    show_rows(
        "Restarts under 60 % load, shipped model",
        ("", *found),
        list(zip(LINES, *(cells(one) for one in found.values()), strict=True)),
        caption="SIGHUP: one service of two workers. SIGTERM: two services of one worker, each in turn, "
        f"TEMPERANCE_DRAIN_SECONDS={DRAIN_SECONDS:g}; HAProxy looks at /readyz every 100 ms and sends nothing twice.",
    )


if __name__ == "__main__":
    main()
