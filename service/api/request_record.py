"""What the log and a trace hold of a request that was answered.

Nothing that its caller sent, but for ids whose form was checked. Tested in tests/api/test_edge.py.
"""

import logging
from typing import Any, NamedTuple

from service.access.caller import ANONYMOUS
from service.api.correlation import NONE, Correlation
from service.log_format import Fields
from service.prediction.joint_answer import Result
from service.telemetry import TracedRequest

State = dict[str, Any]


class Answered(NamedTuple):
    """How a request was answered.

    Attributes
    ----------
    method, route : str
        As metrics have them.
    status : int
    started, ended : float
        On the monotonic clock.
    """

    method: str
    route: str
    status: int
    started: float
    ended: float


def line_of(level: int, answered: Answered, state: State) -> logging.LogRecord:
    """The line in the log; made here, because a logger would look for its caller first, which costs as much again."""
    line = logging.LogRecord("temperance", level, __file__, 0, "request", (), None)
    line.__dict__.update(_fields(answered, state))
    return line


def _fields(answered: Answered, state: State) -> Fields:
    correlation: Correlation = state["correlation"]
    fields: Fields = {
        "request_id": state["request_id"],
        "method": answered.method,
        "route": answered.route,
        "status": answered.status,
        "milliseconds": round(1000 * (answered.ended - answered.started), 1),
    }
    if "code" in state:
        fields["code"] = state["code"]
    if (caller := state.get("caller", ANONYMOUS)) is not ANONYMOUS:
        fields["caller"] = caller.name
    if correlation is not NONE:
        fields |= _sent(correlation)
    return fields


def traced(answered: Answered, state: State) -> TracedRequest:
    """The request as a trace shows it."""
    own = (answered.method, answered.route, answered.status, state["request_id"], answered.started, answered.ended)
    traceparent, code = state["correlation"].traceparent, state.get("code")
    if "answer" not in state:
        return TracedRequest(*own, traceparent, code)
    joint, place = state["answer"]
    model = joint.query.model
    rows = joint.parts[place].rows
    return TracedRequest(*own, traceparent, code, model.name, model.version, rows, _stages(answered, (joint, place)))


def _stages(answered: Answered, result: Result) -> tuple[tuple[str, float, float], ...]:
    joint, place = result
    queued, (started, ran, concluded) = joint.queued[place], joint.timings
    record = joint.record if joint.record is not None and joint.record.until > 0.0 else None  # not yet, or never
    written = answered.ended if record is None else record.since
    stages = (
        ("read", answered.started, queued),
        ("queue", queued, started),
        ("run", started, ran),
        ("postprocess", ran, concluded),
        ("write", concluded, written),
    )
    return (*stages, ("record", written, record.until)) if record is not None else stages


def _sent(correlation: Correlation) -> Fields:
    sent = {"x_request_id": correlation.request_id, "traceparent": correlation.traceparent}
    return {name: value for name, value in sent.items() if value is not None}
