"""Bodies of `POST /v1/outcomes`: checked as a whole, so that nothing of a malformed one is kept.

Tested in tests/api/v1/test_outcome_routes.py.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from service.api.v1.excess import without_excess
from service.api.v1.instances import nearest
from service.api.v1.requests import Wire
from service.bundle.wording import reason
from service.errors import MOST_FAULTS, Fault
from service.monitoring.reported_outcomes import MOST_REPORTS, Report
from service.record_errors import InvalidOutcomes
from service.store.entries import Ascertainment

SKEW: Final = 300_000_000
"""Microseconds by which the clocks of caller and service may differ."""
PREDICTION_ID: Final = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.(0|[1-9][0-9]{0,8})"
)
TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)
OBJECT: Final = "must be a JSON object"
LINE: Final = "must be one line, without control characters"
EXPECTED_TIME: Final = "must be a time as RFC 3339 writes it, with its zone, or a date, from 1970 on"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _prediction_id(text: str) -> str:
    if PREDICTION_ID.fullmatch(text) is None:
        raise ValueError("must be a prediction id: an answer's id, a dot, and the number of the row")
    return text


def microseconds(text: str) -> int:
    """Microseconds since 1970 of a time in UTC, with a date as its first moment; ValueError."""
    found = TIME.fullmatch(text)
    if found is None:
        raise ValueError(EXPECTED_TIME)
    day, time, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time or '00:00:00'}{(zone or 'Z').upper()}") - EPOCH
    except (ValueError, OverflowError):
        raise ValueError(EXPECTED_TIME) from None
    seconds = moment.days * 86_400 + moment.seconds
    if seconds < 0:
        raise ValueError(EXPECTED_TIME)
    return seconds * 1_000_000 + int(f"{fraction or ''}000000"[:6])


def _time(text: str) -> str:
    microseconds(text)
    return text


def _outcome(value: object) -> object:
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    kinds = _NUMBERS if isinstance(value, dict) else (str, *_NUMBERS)
    if not isinstance(value, _SHAPES) or not all(entry is None or isinstance(entry, kinds) for entry in entries):
        raise ValueError("must be a class, a list of classes, or an object of label -> 0, 1 or null")
    return value


_NUMBERS: Final = (bool, int, float)
_SHAPES: Final = (str, *_NUMBERS, list, dict)
CLASS: Final = [{"type": kind} for kind in ("string", "number", "boolean")]
OUTCOME: Final = {
    "anyOf": [
        *CLASS,
        {"type": "array", "items": {"anyOf": [*CLASS, {"type": "null"}]}},
        {
            "type": "object",
            "title": "LabelStates",
            "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
        },
    ]
}
OutcomeValue = Annotated[
    Any,
    AfterValidator(_outcome),
    Field(
        description="What turned out to be true: the name of a class; of a multilabel model an object of label -> 0, 1 "
        "or null, or a list of the labels that are present; of a sequence a list with a class or null for every "
        "position. Null is what is not known.",
        json_schema_extra=OUTCOME,
    ),
]
PredictionId = Annotated[
    str,
    AfterValidator(_prediction_id),
    Field(description="As the answer has it.", json_schema_extra={"pattern": f"^{PREDICTION_ID.pattern}$"}),
]
ObservedAt = Annotated[
    str,
    AfterValidator(_time),
    Field(
        description="When it became known: RFC 3339, or a date. Now by default. The latest one of a row is in force.",
        json_schema_extra={"examples": ["2026-01-01T12:00:00Z", "2026-01-01"]},
    ),
]
Source = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="Where it is known from, such as a registry; kept in clear text, so never a patient's name."),
]
Known = Annotated[
    Ascertainment,
    Field(
        description="Why it is known: `routine`, it would be known whatever the action was; `action`, only because of "
        "the action that was taken; `audit`, because rows were chosen at random to find out."
    ),
]


class OutcomeReport(Wire):
    """What turned out to be true of one answered row."""

    prediction_id: PredictionId
    outcome: OutcomeValue
    observed_at: ObservedAt | None = None
    source: Source | None = None
    ascertainment: Known = "routine"


class OutcomesRequest(Wire):
    """Body of `POST /v1/outcomes`."""

    outcomes: Annotated[list[OutcomeReport], Field(min_length=1, max_length=MOST_REPORTS)]


def parse_reports(document: object, *, now: int) -> list[Report]:
    """Reports of a parsed body.

    Parameters
    ----------
    document : object
    now : int
        Microseconds since 1970; nothing is observed later, but for the skew of clocks.

    Raises
    ------
    InvalidOutcomes
        If anything is malformed; a row that is not known, or an outcome that is no class, is not.
    """
    reports: list[Report] = []
    faults: list[Fault] = []
    for i, entry in enumerate(_entries(document)):
        found = report_of(entry, now=now)
        if isinstance(found, Report):
            reports.append(found)
        else:
            faults += [replace(fault, path=("outcomes", i, *fault.path)) for fault in found]
        if len(faults) >= MOST_FAULTS:  # an error for each of ten thousand would take longer than their outcomes
            break
    if faults:
        raise _invalid(faults[:MOST_FAULTS])
    return reports


def report_of(entry: object, *, now: int) -> Report | list[Fault]:
    """One report, or what is wrong with it."""
    try:
        report = OutcomeReport.model_validate(without_excess(entry, OutcomeReport.model_fields, (), ()))
    except ValidationError as error:
        return [_fault(one, OutcomeReport) for one in error.errors(include_url=False, include_input=False)]
    observed_at = None if report.observed_at is None else microseconds(report.observed_at)
    if observed_at is not None and observed_at > now + SKEW:
        return [Fault(("observed_at",), "in-the-future", f"lies more than {SKEW // 1_000_000} seconds in the future")]
    request_id, _, row = report.prediction_id.partition(".")
    return Report(request_id, int(row), report.outcome, observed_at, report.source, report.ascertainment)


def _entries(document: object) -> list[object]:
    """The entries of a body, without what they hold being looked at."""
    kept: Any = without_excess(document, OutcomesRequest.model_fields, (), ())
    if isinstance(kept, dict) and isinstance(kept.get("outcomes"), list):
        kept = {**kept, "outcomes": kept["outcomes"][: MOST_REPORTS + 1]}
    try:
        return _Envelope.model_validate(kept).outcomes
    except ValidationError as error:
        entries = error.errors(include_url=False, include_input=False)
    raise _invalid([_fault(entry, OutcomesRequest) for entry in entries[:MOST_FAULTS]])


class _Envelope(Wire):
    outcomes: Annotated[list[Any], Field(min_length=1, max_length=MOST_REPORTS)]


def _fault(entry: ErrorDetails, kind: type[Wire]) -> Fault:
    code, known = entry["type"], list(kind.model_fields)
    path = tuple(step if step in known else "?" for step in entry["loc"][:1])
    if code == "extra_forbidden":
        detail = f"is not known here; known are {', '.join(known)}{nearest(entry['loc'][-1], known)}"
        return Fault(("?",), "unknown-field", detail)
    if path == ("outcome",) and code == "value_error":
        code = "wrong_type"
    name = "wrong-type" if code.endswith("_type") else _CODES.get(code, code.replace("_", "-"))
    return Fault(path, name, _WORDS.get(code) or reason(code, entry["msg"], entry.get("ctx", {})))


def _invalid(faults: Sequence[Fault]) -> InvalidOutcomes:
    first = faults[0]
    place = ".".join(str(step) for step in first.path) or "the body"
    return InvalidOutcomes(f"{place}: {first.detail}", faults)


_CODES: Final = {"missing": "missing-field", "value_error": "wrong-value"}
_WORDS: Final = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), OBJECT),
    "string_pattern_mismatch": LINE,
}
