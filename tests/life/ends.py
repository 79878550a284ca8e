"""L2: how a service ends, whatever its clients do. Run as ``python -m tests.life.ends``.

A signal arrives while requests are under way, others are sent, and stalled clients hold connections. Noted are the
requests that were finished, what became of new connections, when `/readyz` said no, how long the end took, and the exit
code. ``--against DIR`` drives the service of another checkout.
"""

import argparse
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.servers import ROOT
from tests.bench.table import milliseconds, show_rows, with_target
from tests.life.load import KINDS, decided, load
from tests.life.outcomes import Ending, Outcomes, shown
from tests.life.processes import Service, exchanged, service
from tests.life.stalled import FEW, STALLS, stalled
from tests.shipped_model import SHIPPED

DEADLINE: Final = 5.0
DRAIN: Final = 2.0
SLACK: Final = 2.0
"""Seconds beyond drain and deadline in which the end is over."""

MOMENT: Final = 0.3
UNDER_WAY: Final = 8
ROWS: Final = 4_000
FEW_ROWS: Final = 10
"""Then nothing keeps `/readyz` waiting."""
RATE: Final = 200.0
EACH: Final = 20
OK: Final = 200
DRAINING: Final = b"HTTP/1.1 503"


@dataclass(frozen=True, slots=True)
class Case:
    """An end.

    Attributes
    ----------
    workers : int
    number : Signals
    clients : tuple of str
        Kinds of stalled clients.
    drain, deadline : float
        Seconds.
    rows : int
        Of each request that is under way.
    """

    workers: int
    number: signal.Signals = signal.SIGTERM
    clients: tuple[str, ...] = ()
    drain: float = 0.0
    deadline: float = DEADLINE
    rows: int = ROWS

    @property
    def bound(self) -> float:
        """Seconds in which it is over."""
        return (self.drain if self.number is signal.SIGTERM else 0.0) + self.deadline + SLACK

    @property
    def name(self) -> str:
        """In a table."""
        drain = f", drain {self.drain:g} s" if self.drain else ""
        return f"{self.number.name}{drain}"


@dataclass(frozen=True, slots=True)
class End:
    """What was seen of one.

    Attributes
    ----------
    case : Case
    under_way : int
        Requests that were not answered yet at the signal, of `UNDER_WAY`.
    finished, late : int
        Of all of these, those that got a whole answer; those among them that were refused at their deadline.
    outcomes : Outcomes
        Of a steady load, a connection per request, from before the signal until after the end.
    unready : float or None
        Seconds until `/readyz` said no for good; None without a drain, or where it never did.
    seconds : float
        From the signal to the end.
    code : int or None
        None where the process had to be killed.
    """

    case: Case
    under_way: int
    finished: int
    late: int
    outcomes: Outcomes
    unready: float | None
    seconds: float
    code: int | None


class UnderWay:
    """Requests of many rows, each on its own connection, that are being worked on.

    Parameters
    ----------
    port : int
    rows : int
    """

    def __init__(self, port: int, rows: int) -> None:
        self._answers: list[bytes | None] = []
        request = decided(keeps=False, rows=rows)
        self._threads = [threading.Thread(target=self._send, args=(port, request)) for _ in range(UNDER_WAY)]
        for thread in self._threads:
            thread.start()

    def unanswered(self) -> int:
        """How many wait for their answers now."""
        return sum(thread.is_alive() for thread in self._threads)

    def statuses(self) -> list[int]:
        """Those of the answers that are whole."""
        for thread in self._threads:
            thread.join()
        return [int(answer[9:12]) for answer in self._answers if answer is not None and _is_whole(answer)]

    def _send(self, port: int, request: bytes) -> None:
        self._answers.append(exchanged(port, request, seconds=30.0))


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"content-length: {len(body)}".encode() in head.lower()


