"""What arrives in the middle of something else: signals during a roll, the death of a parent.

Run as ``python -m tests.life.interrupted``; ``--against DIR`` drives the service of another checkout.
"""

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.bench.servers import ROOT
from tests.bench.table import show_rows, with_target
from tests.life.ends import DEADLINE, RATE, SLACK
from tests.life.load import KINDS, load
from tests.life.outcomes import Outcomes, lost, shown
from tests.life.processes import Service, can_be_taken, end_process, is_alive, listens, service, wait_for
from tests.life.rolling import replaced
from tests.life.stalled import stalled
from tests.shipped_model import SHIPPED

HALF_BODIES: Final = 20
PAUSE: Final = 0.1
"""Seconds between signals of one kind."""

WITHIN: Final = 0.5
"""Seconds after SIGHUP in which a roll is under way."""

ROLL_SECONDS: Final = 20.0
WATCH_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Rolling:
    """A roll, and the end after it.

    Attributes
    ----------
    rolled : float or None
        Seconds until all workers were replaced; None if they were not.
    outcomes : Outcomes
        Of a steady load, a connection per request, until the signal that ends the service.
    seconds : float
        That the end took.
    code : int or None
        None where the process had to be killed.
    """

    rolled: float | None
    outcomes: Outcomes
    seconds: float
    code: int | None


@dataclass(frozen=True, slots=True)
class Orphaned:
    """What is left of a service whose first process was killed.

    Attributes
    ----------
    unserved : float or None
        Seconds until no connection was made any more; None for never.
    free : float or None
        Seconds until another service could listen there.
    gone : float or None
        Seconds until all its processes had ended.
    """

    unserved: float | None
    free: float | None
    gone: float | None


def rolled(*, hangups: int = 1, half_bodies: int = 0, checkout: Path = ROOT, models: Path = SHIPPED) -> Rolling:
    """Send SIGHUP, wait for the roll, and end the service by SIGTERM."""
    with service(models, workers=2, checkout=checkout, deadline=DEADLINE) as running:
        held = stalled(running.port, ("half a body",), half_bodies) if half_bodies else nullcontext()
        with load(running.port, KINDS[0], RATE) as sent, held:
            before = running.workers()
            for _ in range(hangups):
                running.send(signal.SIGHUP)
                time.sleep(PAUSE)
            took = replaced(running, before, seconds=ROLL_SECONDS)
        return _ended(running, took, sent.ended)


def ended_within_a_roll(*, checkout: Path = ROOT, models: Path = SHIPPED) -> Rolling:
    """Send SIGTERM while workers are being replaced."""
    with service(models, workers=2, checkout=checkout, deadline=DEADLINE) as running:
        with load(running.port, KINDS[0], RATE) as sent:
            running.send(signal.SIGHUP)
            time.sleep(WITHIN)
        return _ended(running, None, sent.ended)


def _ended(running: Service, took: float | None, outcomes: Outcomes) -> Rolling:
    moment = running.send(signal.SIGTERM)
    code = running.ended()
    return Rolling(took, outcomes, time.monotonic() - moment, code)


def parent_killed(*, workers: int = 2, checkout: Path = ROOT, models: Path = SHIPPED) -> Orphaned:
    """Kill the first process of a service that is at work; what is left is killed in the end."""
    with service(models, workers=workers, checkout=checkout, deadline=DEADLINE) as running:
        left = running.workers() | _children(running)
        with load(running.port, KINDS[0], RATE):
            time.sleep(WITHIN)
            running.process.kill()
            start = time.monotonic()
            unserved = _since(start, lambda: not listens(running.port))
            free = _since(start, lambda: can_be_taken(running.port))
            gone = _since(start, lambda: not any(is_alive(pid) for pid in left))
            for pid in left:
                end_process(pid)
        return Orphaned(unserved, free, gone)


def _children(running: Service) -> set[int]:
    return {child.pid for child in psutil.Process(running.process.pid).children(recursive=True)}


def _since(start: float, is_so: Callable[[], bool]) -> float | None:
    left = max(0.05, start + WATCH_SECONDS - time.monotonic())
    return None if wait_for(is_so, left) is None else time.monotonic() - start


def rows(checkout: Path) -> Iterator[tuple[str, ...]]:
    """Of the table of rolls."""
    yield _row("SIGHUP", rolled(checkout=checkout))
    yield _row("five SIGHUP in half a second", rolled(hangups=5, checkout=checkout))
    yield _row(f"SIGHUP with {HALF_BODIES} half-sent bodies", rolled(half_bodies=HALF_BODIES, checkout=checkout))
    within = _row(f"SIGTERM {WITHIN:g} s after SIGHUP", ended_within_a_roll(checkout=checkout))
    yield (within[0], "not waited for", *within[2:])


def _row(name: str, found: Rolling) -> tuple[str, ...]:
    return (
        name,
        _seconds(found.rolled),
        f"{len(found.outcomes)}",
        with_target(lost(found.outcomes.final), ".0f", at_most=0),
        shown(found.outcomes.final),
        with_target(found.seconds, ".1f", at_most=DEADLINE + SLACK),
        "killed" if found.code is None else str(found.code),
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, default=ROOT)
    options = parser.parse_args()
    show_rows(
        "Rolls of two workers, shipped model",
        ("", "rolled, s", "requests", "lost", "no answer", "then SIGTERM: s", "exit code"),
        list(rows(options.against)),
        caption=f"A connection per request at {RATE:g} per second until the SIGTERM; deadline {DEADLINE:g} s.",
    )
    found = [(f"{workers}", parent_killed(workers=workers, checkout=options.against)) for workers in (1, 2)]
    show_rows(
        "SIGKILL of the first process",
        ("workers", "no connection after, s", "port free after, s", "all gone after, s"),
        [(name, _seconds(one.unserved), _seconds(one.free), _seconds(one.gone)) for name, one in found],
        caption=f"Watched for {WATCH_SECONDS:g} s.",
    )


if __name__ == "__main__":
    main()
