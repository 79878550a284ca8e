"""The record of one answer as it is shown over HTTP: all that it rested on, and what turned out to be true.

Clear text of ids, subjects, groups and inputs is not shown: to read records over HTTP, a caller need not know the
patients. `temperance audit show` shows it to those who hold the secrets.

Tested in tests/api/v1/test_outcome_routes.py.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from service.monitoring.truth import in_force
from service.prediction.record_reader import read_records
from service.prediction.record_rows import rows_of
from service.record_errors import PredictionNotFound, StoreDamaged
from service.store.engine import Store
from service.store.entries import TOKEN_BYTES, Context, Outcome, Prediction
from service.store.streams import Linked

PLACE: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.(0|[1-9][0-9]{0,8}))?", re.ASCII)
NOT_FOUND: Final = "there is no record under this id, or it is of a model that the credential is not for"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


def recorded_prediction(store: Store, place: str, may_use: Callable[[str], bool]) -> Json:
    """One record, plain values.

    Parameters
    ----------
    store : Store
    place : str
        A prediction id; or a request id, for what the rows of the request have in common.
    may_use : callable
        Whether the caller may use the model of a name.

    Raises
    ------
    PredictionNotFound, StoreUnavailable, StoreDamaged
    """
    found = PLACE.fullmatch(place)
    linked = None if found is None else store.linked(found[1])
    if found is None or linked is None or not isinstance(linked.entry, Prediction):
        raise PredictionNotFound(NOT_FOUND)
    entry, row = linked.entry, None if found[2] is None else int(found[2])
    context = store.context(entry.context)
    if context is None:
        raise StoreDamaged("a record lacks its context; `temperance audit verify` shows where")
    if not may_use(context.model) or (row is not None and (context.schema is None or row >= entry.rows)):
        raise PredictionNotFound(NOT_FOUND)
    common = {**_request(entry), **_context(context), **_basis(store, context), "place": _place(linked)}
    return (
        common
        if row is None
        else {
            "prediction_id": place,
            "row": row,
            **common,
            "columns": _columns(store, entry, context, row),
            **_row(store, entry, row),
        }
    )


def time_text(microseconds: int) -> str:
    """A time of the record as RFC 3339 has it."""
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _request(entry: Prediction) -> Json:
    return {
        "id": entry.request_id,
        "created": time_text(entry.created),
        "caller": entry.caller,
        "x_request_id": entry.x_request_id,
        "traceparent": entry.traceparent,
        "shadow_of": entry.shadow_of,
        "rows": entry.rows,
        "latency_seconds": entry.latency / 1e6,
        "key_id": entry.key_id,
    }


def _context(context: Context) -> Json:
    return {
        "verb": context.verb,
        "model": context.model,
        "version": str(context.version),
        "task": context.task,
        "digest": context.bundle_digest,
        "graph_digest": context.graph_digest,
        "calibration_digest": context.calibration_digest or None,
        "policy": context.policy,
        "site": context.site,
        "prevalence": None if context.prevalence is None else orjson.loads(context.prevalence),
        "options": orjson.loads(context.options),
        "software": orjson.loads(context.software),
    }


def _basis(store: Store, context: Context) -> Json:
    document = store.document(context.basis)
    if document is None:
        raise StoreDamaged("a record lacks its basis; `temperance audit verify` shows where")
    return {"basis_digest": f"sha256:{context.basis.hex()}", "basis": orjson.loads(document.content)}


def _place(linked: Linked) -> Json:
    return {"stream": linked.stream, "sequence": linked.sequence, "link": linked.link.hex()}


def _row(store: Store, entry: Prediction, row: int) -> Json:
    outcomes = [one for one in store.outcomes_of([entry.request_id]) if one.row == row]
    last = in_force(outcomes)
    return {
        "row_digest": _token(entry.row_digests, row),
        "id_token": _token(entry.ids, row),
        "subject_token": _token(entry.subjects, row),
        "group_token": _token(entry.groups, row),
        "outcome": None if last is None else orjson.loads(last.truth),
        "outcomes": [_outcome(one) for one in outcomes],
    }


def _columns(store: Store, entry: Prediction, context: Context, row: int) -> Json:
    schema = None if context.schema is None else store.document(context.schema)
    if schema is None:
        raise StoreDamaged("a record lacks its schema; `temperance audit verify` shows where")
    return rows_of(read_records([entry], schema))[row]


def _token(tokens: bytes | None, row: int) -> str | None:
    own = b"" if tokens is None else tokens[row * TOKEN_BYTES : (row + 1) * TOKEN_BYTES]
    return own.hex() if any(own) else None


def _outcome(outcome: Outcome) -> Json:
    return {
        "outcome": orjson.loads(outcome.truth),
        "observed_at": time_text(outcome.observed_at),
        "received": time_text(outcome.received),
        "source": outcome.source,
        "ascertainment": outcome.ascertainment,
        "caller": outcome.caller,
        "contradicts": outcome.contradicts,
    }
