"""Records of every task in a real store, read back beside their outcomes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import uuid_utils

from service.api.v1.verbs import VERBS
from service.core.sequence import lengths_of
from service.monitoring.answered_blocks import read_blocks
from service.monitoring.observations import ACTION, UNKNOWN
from service.monitoring.observed import observations, observe
from service.monitoring.performance import performance
from service.monitoring.performance_query import report_performance
from service.monitoring.window import Window
from service.prediction.answer import Answer, Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.query import Query
from service.prediction.records import Origin, RecordPlan
from service.prediction.timings import Timings
from service.runtime.registry import Registry
from service.store.engine import Store, open_store
from service.store.entries import Event, Outcome, Write
from tests.every_task import CASES, ROWS, Case, answer_of, rows_of
from tests.recorded_answers import TOKENS
from tests.store.kept import FixedSigner

BEGUN = 1_767_225_600_000_000
HOUR = 3_600_000_000
DECIDED = {str(case): case for case in CASES if case.verb == "decide"}
SIMPLE = ["letters-decide", "complaints-decide", "motion-decide"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite://{tmp_path}/audit.db", signer=FixedSigner())
    yield opened
    opened.close()


def recorded(
    store: Store,
    case: Case,
    registry: Registry,
    *,
    created: int = BEGUN,
    caller: str = "key:ward",
    shadow_of: str | None = None,
    subjects: list[str] | None = None,
) -> tuple[str, Query, Answer]:
    """Answers a request and keeps its record."""
    query = case.query(registry)
    rows = rows_of(query.model)
    answer = answer_of(query, rows)
    part = Part("request", ROWS, case.ids, subjects=subjects)
    joint = JointAnswer(query, answer, [part], [0.0], Timings(0.0, 0.0, 0.0), [rows])
    shadow = None if shadow_of is None else 1
    plan = RecordPlan(query, verb=case.verb, topics=VERBS[case.verb].topics, software="{}", shadow_of=shadow)
    content = plan.contents(joint, TOKENS)[0]
    request_id = str(uuid_utils.uuid7())
    prediction = content.prediction(Origin(request_id, created, caller, None, None, 7), shadow_of=shadow_of)
    recording = content.recording
    store.write([Write(predictions=[prediction], contexts=[recording.context], documents=recording.documents)])
    return request_id, query, answer


def truth_of(query: Query, answer: Answer, row: int) -> Any:
    """Something that can be true of a row."""
    classes = query.model.classes
    if query.model.task == "multilabel":
        return {label: (row + m) % 2 for m, label in enumerate(classes)}
    if query.model.task == "sequence":
        length = int(lengths_of(answer.posterior)[row])
        return [None if i == 0 else classes[(row + i) % len(classes)] for i in range(length)]
    return classes[row % len(classes)]


def known(
    store: Store, request_id: str, row: int, truth: Any, *, why: Any = "routine", at: int = BEGUN + HOUR, **more: Any
) -> None:
    given = {"source": None, "caller": "key:registry", **more}
    text = orjson.dumps(truth).decode()
    store.write([Write(outcomes=[Outcome(request_id, row, text, at, at + HOUR, ascertainment=why, **given)])])


@pytest.mark.parametrize("name", SIMPLE)
def test_predictions_and_truths_are_those_that_were_answered_and_reported(store, every_task, name):
    request_id, query, answer = recorded(store, DECIDED[name], every_task)
    truths = [truth_of(query, answer, row) for row in range(ROWS)]
    for row in range(0, ROWS, 2):
        known(store, request_id, row, truths[row])
    found, _ = observe(store, query.model.name, Window())
    assert len(found.rows) == ROWS
    assert found.rows.known.tolist() == [row % 2 == 0 for row in range(ROWS)]
    checks = {"multiclass": check_rows, "multilabel": check_labels, "sequence": check_positions}
    checks[query.model.task](found.parts, answer, query.model.classes, truths)


def check_rows(parts, answer, classes, truths):
    (part,) = parts.values()
    np.testing.assert_allclose(np.exp(part.log_probs), np.exp(answer.log_probs))
    expected = [classes.index(truth) if row % 2 == 0 else UNKNOWN for row, truth in enumerate(truths)]
    assert part.labels.tolist() == expected


def check_labels(parts, answer, classes, truths):
    for m, label in enumerate(classes):
        np.testing.assert_allclose(np.exp(parts[label].log_probs[:, 1]), np.exp(answer.log_probs[:, m, 1]))
        expected = [truth[label] if row % 2 == 0 else UNKNOWN for row, truth in enumerate(truths)]
        assert parts[label].labels.tolist() == expected


def check_positions(parts, answer, classes, truths):
    (part,) = parts.values()
    flat = [None if row % 2 else state for row, truth in enumerate(truths) for state in truth]
    assert part.labels.tolist() == [UNKNOWN if state is None else classes.index(state) for state in flat]
    assert part.row.tolist() == np.repeat(np.arange(ROWS), answer.posterior.lengths).tolist()


@pytest.mark.parametrize("name", DECIDED)
def test_every_kind_of_decision_is_reported(store, every_task, name):
    request_id, query, answer = recorded(store, DECIDED[name], every_task)
    for row in range(ROWS):
        known(store, request_id, row, truth_of(query, answer, row))
    found, _ = observe(store, query.model.name, Window())
    report = performance(found, Window(), group_by="policy").as_json()
    assert report["answered"]["with_outcome"] == ROWS
    assert orjson.dumps(report)
    assert all(part["rows"] > 0 for part in report["parts"].values())


def test_decided_actions_and_costs_are_those_of_the_answer(store, every_task):
    _, query, answer = recorded(store, DECIDED["letters-decide"], every_task)
    found, _ = observe(store, query.model.name, Window())
    (own,) = found.parts["rows"].decided
    (policy,) = query.stages.chosen
    assert own.policy.actions == policy.actions
    np.testing.assert_array_equal(own.policy.cost, policy.cost)
    np.testing.assert_array_equal(own.action, answer.decided[0].decisions.action)


def test_decisions_by_row_keep_the_policy_of_each_row(store, every_task):
    case = next(case for case in DECIDED.values() if str(case).startswith("letters-decide-policy-by row"))
    _, query, _ = recorded(store, case, every_task)
    found, _ = observe(store, query.model.name, Window())
    decided = found.parts["rows"].decided
    assert len(decided) == 2
    assert sorted(np.concatenate([own.places for own in decided]).tolist()) == list(range(ROWS))
    assert all((own.action >= 0).all() and own.action.max() < len(own.policy.actions) for own in decided)


def test_the_latest_observation_is_in_force_and_a_routine_outcome_wins_over_one_by_the_action(store, every_task):
    request_id, query, _ = recorded(store, DECIDED["letters-decide"], every_task)
    known(store, request_id, 0, "a", why="action")
    known(store, request_id, 0, "d", why="routine", at=BEGUN + 3 * HOUR, contradicts=True)
    known(store, request_id, 1, "a", why="action")
    found, _ = observe(store, query.model.name, Window())
    assert found.parts["rows"].labels[:3].tolist() == [query.model.classes.index("d"), 0, UNKNOWN]
    assert found.rows.ascertainment[:3].tolist() == [0, ACTION, UNKNOWN]
    assert found.rows.contradictions[:2].tolist() == [1, 0]
    assert found.rows.observed[0] == BEGUN + 3 * HOUR


def test_undelivered_answers_are_left_out_and_counted(store, every_task):
    request_id, query, _ = recorded(store, DECIDED["letters-decide"], every_task)
    recorded(store, DECIDED["letters-decide"], every_task)
    store.write([Write(events=[Event(BEGUN, "undelivered", orjson.dumps({"request_id": request_id}).decode())])])
    found, _ = observe(store, query.model.name, Window())
    assert (len(found.rows), found.left_out["undelivered"]) == (ROWS, ROWS)


def test_a_subject_is_one_draw_over_all_its_requests(store, every_task):
    for subjects in (["anna", "ben"] * (ROWS // 2), ["ben"] * ROWS, None):
        _, query, _ = recorded(store, DECIDED["letters-decide"], every_task, subjects=subjects)
    found, _ = observe(store, query.model.name, Window())
    assert len(np.unique(found.rows.subject)) == 2 + ROWS


def test_a_window_selects_by_time_caller_and_site(store, every_task):
    recorded(store, DECIDED["letters-decide"], every_task)
    recorded(store, DECIDED["letters-decide-site"], every_task, created=BEGUN + 48 * HOUR, caller="key:other")
    model = DECIDED["letters-decide"].query(every_task).model.name
    sizes = [
        len(observe(store, model, window)[0].rows)
        for window in (
            Window(),
            Window(since="2026-01-02"),
            Window(until="2026-01-02T00:00:00Z"),
            Window(caller="key:other"),
            Window(site="north"),
            Window(site="south"),
            Window(version=1),
            Window(version=2),
        )
    ]
    assert sizes == [2 * ROWS, ROWS, ROWS, ROWS, ROWS, 0, 2 * ROWS, 0]


def test_sites_by_row_are_selected_by_row(store, every_task):
    case = next(case for case in DECIDED.values() if str(case) == "letters-decide-site-by row")
    _, query, answer = recorded(store, case, every_task)
    found, _ = observe(store, query.model.name, Window(site="north"))
    everything, _ = observe(store, query.model.name, Window())
    own = [site == "north" for site in everything.rows.keys["site"]]
    assert 0 < len(found.rows) == sum(own) < ROWS
    np.testing.assert_allclose(np.exp(found.parts["rows"].log_probs), np.exp(answer.log_probs[own]))


@pytest.mark.parametrize("name", SIMPLE)
def test_a_shadow_is_compared_on_the_same_rows_and_counts_nowhere_else(store, every_task, name):
    requests = [recorded(store, DECIDED[name], every_task) for _ in range(2)]
    for request_id, query, answer in requests:
        for row in range(ROWS):
            known(store, request_id, row, truth_of(query, answer, row))
    for request_id, _, _ in reversed(requests):
        recorded(store, DECIDED[name], every_task, shadow_of=request_id)
    found, shadows = observe(store, query.model.name, Window())
    assert len(found.rows) == 2 * ROWS
    report = performance(found, Window(), shadows=shadows)
    assert set(report.shadows) == set(found.parts)
    for part, (own,) in report.shadows.items():
        assert own.rows == (found.parts[part].labels >= 0).sum()
        assert own.log_loss.mean == pytest.approx(0.0, abs=1e-12)


def test_rows_without_probabilities_are_answered_and_flagged_and_no_more(store, every_task):
    case = next(case for case in CASES if str(case) == "letters-detect")
    _, query, answer = recorded(store, case, every_task)
    found, _ = observe(store, query.model.name, Window())
    assert found.parts == {}
    assert found.left_out == {"without_probabilities": ROWS}
    np.testing.assert_array_equal(found.rows.flagged, answer.posterior.flagged)


def test_an_empty_window_is_a_report_of_nothing(store):
    found, shadows = observe(store, "letters", Window())
    report = performance(found, Window(), shadows=shadows)
    assert (report.answered.rows, report.parts, report.versions) == (0, {}, ())


def test_a_report_shows_the_alarms_of_the_versions_that_answered(store, every_task):
    _, query, _ = recorded(store, DECIDED["letters-decide"], every_task)
    model = query.model.name
    for version in (1, 2):
        detail = {"model": model, "version": version, "test": "slope", "outcomes": 90, "digest": "sha256:0"}
        store.write([Write(events=[Event(BEGUN, "alarm", orjson.dumps(detail).decode())])])
    report = report_performance(store, model, Window())
    assert [alarm["version"] for alarm in report.as_json()["alarms"]] == [1]


def test_of_too_many_rows_the_latest_are_read_and_the_others_counted(store, every_task):
    for hour, name in enumerate(("letters-decide", "letters-decide-site", "letters-decide-coverage")):
        _, query, _ = recorded(store, DECIDED[name], every_task, created=BEGUN + hour * HOUR)
    blocks, more, left_out = read_blocks(store, query.model.name, Window(), most_rows=ROWS)
    found = observations(query.model.name, blocks, more=more, left_out=left_out)
    assert (len(found.rows), found.more) == (ROWS, 2 * ROWS)
    assert set(found.rows.created.tolist()) == {BEGUN + 2 * HOUR}
    assert "not read" in performance(found, Window()).notes[0]
