"""Callers with keys and quotas: what checking them costs, and whether one above its quota slows another down."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.arrivals import Outcomes, arrivals, drive, posted
from tests.bench.client import constant, poisson
from tests.bench.servers import ROOT, TEMPERANCE, Server, of_checkout
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.wrk import JSON, Request, measure
from tests.shipped_model import SHIPPED

MINUTE: Final = 60.0
QUOTA: Final = 6000  # requests in a minute
OTHER_RATE: Final = 50.0
UNBOUNDED: Final = 1_000_000_000
CONNECTIONS: Final = 64


def key(folder: Path, name: str, *, requests: int) -> str:
    """A new key of a caller with a quota of requests in a minute."""
    command = [TEMPERANCE, "keys", "create", "--name", name, "--data", str(folder), "--json"]
    command += ["--requests-per-minute", str(requests)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return str(json.loads(shown)["key"])


def by(secret: str) -> Request:
    """A row of the shipped model, sent by the holder of a key."""
    body = json.dumps({"instances": breast_rows(1)}).encode()
    return Request(DECIDE, body, {**JSON, "authorization": f"Bearer {secret}"})


@dataclass(frozen=True, slots=True)
class Beside:
    """What two callers saw: one above its quota, and another alone and beside it.

    Attributes
    ----------
    alone, beside : Outcomes
        Of the other caller.
    above : Outcomes
        Of the caller above its quota.
    """

    alone: Outcomes
    beside: Outcomes
    above: Outcomes

    @property
    def slowdown(self) -> float:
        """The other caller's p99 beside the first, in those alone."""
        return self.beside.quantile(0.99) / self.alone.quantile(0.99)

    @property
    def exactness(self) -> float:
        """Answers to the caller above its quota, in those that the quota allows."""
        return len(self.above.of("above", 200)) / QUOTA

    @property
    def retry_after(self) -> float:
        """Share of the refusals that say when to come again."""
        refused = self.above.of("above", 429).all
        return sum(one.has_retry_after for one in refused) / max(1, len(refused))


def above_its_quota(folder: Path, *, seconds: float) -> Beside:
    """One caller at ten times its quota, for less than the minute in which a quota is counted."""
    data = folder / "data"
    above, other = key(data, "above", requests=QUOTA), key(data, "other", requests=UNBOUNDED)
    with of_checkout(ROOT, SHIPPED, TEMPERANCE_DATA=str(data)) as server:
        single = posted(by(other))
        drive(server, arrivals("other", single, constant(OTHER_RATE, 1.0)), connections=8)
        alone = drive(server, arrivals("other", single, constant(OTHER_RATE, seconds)), connections=8)
        noise = arrivals("above", posted(by(above)), poisson(10 * QUOTA / MINUTE, seconds, seed=0))
        both = drive(server, [*noise, *arrivals("other", single, constant(OTHER_RATE, seconds))], connections=256)
    return Beside(alone, both.of("other"), both.of("above"))


def cost_of_keys(folder: Path, *, rounds: int, seconds: int) -> Sequence[float]:
    """Requests per second with a key that is checked and a quota that is counted, in those without; by round."""
    data = folder / "counted"
    counted = by(key(data, "counted", requests=UNBOUNDED))
    free = replace(counted, headers=JSON)
    with (
        of_checkout(ROOT, SHIPPED, TEMPERANCE_DATA=str(data)) as checking,
        of_checkout(ROOT, SHIPPED, TEMPERANCE_DATA=str(folder / "none")) as opened,
    ):
        pairs: list[tuple[Server, Request]] = [(checking, counted), (opened, free)]
        return [_ratio(pairs if i % 2 else pairs[::-1], checking, seconds) for i in range(rounds)]


def _ratio(pairs: Sequence[tuple[Server, Request]], checking: Server, seconds: int) -> float:
    rates = {
        server.port: measure(server.url, request, connections=CONNECTIONS, seconds=seconds).per_second
        for server, request in pairs
    }
    with_keys = rates.pop(checking.port)
    return with_keys / median(rates.values())
