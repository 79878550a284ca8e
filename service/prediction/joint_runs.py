"""Runs of several requests at once: stages A to C for all their rows, D and E for each query among them.

Tested in tests/prediction/test_queue.py.
"""

import time
from collections.abc import Sequence

from service.core.pipeline import Posterior
from service.prediction.joint_answer import JointAnswer
from service.prediction.timings import Timings
from service.prediction.waiting import Waiting
from service.runtime.model import Model
from service.runtime.rows import Rows, join

Outcome = tuple[list[Waiting], JointAnswer | Exception]
"""Requests with the same query, and their joint answer, or what one of them raised."""


def outcomes(batch: list[Waiting], deadline: float | None) -> list[Outcome]:
    """What becomes of the requests of a batch; one that fails is halved until the faulty request is alone."""
    groups = _groups(batch)
    ordered = [request for group in groups for request in group]
    try:
        joints = answered(ordered, deadline, groups)
    except Exception as error:  # noqa: BLE001  # it belongs to the request that caused it, and ends there
        return [(batch, error)] if len(batch) == 1 else _apart(ordered, deadline)
    return list(zip(groups, joints, strict=True))


def answered(batch: list[Waiting], deadline: float | None, groups: Sequence[list[Waiting]] = ()) -> list[JointAnswer]:
    """The joint answer of every group of a batch, whose requests are in the order of the groups.

    Raises
    ------
    Exception
        Whatever rows of the batch made the run raise.
    """
    started = time.monotonic()
    posterior, ran = _run(batch[0].query.model, join([request.rows for request in batch]), deadline, started)
    if len(groups) <= 1:
        return [_concluded(batch, posterior, started, ran)]
    joints, end = [], 0
    for group in groups:
        start, end = end, end + sum(len(request.rows) for request in group)
        joints.append(_concluded(group, posterior[start:end], started, ran))
    return joints


def latest(batch: Sequence[Waiting]) -> float | None:
    """The deadline of a run: it must not end for all when the most impatient gives up, who has a timer of its own."""
    deadlines = [request.deadline for request in batch if request.deadline is not None]
    return max(deadlines) if len(deadlines) == len(batch) else None


def _apart(batch: list[Waiting], deadline: float | None) -> list[Outcome]:
    # By halves: one faulty request among n costs some 2 log n runs, and fails alone.
    half = len(batch) // 2
    return outcomes(batch[:half], deadline) + outcomes(batch[half:], deadline)


def _groups(batch: list[Waiting]) -> list[list[Waiting]]:
    """Requests whose stages D and E run once for all: those with the same query, if it joins."""
    first = batch[0].query
    if first.joins and all(request.query is first for request in batch):
        return [batch]
    groups: dict[int, list[Waiting]] = {}
    for request in batch:
        groups.setdefault(id(request.query if request.query.joins else request), []).append(request)
    return list(groups.values())


def _run(model: Model, rows: Rows, deadline: float | None, started: float) -> tuple[Posterior, float]:
    try:
        raw = model.raw(rows, deadline=deadline)
        ran = time.monotonic()
        posterior = model.posterior_of(raw)
    except Exception:
        model.tally.failures += 1
        raise
    model.tally.add(len(rows), time.monotonic() - started)
    return posterior, ran


def _concluded(group: Sequence[Waiting], posterior: Posterior, started: float, ran: float) -> JointAnswer:
    query, monitor = group[0].query, group[0].monitor
    answer = query.conclude(posterior, monitor=monitor)
    queued = [request.since for request in group]
    parts = [request.part for request in group]
    rows = [request.rows for request in group]
    return JointAnswer(query, answer, parts, queued, Timings(started, ran, time.monotonic()), rows)