class Readiness:
    """Looks at `/readyz` without a pause, until nothing listens.

    Parameters
    ----------
    port : int
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen: list[tuple[float, bool]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def since(self, moment: float) -> float | None:
        """Seconds from a moment to the first look after which none was answered 200; None if none was answered 503."""
        self._over.set()
        self._thread.join()
        ready = [begun for begun, is_ready in self._seen if is_ready]
        last = max(ready, default=moment)
        unready = [begun for begun, is_ready in self._seen if not is_ready and begun > last]
        return max(0.0, min(unready) - moment) if unready else None

    def _look(self) -> None:
        while not self._over.wait(0.002):
            begun = time.monotonic()
            answer = exchanged(self._port)
            if answer:
                self._seen.append((begun, not answer.startswith(DRAINING)))


def ended(case: Case, *, checkout: Path = ROOT, models: Path = SHIPPED) -> End:
    """Start a service, put it to work, end it."""
    with service(
        models,
        workers=case.workers,
        checkout=checkout,
        deadline=case.deadline,
        queue_seconds=0.9 * case.deadline,
        drain_seconds=case.drain,
    ) as running:
        return _ended(running, case)


def _ended(running: Service, case: Case) -> End:
    with stalled(running.port, case.clients, EACH), load(running.port, KINDS[0], RATE) as sent:
        time.sleep(MOMENT)
        under_way, readiness = UnderWay(running.port, case.rows), Readiness(running.port)
        time.sleep(MOMENT / 2)
        unanswered = under_way.unanswered()
        moment = running.send(case.number)
        code = running.ended()
        took = time.monotonic() - moment
        unready = readiness.since(moment)
        statuses = under_way.statuses()
    finished, late = len(statuses), sum(status != OK for status in statuses)
    return End(case, unanswered, finished, late, sent.ended, unready if case.drain else None, took, code)


def cases() -> Iterator[Case]:
    """Every kind of stalled client alone and all together, by one and by two workers; SIGINT; with a drain."""
    for workers in (1, 2):
        yield Case(workers)
        for kind in STALLS:
            yield Case(workers, clients=(kind,))
        yield Case(workers, clients=tuple(STALLS))
        yield Case(workers, signal.SIGINT, tuple(STALLS), DRAIN)
        yield Case(workers, clients=tuple(STALLS), drain=DRAIN)
        yield Case(workers, drain=DRAIN, rows=FEW_ROWS)


def row(end: End) -> tuple[str, ...]:
    """Of the table."""
    case, counts = end.case, end.outcomes.final
    clients = "all of these" if len(case.clients) == len(STALLS) else ", ".join(case.clients) or "none"
    unready = "" if end.unready is None else milliseconds(end.unready)
    return (
        f"{case.workers}",
        case.name,
        clients,
        f"{end.finished} of {UNDER_WAY} ({end.under_way})" + (f", {end.late} late" if end.late else ""),
        f"{counts[Ending.ANSWERED]} / {counts[Ending.REFUSED]}",
        shown(Counter({kind: count for kind, count in counts.items() if kind is not Ending.REFUSED})),
        unready if case.drain and case.number is signal.SIGTERM else "",
        with_target(end.seconds, ".1f", at_most=case.bound),
        "killed" if end.code is None else str(end.code),
    )


COLUMNS: Final = (
    "workers",
    "signal",
    "stalled clients",
    "finished (under way)",
    "new: answered / refused",
    "new: all else",
    "not ready after",
    "seconds",
    "exit code",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, help="only the cases of so many workers")
    parser.add_argument("--against", type=Path, default=ROOT)
    options = parser.parse_args()
    chosen = [case for case in cases() if options.workers in {None, case.workers}]
    show_rows(
        "How a service ends, shipped model",
        COLUMNS,
        [row(ended(case, checkout=options.against)) for case in chosen],
        caption=f"Deadline {DEADLINE:g} s; {EACH} stalled clients of each kind, {FEW['reads nothing']} of the last; "
        f"{UNDER_WAY} requests under way, each of {ROWS:,} rows or, in the last case, {FEW_ROWS}; "
        f"new connections at {RATE:g} per second.",
        width=160,
    )


if __name__ == "__main__":
    main()
