"""What a response states of all its rows: request, model, calibration, prevalence, and the session if there is one.

Written down once, as the members of a row are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from service.core.numerics import Array
from service.core.sequence import SMOOTHERS
from service.prediction.answer import Answer
from service.prediction.answer_member import Json, Member, put
from service.prediction.query import Query
from service.prediction.sessions import Session
from service.runtime.model import Model

STRUCTURE_ONLY: Final = "structure only: probabilities smoothed by jsd are no longer calibrated"
SHARES: Final[Json] = {
    "type": "object",
    "additionalProperties": {"type": "number"},
    "description": "Share of every class; of a multilabel model, of the rows in which each label is present.",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a response besides its rows.

    Attributes
    ----------
    model : Model
    target : ndarray, or None
        Prevalence of the probabilities, as `Answer.target`.
    site : str or tuple of str or None
    smoother : str or None
    request_id : str
    created : str
        As `timestamp` writes it.
    """

    model: Model
    target: Array | None
    site: str | tuple[str, ...] | None
    smoother: str | None
    request_id: str
    created: str


def head_of_query(query: Query, *, request_id: str, created: str) -> Head:
    """The head of every response to a query."""
    return Head(query.model, query.target, query.options.site, query.stages.smoother, request_id, created)


def head_of(answer: Answer, *, request_id: str, created: datetime) -> Head:
    """The head of the response with an answer."""
    return Head(answer.model, answer.target, answer.site, answer.smoother, request_id, timestamp(created))


def header(head: Head) -> Json:
    """The members of a response besides those about its rows."""
    return _document(HEADER, head)


def headed(head: Head, paths: Sequence[str]) -> Json:
    """Some of these members, by their dotted paths."""
    return {member.path: member.values(head) for member in HEADER if member.path in paths}


def session_json(model: Model, session: Session) -> Json:
    """A session after the rows of a response."""
    return _document(SESSION, (model, session))


def session_of(answer: Answer) -> Json | None:
    """The session after an answer's rows; None where none was sent."""
    return None if answer.monitored is None else session_json(answer.model, answer.monitored.session)


def timestamp(moment: datetime) -> str:
    """A moment in UTC, to the millisecond."""
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def _document(members: Sequence[Member[Any]], source: object) -> Json:
    document: Json = {}
    for member in members:
        value = member.values(source)
        if value is not None or not member.optional:
            put(document, member.path.split("."), value)
    return document


def shares(model: Model, prevalence: Array | None) -> dict[str, float] | list[dict[str, float]] | None:
    """A prevalence by class, or those of several rows; None where it is unknown."""
    if prevalence is None:
        return None
    if model.manifest.graph.rules.by_label:
        return dict(zip(model.classes, prevalence[:, 1].tolist(), strict=True))
    rows = [dict(zip(model.classes, row, strict=True)) for row in np.atleast_2d(prevalence).tolist()]
    return rows if prevalence.ndim > 1 else rows[0]


def _smoother(head: Head) -> Json | None:
    if head.smoother is None:
        return None
    keeps = SMOOTHERS[head.smoother].keeps_calibration
    return {"name": head.smoother, "calibrated": keeps, "note": None if keeps else STRUCTURE_ONLY}


HEADER: Final[tuple[Member[Head], ...]] = (
    Member("id", "text", "The request, a UUIDv7.", lambda head: head.request_id),
    Member("created", "text", "When the answer was made, in UTC.", lambda head: head.created),
    Member("model", "text", "Name of the model.", lambda head: head.model.name),
    Member("version", "text", "Version that answered.", lambda head: head.model.version),
    Member("digest", "text", "SHA-256 of the version's files.", lambda head: head.model.bundle.digest),
    Member("calibration.method", "text", "Calibrator.", lambda head: head.model.method),
    Member("calibration.status", "text", "`ok`, `separable` or `uncalibrated`.", lambda head: head.model.status),
    Member(
        "calibration.support",
        "number",
        "Smallest error probability that the calibration rows support.",
        lambda head: head.model.calibration.get("support"),
        optional=True,
    ),
    Member(
        "prevalence.source",
        "value",
        "Prevalence of the calibrated probabilities; null where it is unknown.",
        lambda head: shares(head.model, head.model.source),
        nullable=True,
        schema=SHARES,
    ),
    Member(
        "prevalence.target",
        "value",
        "Prevalence of the answer's probabilities; a list where it varies by row, null where it is unknown.",
        lambda head: shares(head.model, head.target),
        nullable=True,
        schema={"anyOf": [SHARES, {"type": "array", "items": SHARES}]},
    ),
    Member(
        "prevalence.site",
        "value",
        "Site that was requested; a list where it varies by row.",
        lambda head: head.site,
        nullable=True,
        schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    ),
    Member(
        "smoother",
        "value",
        "Of a sequence model: how neighbouring positions were smoothed.",
        _smoother,
        optional=True,
        schema={
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "`hmm`, `jsd` or `none`."},
                "calibrated": {"type": "boolean", "description": "Whether probabilities stay calibrated."},
                "note": {"type": ["string", "null"], "description": "What to keep in mind."},
            },
            "required": ["name", "calibrated", "note"],
        },
    ),
)
SESSION: Final[tuple[Member[tuple[Model, Session]], ...]] = (
    Member("model", "text", "Name of the model.", lambda source: source[0].name),
    Member("version", "text", "Version of the model.", lambda source: source[0].version),
    Member(
        "false_alarms_per_1000_steps",
        "number",
        "False alarms per 1000 in-distribution steps, at most.",
        lambda source: source[1].per_thousand,
    ),
    Member("statistic", "number", "Evidence gathered so far.", lambda source: source[1].state.statistic),
    Member("steps", "count", "Steps so far.", lambda source: source[1].state.steps),
    Member(
        "steps_since_in_distribution",
        "count",
        "Steps since the last one in distribution.",
        lambda source: source[1].state.since_inside,
    ),
    Member("alarm", "flag", "Whether an alarm stands.", lambda source: source[1].state.standing),
)
"""A session as a response returns it, for the client to send back with the next rows."""
