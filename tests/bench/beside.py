"""A server beside a plain service that gives the same answers, and beside a floor that answers as many bytes."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import numpy as np

from tests.bench.servers import Server, under_uvicorn
from tests.bench.table import with_target
from tests.bench.wrk import Load, Request, measure

COLUMNS: Final = ("work", "ours/s", "p50 / p99, ms", "x plain", "x floor", "p50 x floor")
RENEWED: Final = frozenset({"id", "created", "digest", "prediction_id"})
"""Members of an answer that no two requests share."""
TOLERANCE: Final = 1e-5  # risks up to 10 in float32, which ours computes above a hundred classes
RANK: Final = 0.01  # a rank among calibration scores: a score that equals one of them but for rounding has two


@dataclass(frozen=True, slots=True)
class Work:
    """Requests for the same thing to both services, and what is required of ours.

    Attributes
    ----------
    name : str
    ours, plain : Request
    connections : int
    times_plain : float or None
        Least ratio of our requests per second to the plain service's.
    of_floor : float or None
        Least share of the floor's requests per second.
    p50_of_floor : float or None
        Greatest ratio of our median latency to the floor's.
    """

    name: str
    ours: Request
    plain: Request
    connections: int
    times_plain: float | None = None
    of_floor: float | None = None
    p50_of_floor: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """All three, one after the other."""

    ours: Load
    plain: Load
    floor: Load


def compare(ours: Server, plain: Server, work: Work, *, rounds: int, seconds: int) -> list[Round]:
    """Rounds in which every server has the machine to itself for a while."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        answer.write_bytes(answered(ours, work.ours))
        with under_uvicorn("tests.bench.floor:app", "/", FLOOR_ANSWER=str(answer)) as floor:
            pairs = ((ours, work.ours), (plain, work.plain), (floor, work.ours))
            return [
                Round(*(measure(to.url, what, connections=work.connections, seconds=seconds) for to, what in pairs))
                for _ in range(rounds)
            ]


def cells(work: Work, rounds: Sequence[Round]) -> Sequence[str]:
    """A row of the table."""
    times = median(r.ours.per_second / r.plain.per_second for r in rounds)
    share = median(r.ours.per_second / r.floor.per_second for r in rounds)
    delay = median(r.ours.p50 / r.floor.p50 for r in rounds)
    p50, p99 = (1e3 * median(times) for times in zip(*((r.ours.p50, r.ours.p99) for r in rounds), strict=True))
    return (
        work.name,
        f"{median(r.ours.per_second for r in rounds):,.0f}",
        f"{p50:.2f} / {p99:.2f}",
        with_target(times, ".1f", at_least=work.times_plain),
        with_target(share, ".2f", at_least=work.of_floor),
        with_target(delay, ".2f", at_most=work.p50_of_floor),
    )


def answered(server: Server, request: Request) -> bytes:
    """One answer; httpx.HTTPStatusError if it is a refusal."""
    reply = httpx.post(server.url + request.path, content=request.body, headers=request.headers, timeout=60)
    return reply.raise_for_status().content


def require_agreement(ours: Server, plain: Server, request: Request) -> None:
    """Stop unless both services give the same JSON, member for member; numbers within the tolerance."""
    one, other = (json.loads(answered(server, request)) for server in (ours, plain))
    if (where := difference(one, other)) is not None:
        raise SystemExit(f"the plain service answers something else at {where}; compare nothing")


def difference(one: Any, other: Any, where: str = "answer") -> str | None:
    """Path of the first member in which two documents differ; None where they agree."""
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other):
            return where
        pairs = [(f"{where}.{key}", one[key], other[key]) for key in one if key not in RENEWED]
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return where
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, float) and isinstance(other, float):
        close = RANK if where.endswith("p_value") else TOLERANCE
        return None if np.isclose(one, other, rtol=TOLERANCE, atol=close) else where
    else:
        return None if one == other else where
    return next((found for path, a, b in pairs if (found := difference(a, b, path)) is not None), None)
