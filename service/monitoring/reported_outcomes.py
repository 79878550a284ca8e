"""Outcomes that callers report: found to be new, repeated, contradicting, unknown or impossible, one by one.

Late, repeated and contradicting reports are normal: what was reported is kept as it arrived, and never corrected.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import orjson

from service.core.numerics import Indices
from service.monitoring.truth import Truths, contradicts, in_force
from service.prediction.record_reader import read_records
from service.record_errors import StoreDamaged
from service.store.engine import Store
from service.store.entries import Ascertainment, Context, Origin, Outcome

Status = Literal["accepted", "repeated", "contradicting", "unknown", "not-a-class"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
MOST_REPORTS: Final = 10_000
"""That are received together."""

Place = tuple[str, int]  # request id and row


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported of one answered row.

    Attributes
    ----------
    request_id : str
    row : int
    outcome : object
        As parsed from JSON; `Truths.read` takes it.
    observed_at : int or None
        Microseconds since 1970; None where it was not stated, which means now.
    source : str or None
    ascertainment : str
    """

    request_id: str
    row: int
    outcome: object
    observed_at: int | None
    source: str | None
    ascertainment: Ascertainment

    @property
    def prediction_id(self) -> str:
        """Of the row."""
        return f"{self.request_id}.{self.row}"


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports, and when.

    Attributes
    ----------
    name : str
        Of the caller.
    now : int
        Microseconds since 1970.
    may_use : callable
        Whether it may know of the model of a name; predictions of others are unknown to it.
    untyped : bool
        Whether what it reports comes from a file, where lists and objects may be JSON in a text.
    """

    name: str
    now: int
    may_use: Callable[[str], bool]
    untyped: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """What became of reports.

    Attributes
    ----------
    statuses : list of str
        One of each report.
    outcomes : list of Outcome
        To be kept: of those that are accepted or contradicting.
    """

    statuses: list[Status]
    outcomes: list[Outcome]

    @property
    def counts(self) -> dict[Status, int]:
        """Reports by their status, all of them."""
        found = Counter(self.statuses)
        return {status: found[status] for status in STATUSES}


def receive(store: Store, reports: Sequence[Report], reporter: Reporter) -> Received:
    """What becomes of reports; nothing is written.

    Parameters
    ----------
    store : Store
    reports : sequence of Report
    reporter : Reporter

    Raises
    ------
    StoreUnavailable, StoreDamaged
    """
    subjects = _Subjects(store, (report.request_id for report in reports), reporter.may_use)
    known: dict[Place, list[Outcome]] = {}
    for outcome in store.outcomes_of(subjects.origins):
        known.setdefault((outcome.request_id, outcome.row), []).append(outcome)
    received = Received([], [])
    for report in reports:
        earlier = known.setdefault((report.request_id, report.row), [])
        status, found = _settled(report, subjects, earlier, reporter)
        received.statuses.append(status)
        earlier += found
        received.outcomes.extend(found)
    return received


class _Subjects:
    """The predictions that are reported about."""

    def __init__(self, store: Store, request_ids: Iterable[str], may_use: Callable[[str], bool]) -> None:
        self._store = store
        self._contexts: dict[bytes, Context] = {}
        self._truths: dict[bytes, Truths] = {}
        self._lengths: dict[str, Indices | None] = {}
        origins = store.origins_of(dict.fromkeys(request_ids))
        self.origins = {name: origin for name, origin in origins.items() if self._is_for(origin, may_use)}

    def origin(self, report: Report) -> Origin | None:
        """The record of the row; None where there is no such row."""
        origin = self.origins.get(report.request_id)
        return None if origin is None or report.row >= origin.rows else origin

    def truths(self, origin: Origin) -> Truths:
        """What can be true of its rows."""
        truths = self._truths.get(origin.context)
        if truths is None:
            context = self._context(origin)
            document = self._store.document(context.basis)
            if document is None:
                raise StoreDamaged("a record lacks its basis; `temperance audit verify` shows where")
            truths = self._truths[origin.context] = Truths.of(context.task, orjson.loads(document.content)["classes"])
        return truths

    def positions(self, origin: Origin, row: int) -> int | None:
        """Of sequences: positions of a row, which its columns alone know; None where they do not."""
        if origin.request_id not in self._lengths:
            self._lengths[origin.request_id] = self._lengths_of(origin)
        lengths = self._lengths[origin.request_id]
        return None if lengths is None else int(lengths[row])

    def _lengths_of(self, origin: Origin) -> Indices | None:
        prediction, digest = self._store.prediction(origin.request_id), self._context(origin).schema
        schema = None if digest is None else self._store.document(digest)
        if prediction is None or schema is None:
            raise StoreDamaged("a record lacks its schema; `temperance audit verify` shows where")
        return read_records([prediction], schema).lengths

    def _is_for(self, origin: Origin, may_use: Callable[[str], bool]) -> bool:
        # What a shadow answered was never returned, and an evaluation answers no rows.
        context = self._context(origin)
        return origin.shadow_of is None and context.schema is not None and may_use(context.model)

    def _context(self, origin: Origin) -> Context:
        context = self._contexts.get(origin.context) or self._store.context(origin.context)
        if context is None:
            raise StoreDamaged("a record lacks its context; `temperance audit verify` shows where")
        self._contexts[origin.context] = context
        return context


def _settled(
    report: Report, subjects: _Subjects, earlier: Sequence[Outcome], reporter: Reporter
) -> tuple[Status, list[Outcome]]:
    origin = subjects.origin(report)
    if origin is None:
        return "unknown", []
    truths = subjects.truths(origin)
    positions = subjects.positions(origin, report.row) if truths.task == "sequence" else None
    truth = truths.read(report.outcome, positions=positions, untyped=reporter.untyped)
    if truth is None:
        return "not-a-class", []
    outcome = _outcome(report, truth, reporter)
    if _is_repeated(report, outcome, earlier):
        return "repeated", []
    if any(contradicts(truth, other.truth) for other in earlier):
        return "contradicting", [replace(outcome, contradicts=True)]
    return "accepted", [outcome]


def _outcome(report: Report, truth: str, reporter: Reporter) -> Outcome:
    observed_at = reporter.now if report.observed_at is None else report.observed_at
    return Outcome(
        request_id=report.request_id,
        row=report.row,
        truth=truth,
        observed_at=observed_at,
        received=reporter.now,
        source=report.source,
        ascertainment=report.ascertainment,
        caller=reporter.name,
    )


def _is_repeated(report: Report, outcome: Outcome, earlier: Sequence[Outcome]) -> bool:
    """Whether it adds nothing: it is there with the same time or, where none is stated, in force."""
    if report.observed_at is None:
        last = in_force(earlier)
        return last is not None and _content(last) == _content(outcome)
    same = (one for one in earlier if one.observed_at == outcome.observed_at)
    return any(_content(one) == _content(outcome) for one in same)


def _content(outcome: Outcome) -> tuple[str, str | None, str]:
    return outcome.truth, outcome.source, outcome.ascertainment
