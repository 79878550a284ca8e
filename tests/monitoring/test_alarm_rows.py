from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from service.api.v1.verbs import VERBS
from service.monitoring.alarm_rows import Picked, RecordedRows
from service.monitoring.alarm_tests import tests_of as alarm_tests_of
from service.monitoring.alarms import Watched, look
from service.prediction.answer import Part
from service.prediction.record_reader import Recorded
from service.runtime.registry import Registry
from service.store.engine import Store, open_store
from service.store.entries import Outcome, Prediction, Write
from tests.every_task import CASES, ROWS, Case, answer_of, rows_of
from tests.prediction.test_records import ORIGIN, TOKENS, joint_of, plan_of, read
from tests.store.kept import FixedSigner

LETTERS = [case for case in CASES if case.model == "letters"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/audit.db", signer=FixedSigner())
    yield opened
    opened.close()


def kept_answer(store: Store, case: Case, registry: Registry) -> tuple[Prediction, Recorded, RecordedRows]:
    query = case.query(registry)
    rows = rows_of(query.model)
    answer = answer_of(query, rows)
    joint = joint_of(query, answer, [Part("request", ROWS, case.ids)], [rows])
    content = plan_of(query, case.verb).contents(joint, TOKENS)[0]
    record = content.prediction(ORIGIN)
    store.write([Write([record], [content.recording.context], content.recording.documents)])
    return record, read(content), RecordedRows(query.model.bundle)


@pytest.mark.parametrize("case", LETTERS, ids=str)
def test_rows_are_read_back_as_they_were_answered(case: Case, every_task: Registry, store: Store) -> None:
    record, recorded, reader = kept_answer(store, case, every_task)
    context = store.context(record.context)
    assert context is not None
    picked = [Picked(record, context, row, (0,)) for row in (3, 0, 11)]
    found = reader.rows(store, picked)
    for pick, row in zip(picked, found, strict=True):
        assert row is not None
        assert np.exp(row.log_probs).sum() == pytest.approx(1.0)
        for name, score in row.scores.items():
            assert score == recorded.values(f"ood.scores.{name}.score")[pick.row]
        if "probabilities" in VERBS[case.verb].topics:
            assert np.exp(row.log_probs[0]) == pytest.approx(recorded.values("probabilities")[pick.row], abs=1e-6)


def test_the_site_of_a_row_is_read_back(every_task: Registry, store: Store) -> None:
    sites = {case.options["site"] for case in LETTERS if isinstance(case.options.get("site"), str)}
    case = next(case for case in LETTERS if isinstance(case.options.get("site"), str))
    record, _, reader = kept_answer(store, case, every_task)
    context = store.context(record.context)
    assert context is not None
    (row,) = reader.rows(store, [Picked(record, context, 0, (0,))])
    assert row is not None
    assert row.site in sites


@pytest.mark.parametrize("case", [case for case in CASES if case.model == "complaints" and not case.ids], ids=str)
def test_labels_are_read_back_as_they_were_answered(case: Case, every_task: Registry, store: Store) -> None:
    record, recorded, reader = kept_answer(store, case, every_task)
    context = store.context(record.context)
    assert context is not None
    (row,) = reader.rows(store, [Picked(record, context, 5, (1, 0))])
    assert row is not None
    assert np.exp(row.log_probs).sum(axis=1) == pytest.approx(1.0)
    if "probabilities" in recorded:
        assert np.exp(row.log_probs[:, 1]) == pytest.approx(recorded.values("probabilities")[5], abs=1e-6)


@pytest.mark.parametrize("name", ["letters", "complaints", "motion"])
def test_every_task_has_tests_that_spend_no_more_than_there_is(name: str, every_task: Registry) -> None:
    tests = alarm_tests_of(every_task.model(name).bundle)
    assert 0.5 <= sum(test.share for test in tests) <= 1.0 + 1e-9
    assert len({test.key for test in tests}) == len(tests)


@pytest.mark.parametrize("name", ["complaints", "motion"])
def test_outcomes_of_several_labels_are_followed(name: str, every_task: Registry, store: Store) -> None:
    record, _, reader = kept_answer(store, Case(name, "predict"), every_task)
    watched = Watched.of(reader.bundle)
    truth = {"complaints": dict.fromkeys(watched.classes, 1), "motion": [watched.classes[0]]}[name]
    text = orjson.dumps(truth).decode()
    outcomes = [Outcome(record.request_id, row, text, 1, 1, None, "routine", "key:ward") for row in range(ROWS)]
    store.write([Write(outcomes=outcomes)])
    progress = look(store, watched)
    assert progress is not None
    assert {state.evidence.rows for state in progress.states.values()} <= {0, ROWS}
    assert any(state.evidence.rows == ROWS for state in progress.states.values())
