"""Recorded answers of a version beside their outcomes, read from a store.

Only rows whose outcome would have become known whatever was decided enter: those with a ``routine`` or ``audit``
outcome. What was not delivered, and what a shadow made, is left out.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
import orjson

from service.core.numerics import Array
from service.errors import RefitRefused
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.truth import in_force
from service.prediction.record_reader import Recorded, read_records
from service.runtime.model import Model
from service.store.engine import Store
from service.store.entries import TOKEN_BYTES, Outcome, Prediction, Selection

CHUNK: Final = 1000
OTHERS: Final = 20
"""Answers with another action, none of which has an outcome, from which on outcomes are held to follow the action."""

UNDELIVERED: Final = "undelivered"
ACTED_UPON: Final = (
    "outcomes are known only of rows that were acted upon, so nothing can be concluded about the others; collect "
    "routine outcomes, or those of an audit of rows drawn at random"
)
Row = tuple[str, int]
Subject = tuple[str, bytes] | Row


@dataclass(slots=True)
class _Found:
    """What was read so far."""

    logits: list[Array] = field(default_factory=list)
    scores: dict[str, list[Array]] = field(default_factory=dict)
    truths: list[Any] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    created: list[int] = field(default_factory=list)
    answered: Counter[str | None] = field(default_factory=Counter)
    observed: Counter[str | None] = field(default_factory=Counter)
    acted: int = 0


def labelled_answers(
    store: Store, model: Model, *, since: int | None = None, until: int | None = None
) -> LabelledAnswers:
    """Answers of a version whose outcome is known.

    Parameters
    ----------
    store : Store
    model : Model
    since, until : int, optional
        Of when they were answered, in microseconds since 1970: from the first, to before the second.

    Raises
    ------
    RefitRefused
        If no outcome can be learned from, and why.
    StoreUnavailable, StoreDamaged
    """
    found, skipped = _Found(), _undelivered(store)
    selection = Selection(model=model.name, version=int(model.version), since=since, until=until)
    for chunk in _chunks(store.predictions(selection)):
        kept = [one for one in chunk if one.columns and one.request_id not in skipped]
        outcomes = _by_row(store.outcomes_of([one.request_id for one in kept]))
        for recorded, predictions in _by_schema(store, kept):
            _gather(found, recorded, predictions, outcomes, model)
    _refuse_acted_upon(found)
    return _joined(found, model)


def _chunks(predictions: Iterator[Prediction]) -> Iterator[list[Prediction]]:
    while chunk := list(islice(predictions, CHUNK)):
        yield chunk


def _undelivered(store: Store) -> set[str]:
    return {str(orjson.loads(event.detail).get("request_id")) for event in store.events(kind=UNDELIVERED)}


def _by_row(outcomes: Iterable[Outcome]) -> dict[Row, list[Outcome]]:
    found: dict[Row, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.request_id, outcome.row), []).append(outcome)
    return found


def _by_schema(store: Store, predictions: Sequence[Prediction]) -> Iterator[tuple[Recorded, list[Prediction]]]:
    groups: dict[bytes, list[Prediction]] = {}
    for prediction in predictions:
        context = store.context(prediction.context)
        if context is not None and context.schema is not None:
            groups.setdefault(context.schema, []).append(prediction)
    for digest, members in groups.items():
        schema = store.document(digest)
        if schema is not None:
            yield read_records(members, schema), members


def _gather(
    found: _Found,
    recorded: Recorded,
    predictions: Sequence[Prediction],
    outcomes: dict[Row, list[Outcome]],
    model: Model,
) -> None:
    if recorded.layout.kept is not None:
        return  # the least probable classes of these rows were not recorded
    places = [(one, row) for one in predictions for row in range(one.rows)]
    actions = recorded.texts("decision.action") if "decision.action" in recorded else [None] * len(places)
    found.answered.update(actions)
    kept = []
    for place, (prediction, row) in enumerate(places):
        own = outcomes.get((prediction.request_id, row), [])
        found.acted += bool(own)
        truth = _learnable(own, model)
        if truth is not None:
            kept.append(place)
            found.truths.append(truth)
            _place(found, prediction, row)
    found.observed.update(actions[place] for place in kept)
    found.logits.append(recorded.values("logits")[kept])
    for detector in model.chain.detectors:
        name = f"ood.scores.{detector.name}.score"
        if name in recorded:
            found.scores.setdefault(detector.name, []).append(recorded.values(name)[kept])


def _place(found: _Found, prediction: Prediction, row: int) -> None:
    found.rows.append((prediction.request_id, row))
    found.created.append(prediction.created)
    token = (prediction.subjects or b"")[row * TOKEN_BYTES : (row + 1) * TOKEN_BYTES]
    own: Row = (prediction.request_id, row)
    found.subjects.append((prediction.key_id, token) if any(token) else own)


def _learnable(outcomes: Sequence[Outcome], model: Model) -> Any:
    """The truth of a row, as a place of its class or states of its labels; None where it cannot be learned from."""
    if all(outcome.ascertainment == "action" for outcome in outcomes):
        return None
    outcome = in_force(outcomes)
    truth = None if outcome is None else orjson.loads(outcome.truth)
    if isinstance(truth, str) and truth in model.classes:
        return model.classes.index(truth)
    if isinstance(truth, dict):
        states = [truth.get(label) for label in model.classes]
        return None if None in states else states
    return None


def _refuse_acted_upon(found: _Found) -> None:
    if not found.rows:
        raise RefitRefused(ACTED_UPON if found.acted else "no answer of this version and window has an outcome")
    with_action = {action for action in found.observed if action is not None}
    others = sum(count for action, count in found.answered.items() if action is not None and action not in with_action)
    if len(with_action) == 1 and others >= OTHERS:
        raise RefitRefused(f"all outcomes are of answers with the action {next(iter(with_action))!r}: {ACTED_UPON}")


def _joined(found: _Found, model: Model) -> LabelledAnswers:
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(found.subjects))}
    logits = np.concatenate(found.logits).astype(np.float64)
    labels = np.array(found.truths, dtype=np.intp)
    complete = {name: parts for name, parts in found.scores.items() if sum(map(len, parts)) == len(logits)}
    digest = hashlib.sha256(orjson.dumps([found.rows, labels.tolist()]))
    digest.update(np.ascontiguousarray(logits, dtype="<f8").tobytes())
    return LabelledAnswers(
        logits.reshape(len(found.rows), len(model.classes)),
        labels,
        None if len(numbers) == len(found.rows) else np.array([numbers[subject] for subject in found.subjects]),
        {name: np.concatenate(parts) for name, parts in complete.items()},
        min(found.created),
        max(found.created),
        f"sha256:{digest.hexdigest()}",
    )
