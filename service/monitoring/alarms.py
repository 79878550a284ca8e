"""A look at the outcomes that have arrived: tests go on, and alarms are raised, once.

Only `routine` and `audit` outcomes enter, the first of every prediction in order of arrival; what corrects it later
changes nothing. A subject counts once for a version. What a shadow answered is left out, and so is what was never
delivered. Of two processes that look at the same time, one keeps its look.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

import numpy as np
import orjson

from service.bundle.repository import Bundle
from service.core.numerics import Array, Indices
from service.monitoring.alarm_rows import AnsweredRow, Picked, RecordedRows
from service.monitoring.alarm_state import Progress, Raised, Seen
from service.monitoring.alarm_tests import VersionTest, tests_of
from service.store.engine import Store
from service.store.entries import TOKEN_BYTES, Event, Outcome, Prediction, Write

MOST_OUTCOMES: Final = 500
"""Of one look at a version; what is left is for the next."""

ENTERING: Final = ("routine", "audit")


class RowReader(Protocol):
    """Reads records of a version back."""

    def rows(self, store: Store, picked: Sequence[Picked]) -> Sequence[AnsweredRow | None]:
        """What was answered of rows, in order; None of a row that cannot enter."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A version that is looked at.

    Attributes
    ----------
    model : str
    version : int
    digest : str
    classes : tuple of str
    tests : list of VersionTest
    reader : RowReader
    """

    model: str
    version: int
    digest: str
    classes: tuple[str, ...]
    tests: list[VersionTest]
    reader: RowReader

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """A published version; without tests, there is nothing to look at."""
        reader, classes = RecordedRows(bundle), bundle.manifest.graph.classes
        return cls(bundle.name, bundle.version or 0, bundle.digest or "", classes, tests_of(bundle), reader)

    @property
    def state_name(self) -> str:
        """Under which its progress is kept."""
        return f"alarms:{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class Entered:
    """A row whose outcome enters the tests."""

    answered: AnsweredRow
    labels: tuple[int, ...]

    def is_for(self, test: VersionTest) -> bool:
        """Whether the row is one of those that a test is about."""
        if test.site not in {None, self.answered.site}:
            return False
        if test.test.needs == "scores":
            return test.name.partition(":")[2] in self.answered.scores
        return self.labels[test.part] >= 0


def look(store: Store, watched: Watched, *, most: int = MOST_OUTCOMES) -> Progress | None:
    """Follow the tests over outcomes that have arrived since the last look, and keep where they are.

    Parameters
    ----------
    store : Store
    watched : Watched
    most : int
        Outcomes, at most.

    Returns
    -------
    Progress or None
        None where another process looked meanwhile: its look counts.

    Raises
    ------
    StoreUnavailable, StoreDamaged
    """
    before = store.state(watched.state_name)
    progress = Progress.read(before, watched.digest, watched.tests)
    outcomes = store.outcomes_after(progress.arrival, model=watched.model, most=most)
    if not outcomes:
        return progress
    seen = Seen(progress.seen)
    picked = list(_picked(store, watched, outcomes, seen))
    answered = watched.reader.rows(store, picked)
    rows = [Entered(row, pick.labels) for row, pick in zip(answered, picked, strict=True) if row is not None]
    for test in watched.tests:
        progress = _followed(progress, test, rows)
    progress = replace(progress, arrival=outcomes[-1].arrival, seen=seen.content)
    return progress if store.keep_state(watched.state_name, progress.text(), expected=before) else None


def record_alarms(store: Store, watched: Watched, progress: Progress, *, now: int) -> list[Raised]:
    """Write an event of every alarm that has none, and return those; one process at a time may call it.

    An alarm is kept with the progress first, and its event is made of that: one is never lost to a process that ends
    between the two.

    Parameters
    ----------
    store : Store
        Opened with a signer.
    watched : Watched
    progress : Progress
    now : int
        Microseconds since 1970.
    """
    if not progress.raised:
        return []
    details = [orjson.loads(event.detail) for event in store.events(kind="alarm")]
    known = {detail["test"] for detail in details if _is_of(detail, watched.model, watched.version)}
    new = [raised for raised in progress.raised if raised.test not in known]
    if new:
        store.write([Write(events=[_event(watched, raised, now) for raised in new])])
    return new


def acknowledge(store: Store, model: str, version: int, *, by: str, reason: str | None, now: int) -> bool:
    """Write that the alarms of a version are known; whether there were any that were not.

    Parameters
    ----------
    store : Store
        Opened with a signer.
    model : str
    version : int
    by : str
        Who acknowledges.
    reason : str or None
    now : int
        Microseconds since 1970.
    """
    active = [alarm for alarm in alarms_of(store, model=model) if alarm.version == version and not alarm.acknowledged]
    if not active:
        return False
    tests = [alarm.test for alarm in active]
    detail = {"model": model, "version": version, "tests": tests, "by": by, "reason": reason}
    store.write([Write(events=[Event(now, "acknowledged", orjson.dumps(detail).decode())])])
    return True


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as it is shown.

    Attributes
    ----------
    model : str
        Name of the model.
    version : int
        That it is of.
    test : str
        Which test raised it.
    outcomes : int
        After how many outcomes.
    raised : int
        Microseconds since 1970.
    acknowledged : bool
        Once that, it stays so for this test of this version.
    """

    model: str
    version: int
    test: str
    outcomes: int
    raised: int
    acknowledged: bool


