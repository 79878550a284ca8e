"""Records of every kind of answer, read back by Temperance, by polars and by the definitions of the members."""

import io
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from onnx import helper

from service.api.v1.verbs import VERBS
from service.bundle.record_options import RecordOptions
from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.trajectory import State
from service.fitting.publish import publish_draft
from service.prediction import record_reader
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import Plan
from service.prediction.joint_answer import JointAnswer
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.record_columns import KEPT
from service.prediction.record_messages import END_OF_STREAM
from service.prediction.record_reader import Recorded, read_columns, read_records
from service.prediction.records import Content, Origin, RecordPlan
from service.prediction.sessions import Session
from service.prediction.timings import Timings
from service.runtime.model import Model
from service.runtime.registry import Registry, load_registry
from service.store.canonical import context_digest
from service.store.entries import Document
from service.store.keyed_tokens import Tokens
from tests.every_task import CASES, ROWS, Case, answer_of, own_costs, rows_of
from tests.tasks.conftest import save_graph

ORIGIN = Origin("request", 1, "key:ward", None, None, 7)


TOKENS = Tokens("k1", bytes(range(32)))


def plan_of(query: Query, verb: str) -> RecordPlan:
    return RecordPlan(query, verb=verb, topics=VERBS[verb].topics, software="{}")


def joint_of(query: Query, answer: Answer, parts: list[Part], rows: list[Any]) -> JointAnswer:
    return JointAnswer(query, answer, parts, [0.0] * len(parts), Timings(0.0, 0.0, 0.0), rows)


def recorded_case(case: Case, registry: Registry) -> tuple[Query, Answer, Content]:
    query = case.query(registry)
    rows = rows_of(query.model)
    answer = answer_of(query, rows)
    joint = joint_of(query, answer, [Part("request", ROWS, case.ids)], [rows])
    return query, answer, plan_of(query, case.verb).contents(joint, TOKENS)[0]


def schema_of(content: Content) -> Document:
    return next(document for document in content.recording.documents if document.kind == "schema")


def read(content: Content) -> Recorded:
    return read_records([content.prediction(ORIGIN)], schema_of(content))


def same(found: Any, expected: Any) -> None:
    if expected is None:
        assert (np.isnan(found) | (found == -1)).all()
    else:
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape).astype(found.dtype))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_record_holds_every_member_of_the_answer(case: Case, every_task: Registry) -> None:
    query, answer, content = recorded_case(case, every_task)
    recorded = read(content)
    parts = [answer] if not isinstance(query.options.policy, tuple) else answer.by_policy()
    queries = query.by_policy()
    for own, part in zip(queries, parts, strict=True):
        rows = np.arange(ROWS) if len(queries) == 1 else part.decided[0].rows
        plan = own.plan([topic for topic in VERBS[case.verb].topics if topic != "identity"])
        check_members(recorded, plan, part, rows)


