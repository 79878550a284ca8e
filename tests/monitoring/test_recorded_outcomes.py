"""Recorded answers beside their outcomes: what is learned from, and what is left out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import uuid_utils

from service.core.numerics import Array
from service.errors import RefitRefused
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.recorded_outcomes import labelled_answers
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.record_reader import read_records
from service.prediction.records import Origin, RecordPlan
from service.prediction.timings import Timings
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.store.engine import Store, open_store
from service.store.entries import Event, Outcome, Write
from service.store.keyed_tokens import Tokens
from tests.every_task import answer_of, rows_of
from tests.store.kept import FixedSigner

TOKENS = Tokens("key-1", bytes(32))
ROWS = 12


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'audit.db'}", signer=FixedSigner())
    yield opened
    opened.close()


@pytest.fixture
def model(every_task: Registry) -> Model:
    return every_task.model("letters")


def answer(
    store: Store, model: Model, *, created: int = 10, subjects: list[str] | None = None, shadow: bool = False
) -> tuple[str, Array]:
    """Answer and record some rows; the request id, and the raw logits."""
    query = Query.of(model, Options("decide", decide=True, policy="fly"))
    rows, request_id = rows_of(model), str(uuid_utils.uuid7())
    answered = answer_of(query, rows)
    part = Part(request_id, ROWS, None, None, subjects)
    joint = JointAnswer(query, answered, [part], [0.0], Timings(0.0, 0.0, 0.0), [rows])
    plan = RecordPlan(query, verb="decide", topics=("identity", "label", "ood", "decision"), software="{}")
    content = plan.contents(joint, TOKENS)[0]
    origin = Origin(request_id, created, "key:ward", None, None, 7)
    prediction = content.prediction(origin, shadow_of="another" if shadow else None)
    context, documents = content.recording.context, content.recording.documents
    store.write([Write(predictions=[prediction], contexts=[context], documents=documents)])
    return request_id, answered.posterior.logits


def tell(store: Store, request_id: str, truths: dict[int, str], ascertainment: str = "routine", at: int = 1) -> None:
    store.write(
        [
            Write(
                outcomes=[
                    Outcome(request_id, row, orjson.dumps(truth).decode(), at, 2, None, ascertainment, "key:lab")  # type: ignore[arg-type]
                    for row, truth in truths.items()
                ]
            )
        ]
    )


def actions_of(store: Store, request_id: str) -> list[str | None]:
    prediction = store.prediction(request_id)
    assert prediction is not None
    context = store.context(prediction.context)
    assert context is not None
    schema = store.document(context.schema or b"")
    assert schema is not None
    return read_records([prediction], schema).texts("decision.action")


def test_rows_with_an_outcome_are_found_with_their_logits_and_scores(store: Store, model: Model) -> None:
    first, logits = answer(store, model)
    second, _ = answer(store, model, created=20)
    tell(store, first, {0: "a", 3: "d"})
    tell(store, second, {1: "b.c"}, "audit")
    found = labelled_answers(store, model)
    np.testing.assert_allclose(found.logits[:2], logits[[0, 3]], rtol=1e-6)
    assert found.labels.tolist() == [0, 2, 1]
    assert (found.since, found.until, found.subjects) == (10, 20, None)
    assert set(found.scores) == {"nll", "energy"}
    assert found.digest == labelled_answers(store, model).digest


def test_the_outcome_in_force_is_the_one_observed_last(store: Store, model: Model) -> None:
    request_id, _ = answer(store, model)
    tell(store, request_id, {0: "a"}, at=5)
    tell(store, request_id, {0: "d"}, at=9)
    tell(store, request_id, {0: "b.c"}, at=7)
    assert labelled_answers(store, model).labels.tolist() == [2]


def test_rows_of_a_subject_are_known_to_be(store: Store, model: Model) -> None:
    subjects = ["anna", "bert"] * 6
    one, _ = answer(store, model, subjects=subjects)
    two, _ = answer(store, model, subjects=subjects)
    tell(store, one, {0: "a", 1: "a"})
    tell(store, two, {0: "d"})
    found = labelled_answers(store, model)
    assert found.subjects is not None
    assert found.subjects.tolist() == [0, 1, 0]
    assert found.weights is not None
    assert found.weights.tolist() == [0.5, 1.0, 0.5]


def test_what_a_shadow_made_and_what_was_not_delivered_is_left_out(store: Store, model: Model) -> None:
    kept, _ = answer(store, model)
    shadow, _ = answer(store, model, shadow=True)
    lost, _ = answer(store, model)
    store.write([Write(events=[Event(1, "undelivered", orjson.dumps({"request_id": lost}).decode())])])
    for request_id in (kept, shadow, lost):
        tell(store, request_id, {0: "a"})
    assert len(labelled_answers(store, model)) == 1


def test_a_window_is_that_of_the_answers(store: Store, model: Model) -> None:
    for created in (10, 20, 30):
        request_id, _ = answer(store, model, created=created)
        tell(store, request_id, {0: "a"})
    assert len(labelled_answers(store, model, since=20, until=30)) == 1


def test_outcomes_of_rows_that_were_acted_upon_are_no_sample(store: Store, model: Model) -> None:
    request_id, _ = answer(store, model)
    tell(store, request_id, dict.fromkeys(range(ROWS), "a"), "action")
    with pytest.raises(RefitRefused, match="acted upon"):
        labelled_answers(store, model)


def test_routine_outcomes_where_one_action_alone_was_taken_are_no_sample_either(store: Store, model: Model) -> None:
    for _ in range(20):
        request_id, _ = answer(store, model)
        taken = actions_of(store, request_id)
        assert len(set(taken)) > 1
        tell(store, request_id, {row: "a" for row, action in enumerate(taken) if action == taken[0]})
    with pytest.raises(RefitRefused, match="all outcomes are of answers with the action"):
        labelled_answers(store, model)


def test_without_outcomes_nothing_is_learned(store: Store, model: Model) -> None:
    answer(store, model)
    with pytest.raises(RefitRefused, match="no answer of this version and window has an outcome"):
        labelled_answers(store, model)


def test_the_result_is_what_a_refit_takes(store: Store, model: Model) -> None:
    request_id, _ = answer(store, model)
    tell(store, request_id, {0: "a", 1: "b.c", 2: "d"})
    found = labelled_answers(store, model)
    assert isinstance(found, LabelledAnswers)
    assert found.events(3) == 1