def alarms_of(store: Store, *, model: str | None = None) -> list[Alarm]:
    """All alarms ever raised, in order of time; of a model."""
    known: set[tuple[str, int, str]] = set()
    for event in store.events(kind="acknowledged"):
        detail = orjson.loads(event.detail)
        known |= {(detail["model"], detail["version"], test) for test in detail["tests"]}
    details = ((event.created, orjson.loads(event.detail)) for event in store.events(kind="alarm"))
    return [
        Alarm(d["model"], d["version"], d["test"], d["outcomes"], at, (d["model"], d["version"], d["test"]) in known)
        for at, d in details
        if model is None or d["model"] == model
    ]


@dataclass(frozen=True, slots=True)
class CurrentEvidence:
    """How far a test of a version is.

    Attributes
    ----------
    model : str
        Name of the model.
    version : int
        That it is of.
    test : str
        Key of the test.
    outcomes : int
        That have entered the test.
    share : float
        Logarithm of the evidence, divided by that of what raises the alarm: 0 at the beginning, an alarm from 1 on.
    """

    model: str
    version: int
    test: str
    outcomes: int
    share: float


def evidence_of(store: Store, watched: Watched) -> list[CurrentEvidence]:
    """The evidence of every test of a version, as of the last look.

    Parameters
    ----------
    store : Store
    watched : Watched

    Raises
    ------
    StoreUnavailable
    """
    progress = Progress.read(store.state(watched.state_name), watched.digest, watched.tests)
    states = [(test, progress.states[test.key].evidence) for test in watched.tests]
    return [
        CurrentEvidence(
            watched.model, watched.version, test.key, evidence.rows, float(evidence.log_value) / test.log_threshold
        )
        for test, evidence in states
    ]


def _is_of(detail: Mapping[str, object], model: str, version: int) -> bool:
    return detail["model"] == model and detail["version"] == version


def _event(watched: Watched, raised: Raised, now: int) -> Event:
    detail = {
        "model": watched.model,
        "version": watched.version,
        "test": raised.test,
        "outcomes": raised.outcomes,
        "log_evidence": raised.log_evidence,
    }
    return Event(now, "alarm", orjson.dumps(detail).decode())


def _followed(progress: Progress, test: VersionTest, rows: Sequence[Entered]) -> Progress:
    own = [row for row in rows if row.is_for(test)]
    if not own:
        return progress
    before = progress.states[test.key]
    state, log_values = test.test.follow(before, _values(test, own), _labels(test, own))
    over = np.flatnonzero(log_values >= test.log_threshold)
    if not len(over):
        return progress.followed(test.key, state, None)
    at = int(over[0])
    return progress.followed(test.key, state, Raised(test.key, before.evidence.rows + at + 1, float(log_values[at])))


def _values(test: VersionTest, rows: Sequence[Entered]) -> Array:
    if test.test.needs == "probabilities":
        return np.stack([row.answered.log_probs[test.part] for row in rows])
    name = test.name.partition(":")[2]
    return np.array([row.answered.scores[name] for row in rows])


def _labels(test: VersionTest, rows: Sequence[Entered]) -> Indices:
    if test.test.needs == "scores":
        return np.zeros(len(rows), dtype=np.intp)
    return np.array([row.labels[test.part] for row in rows], dtype=np.intp)


def _picked(store: Store, watched: Watched, outcomes: Sequence[Outcome], seen: Seen) -> Iterator[Picked]:
    first = {(o.request_id, o.row): o.arrival for o in reversed(_entering(store, outcomes))}
    records = store.predictions_of({outcome.request_id for outcome in outcomes})
    contexts = store.contexts(model=watched.model, version=watched.version)
    undelivered = _undelivered(store, records.values())
    for outcome in outcomes:
        record = records.get(outcome.request_id)
        context = None if record is None else contexts.get(record.context)
        if record is None or context is None or first.get((outcome.request_id, outcome.row)) != outcome.arrival:
            continue
        if record.shadow_of is not None or record.request_id in undelivered or not _is_new(record, outcome.row, seen):
            continue
        yield Picked(record, context, outcome.row, labels_of(orjson.loads(outcome.truth), watched.classes))


def _entering(store: Store, outcomes: Sequence[Outcome]) -> list[Outcome]:
    found = store.outcomes_of({outcome.request_id for outcome in outcomes})
    return sorted((o for o in found if o.ascertainment in ENTERING), key=lambda outcome: outcome.arrival)


def _undelivered(store: Store, records: Iterable[Prediction]) -> set[str]:
    since = min((record.created for record in records), default=0)
    return {
        str(orjson.loads(event.detail).get("request_id")) for event in store.events(kind="undelivered", since=since)
    }


def _is_new(record: Prediction, row: int, seen: Seen) -> bool:
    token = b"" if record.subjects is None else record.subjects[row * TOKEN_BYTES : (row + 1) * TOKEN_BYTES]
    return not any(token) or seen.add(token)


def labels_of(truth: Any, classes: tuple[str, ...]) -> tuple[int, ...]:
    """Places of the true classes by part, as `Picked` has them; of a sequence, none.

    Examples
    --------
    >>> labels_of("b", ("a", "b")), labels_of({"a": 1, "b": None}, ("a", "b")), labels_of(["a", "b"], ("a", "b"))
    ((1,), (1, -1), ())
    """
    if isinstance(truth, str):
        return (classes.index(truth),)
    if not isinstance(truth, dict):
        return ()
    return tuple(-1 if truth.get(name) is None else int(truth[name]) for name in classes)
