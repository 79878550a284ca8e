"""A load that runs beside what a harness does to a server: started, stopped, and read."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tests.bench.arrivals import posted
from tests.bench.servers import ROOT
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.wrk import JSON, Request
from tests.life.client import BEGUN, Plan
from tests.life.outcomes import Outcomes

CONNECTIONS: Final = 64
CAPACITY_CONNECTIONS: Final = 16
SHARE: Final = 0.6
"""Of what the server does."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a client uses connections."""

    name: str
    keeps: bool


KINDS: Final = (Kind("a connection per request", keeps=False), Kind("keep-alive", keeps=True))


def decided(*, keeps: bool, rows: int = 1) -> bytes:
    """A request to the shipped model as bytes."""
    headers = JSON if keeps else {**JSON, "Connection": "close"}
    return posted(Request(DECIDE, json.dumps({"instances": breast_rows(rows)}).encode(), headers))


@dataclass(slots=True)
class Load:
    """A running client.

    Attributes
    ----------
    plan : Plan
    outcomes : Outcomes or None
        Once it has been stopped.
    """

    plan: Plan
    _process: "subprocess.Popen[bytes]" = field(init=False)
    outcomes: Outcomes | None = field(init=False, default=None)

    def start(self) -> None:
        """Begin to send; the first request is on its way afterwards."""
        command, pipe = [sys.executable, "-m", "tests.life.client"], subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self.plan.written())
        self._process.stdin.flush()
        self._process.stdout.read(len(BEGUN))
        self._process.stdout.close()

    def stop(self) -> None:
        """Begin no further request, and wait for the ends of the others.

        Raises
        ------
        SystemExit
            If the client itself failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(timeout=self.plan.patience + 30.0):
            raise SystemExit("the client of the load failed")
        with np.load(self.plan.into) as read:
            self.outcomes = Outcomes(read["requests"], [bytes(answer) for answer in read["answers"]])

    @property
    def ended(self) -> Outcomes:
        """What became of its requests."""
        assert self.outcomes is not None, "the load has not been stopped"
        return self.outcomes


@contextmanager
def load(
    port: int, kind: Kind, rate: float, *, connections: int = CONNECTIONS, data: bytes | None = None
) -> Iterator[Load]:
    """Requests at a rate while the context lasts; 0 is as many as there are answers."""
    sent = decided(keeps=kind.keeps) if data is None else data
    with tempfile.NamedTemporaryFile(suffix=".npz") as into:
        plan = Plan(port, sent.decode("latin-1"), into.name, rate, connections, kind.keeps, retries=kind.keeps)
        running = Load(plan)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def capacity(port: int, kind: Kind, *, seconds: float = 2.0) -> float:
    """Answers in a second over a few connections, each of which sends as soon as it has its answer."""
    with load(port, kind, 0.0, connections=CAPACITY_CONNECTIONS) as running:
        time.sleep(seconds)
    done = running.ended.requests["done"]
    return float(len(done) / (done.max() - running.ended.requests["begun"].min()))


def share_of_capacity(port: int, kind: Kind, *, seconds: float = 2.0) -> float:
    """The share of its capacity that a server is loaded with."""
    return SHARE * capacity(port, kind, seconds=seconds)
