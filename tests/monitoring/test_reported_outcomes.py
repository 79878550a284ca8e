import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uuid_utils

from service.monitoring.reported_outcomes import Report, Reporter, receive
from service.record_errors import StoreDamaged
from service.store.engine import Store, open_store
from service.store.entries import Write
from tests.recorded_answers import recorded_answer
from tests.store.kept import FixedSigner, kept

NOW = 1_767_225_600_000_000
DAY = 86_400_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite://{tmp_path}/audit.db", signer=FixedSigner())


def report(request_id: str, outcome: object, *, row: int = 0, **values: Any) -> Report:
    given = {"observed_at": NOW, "source": None, "ascertainment": "routine", **values}
    return Report(request_id, row, outcome, **given)


def reporter(now: int = NOW, *models: str) -> Reporter:
    return Reporter("key:registry", now, lambda model: not models or model in models)


def keep(store: Store, *reports: Report, now: int = NOW) -> list[str]:
    """Statuses of reports that are received and kept."""
    received = receive(store, reports, reporter(now))
    store.write([Write(outcomes=received.outcomes)])
    return list(received.statuses)


@pytest.fixture
def answered(store: Store) -> str:
    request_id, write = kept(["no", "yes"], rows=2)
    store.write([write])
    return request_id


def test_an_outcome_of_an_answered_row_is_accepted_and_kept_as_it_was_reported(store, answered):
    reports = [report(answered, "yes", row=1, source="pathology", ascertainment="audit", observed_at=NOW - DAY)]
    assert keep(store, *reports) == ["accepted"]
    (outcome,) = store.outcomes_of([answered])
    assert (outcome.row, outcome.truth, outcome.caller) == (1, '"yes"', "key:registry")
    assert (outcome.observed_at, outcome.received) == (NOW - DAY, NOW)
    assert (outcome.source, outcome.ascertainment, outcome.contradicts) == ("pathology", "audit", False)


def test_a_repeated_report_is_kept_once_whether_in_one_request_or_in_two(store, answered):
    same = report(answered, "yes")
    assert keep(store, same, same) == ["accepted", "repeated"]
    assert keep(store, same, now=NOW + DAY) == ["repeated"]
    assert len(store.outcomes_of([answered])) == 1


def test_a_report_without_a_time_repeats_the_outcome_in_force_and_no_earlier_one(store, answered):
    untimed = report(answered, "yes", observed_at=None)
    assert keep(store, untimed) == ["accepted"]
    assert keep(store, untimed, now=NOW + DAY) == ["repeated"]
    assert keep(store, report(answered, "no", observed_at=None), now=NOW + DAY) == ["contradicting"]
    assert keep(store, untimed, now=NOW + 2 * DAY) == ["contradicting"]
    assert [one.truth for one in store.outcomes_of([answered])] == ['"yes"', '"no"', '"yes"']


@pytest.mark.parametrize("change", [{"observed_at": NOW - DAY}, {"source": "registry"}, {"ascertainment": "audit"}])
def test_a_confirmation_at_another_time_or_of_another_source_or_kind_is_kept(store, answered, change):
    assert keep(store, report(answered, "yes"), report(answered, "yes", **change)) == ["accepted", "accepted"]


def test_contradicting_outcomes_are_all_kept_and_say_so(store, answered):
    assert keep(store, report(answered, "yes"), report(answered, "no", observed_at=NOW - DAY)) == [
        "accepted",
        "contradicting",
    ]
    assert [one.contradicts for one in store.outcomes_of([answered])] == [False, True]


def test_what_was_not_known_before_contradicts_nothing(store):
    request_id, write = kept(["edema", "effusion"], task="multilabel")
    store.write([write])
    reports = [{"edema": 1}, {"effusion": 0}, {"edema": 0, "effusion": 0}]
    statuses = keep(store, *(report(request_id, one) for one in reports))
    assert statuses == ["accepted", "accepted", "contradicting"]


def test_rows_that_were_not_answered_are_unknown(store, answered):
    other = str(uuid_utils.uuid7())
    assert keep(store, report(other, "yes"), report(answered, "yes", row=2)) == ["unknown", "unknown"]


def test_predictions_of_a_model_that_the_caller_may_not_use_are_unknown(store, answered):
    reports = [report(answered, "yes"), report(answered, "no such class")]
    assert receive(store, reports, reporter(NOW, "another")).statuses == ["unknown", "unknown"]
    assert receive(store, reports, reporter(NOW, "breast-cancer")).statuses == ["accepted", "not-a-class"]


def test_what_a_shadow_answered_and_what_evaluations_computed_is_unknown(store):
    shadow, write = kept(["no", "yes"])
    store.write([replace(write, predictions=[replace(write.predictions[0], shadow_of=str(uuid_utils.uuid7()))])])
    evaluation, write = kept(["no", "yes"], schema=None)
    store.write([write])
    assert keep(store, report(shadow, "yes"), report(evaluation, "yes")) == ["unknown", "unknown"]


def test_an_outcome_is_checked_against_the_classes_of_its_own_version(store):
    retired, old = kept(["no", "yes"], version=1)
    present, new = kept(["no", "unclear", "yes"], version=2)
    store.write([old, new])
    statuses = keep(store, report(retired, "unclear"), report(present, "unclear"))
    assert statuses == ["not-a-class", "accepted"]


def test_an_outcome_of_a_sequence_has_a_class_for_each_of_its_own_positions(store, every_task):
    request_id, write, answer = recorded_answer(every_task, "motion")
    store.write([write])
    assert answer.posterior.lengths is not None
    classes, lengths = answer.model.classes, answer.posterior.lengths.tolist()
    for row, length in enumerate(lengths[:4]):
        one, short = report(request_id, [classes[0]] * length, row=row), [classes[0]] * (length + 1)
        assert keep(store, report(request_id, short, row=row), one) == ["not-a-class", "accepted"]


def test_a_record_without_its_basis_is_damage_and_no_finding(store, answered, tmp_path):
    with closing(sqlite3.connect(tmp_path / "audit.db")) as file, file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {name}")
        file.execute("DELETE FROM documents")
    with pytest.raises(StoreDamaged):
        receive(store, [report(answered, "yes")], reporter())


def test_every_status_is_counted(store, answered):
    received = receive(store, [report(answered, "yes"), report(answered, "yes"), report(answered, "?")], reporter())
    assert received.counts == {"accepted": 1, "repeated": 1, "contradicting": 0, "unknown": 0, "not-a-class": 1}