def check_members(recorded: Recorded, plan: Plan, answer: Answer, rows: Any) -> None:
    for column, value in zip(plan.columns, plan.all_values(answer, ()), strict=True):
        if column.member.kind in ("text", "value") or (column.listed and not column.positions):
            continue
        found = recorded.values(column.name)
        found = found if column.positions else found[rows]
        names = column.axis or (column.names if column.member.kind == "names" else None)
        if names is not None:
            found = found[:, [(recorded.block(column.name).axis or ()).index(name) for name in names]]
        if column.member.kind == "name" and value is not None:
            known = recorded.block(column.name).names or ()
            assert [known[i] if i >= 0 else None for i in found] == [column.names[i] if i >= 0 else None for i in value]
            continue
        same(found, value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_and_scores_are_recorded_whatever_was_requested(case: Case, every_task: Registry) -> None:
    _, answer, content = recorded_case(case, every_task)
    recorded, posterior = read(content), answer.posterior
    logits = posterior.logits if posterior.lengths is None else flat_of(posterior.logits, posterior.lengths)
    same(recorded.values("logits"), logits.astype(np.float32))
    for place, detector in enumerate(answer.model.chain.detectors):
        same(recorded.values(f"ood.scores.{detector.name}.score"), posterior.scores[:, place])
    same(recorded.values("ood.flagged"), posterior.flagged)


def flat_of(values: Any, lengths: Any) -> Any:
    return np.concatenate([row[:length] for row, length in zip(values, lengths, strict=True)])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_polars_reads_the_message_of_every_kind_of_answer(case: Case, every_task: Registry) -> None:
    _, _, content = recorded_case(case, every_task)
    frame = pl.read_ipc_stream(io.BytesIO(schema_of(content).content + content.columns + END_OF_STREAM))
    recorded = read(content)
    assert len(frame) == ROWS
    for kind, values in recorded.table.rows.items():
        np.testing.assert_array_equal(frame[kind].to_numpy(), values)
    if recorded.lengths is not None:
        assert frame["positions"].list.len().to_list() == recorded.lengths.tolist()
        inner = frame["positions"].explode().struct.unnest()
        for kind, values in recorded.table.positions.items():
            np.testing.assert_array_equal(inner[kind].to_numpy(), values)


JOINING = [case for case in CASES if not any(isinstance(v, tuple) for v in case.options.values())]


@pytest.mark.parametrize("sizes", [(1,) * ROWS, (3, 4, 5), (6, 6)])
@pytest.mark.parametrize("name", ["letters", "complaints", "motion", "raw"])
def test_requests_that_were_answered_together_have_the_records_of_each_alone(
    name: str, sizes: tuple[int, ...], every_task: Registry
) -> None:
    query = Case(name, "decide").query(every_task)
    rows = rows_of(query.model)
    ends = np.cumsum([0, *sizes])
    own = [rows[start:end] for start, end in pairwise(ends)]
    parts = [Part(f"r{i}", size, [f"id {j}" for j in range(size)]) for i, size in enumerate(sizes)]
    joint, plan = joint_of(query, answer_of(query, rows), parts, own), plan_of(query, "decide")
    together = plan.contents(joint, TOKENS)
    for place, content in enumerate(together):
        alone = joint_of(query, joint.own(place), [parts[place]], [own[place]])
        assert plan.contents(alone, TOKENS) == [content]
    assert together[0].ids == TOKENS.tokens(parts[0].ids or [], "id")
    predictions = [content.prediction(ORIGIN) for content in together]
    whole = read_records(predictions, schema_of(together[0]))
    for member in whole.names:
        pieces = [read_columns(prediction, schema_of(together[0]))[member] for prediction in predictions]
        np.testing.assert_array_equal(whole.values(member), np.concatenate(pieces))


def test_what_varies_by_row_is_a_column(every_task: Registry) -> None:
    policy = own_costs(ROWS)
    case = Case("letters", "decide", {"policy": policy, "site": ("north", "south") * 6})
    query, answer, content = recorded_case(case, every_task)
    recorded = read(content)
    assert recorded.texts("site") == ["north", "south"] * 6
    np.testing.assert_array_equal(recorded.values("prevalence"), query.target)
    np.testing.assert_array_equal(recorded.values("decision.costs"), policy.cost.reshape(ROWS, -1))
    assert recorded.block("decision.costs").axis == tuple(
        f"{a}.{k}" for a in policy.actions for k in query.model.classes
    )
    assert len(answer) == ROWS
    context = content.recording.context
    assert (context.site, context.prevalence, orjson.loads(context.options)["site"]) == (None, None, "by row")


def test_policies_that_vary_by_row_are_named(every_task: Registry) -> None:
    case = Case("letters", "decide", {"policy": ("walk", "fly", "fly") * 4})
    _, _, content = recorded_case(case, every_task)
    recorded = read(content)
    assert recorded.texts("decision.policy") == ["walk", "fly", "fly"] * 4
    assert recorded.block("decision.risks").axis == ("go", "ask", "land", "climb")
    assert np.isnan(recorded.values("decision.risks")[0, 2:]).all()


def test_the_context_is_the_same_for_every_session_and_every_row_option(every_task: Registry) -> None:
    sessions = [Session(50.0, State(statistic, 3, 1, standing=False)) for statistic in (0.1, 0.2)]
    cases = [Case("letters", "detect", {"session": session}) for session in sessions]
    contexts = [recorded_case(case, every_task)[2].recording.context for case in cases]
    assert contexts[0] == contexts[1]
    assert contexts[0].digest == context_digest(contexts[0])


def test_a_report_leaves_a_record_without_columns(every_task: Registry) -> None:
    query = Case("letters", "estimate").query(every_task)
    rows = rows_of(query.model)
    joint = joint_of(query, answer_of(query, rows), [Part("request", ROWS)], [rows])
    (content,) = plan_of(query, "estimate").contents(joint, TOKENS)
    assert (content.columns, content.rows, len(content.row_digests)) == (b"", ROWS, 16)
    assert content.recording.context.schema is None


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An uncalibrated model of 1000 classes that answers its own instances."""
    folder = tmp_path_factory.mktemp("many")
    classes, features = ([f"{letter}{i}" for i in range(1000)] for letter in "cf")
    graph = save_graph(folder / "many.onnx", [helper.make_node("Identity", ["x"], ["scores"])], [None, 1000], 1000)
    manifest = (
        'schema = 1\ntitle = "many"\n[graph]\noutput = "scores"\noutput_kind = "logits"\ntask = "multiclass"\n'
        f'classes = {classes}\n[[inputs]]\nname = "x"\nfeatures = {features}\n'
    ).replace("'", '"')
    repository = Repository(folder / "models")
    repository.root.mkdir()
    create_draft(repository, "many", {"model.onnx": graph, "manifest.toml": manifest}, force=True)
    publish_draft(repository, "many")
    return load_registry(repository).model("many")


@pytest.mark.parametrize(("rows", "width"), [(3, 1000), (80, KEPT)])
def test_of_many_classes_and_rows_the_most_probable_are_kept(many_classes: Model, rows: int, width: int) -> None:
    query = Query.of(many_classes, Options("predict"))
    logits = np.random.default_rng(3).normal(size=(rows, 1000)).astype(np.float32).astype(float)
    answer = query.conclude(many_classes.posterior(logits))
    joint = joint_of(query, answer, [Part("request", rows)], [logits])
    (content,) = plan_of(query, "predict").contents(joint, TOKENS)
    recorded = read(content)
    assert recorded.values("logits").shape == recorded.values("probabilities").shape == (rows, width)
    if width == 1000:
        assert recorded.layout.kept is None
        np.testing.assert_array_equal(recorded.values("logits"), logits)
        return
    assert recorded.layout.kept == orjson.loads(content.recording.context.options)["kept_classes"] == KEPT
    best = np.argsort(-logits, axis=1)[:, :KEPT]
    np.testing.assert_array_equal(recorded.values("kept"), best)
    assert recorded.block("kept").names == many_classes.classes
    np.testing.assert_array_equal(recorded.values("logits"), np.take_along_axis(logits, best, axis=1))


def test_a_request_is_cut_whatever_it_was_answered_together_with(many_classes: Model) -> None:
    query = Query.of(many_classes, Options("predict"))
    logits = np.random.default_rng(4).normal(size=(71, 1000))
    joint = joint_of(
        query,
        query.conclude(many_classes.posterior(logits)),
        [Part("a", 1), Part("b", 70)],
        [logits[:1], logits[1:]],
    )
    small, large = plan_of(query, "predict").contents(joint, TOKENS)
    assert [read(content).layout.kept for content in (small, large)] == [None, KEPT]


@pytest.mark.parametrize("case", [Case("letters", "decide"), Case("motion", "decide")], ids=str)
def test_messages_that_the_library_wrote_are_read_too(
    case: Case, every_task: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, content = recorded_case(case, every_task)
    quick = read(content)
    monkeypatch.setattr(record_reader, "head_of", lambda *_: None)
    slow = read(content)
    for name in quick.names:
        np.testing.assert_array_equal(quick.values(name), slow.values(name))


def test_a_record_of_one_row_is_small(shipped_model: Model, test_rows: list[list[float]]) -> None:
    query = Query.of(shipped_model, Options("decide", decide=True))
    rows = np.array(test_rows[:1])
    joint = joint_of(query, query.conclude(shipped_model.posterior(rows)), [Part("r", 1)], [rows])
    (content,) = plan_of(query, "decide").contents(joint, TOKENS)
    assert len(content.columns) < 640


def test_inputs_are_to_be_encrypted_where_the_manifest_asks_for_them(every_task: Registry) -> None:
    plain = Case("letters", "detect").query(every_task)
    bundle = plain.model.bundle
    manifest = bundle.manifest.model_copy(update={"record": RecordOptions(inputs=True)})
    query = Query.of(replace(plain.model, bundle=replace(bundle, manifest=manifest)), Options("detect"))
    rows = rows_of(query.model)
    parts, own = [Part("r", ROWS, subjects=["p"] * ROWS)], [rows]
    (content,) = plan_of(query, "detect").contents(joint_of(query, answer_of(query, rows), parts, own), TOKENS)
    kept = [text for text in content.texts if text.kind == "input"]
    assert [[*orjson.loads(text.content).values()] for text in kept] == rows.tolist()
    assert {text.subject for text in kept} == {TOKENS.token("subject", "p")}
    (without,) = plan_of(plain, "detect").contents(joint_of(plain, answer_of(plain, rows), parts, own), TOKENS)
    assert {text.kind for text in without.texts} == {"subject"}
