"""One entry makes a member of answers: it is then in every encoding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from service.api.encoders.answer_schemas import columns_schema, row_schema
from service.api.v1.verbs import VERBS
from service.api.v2.output_tensors import OutputTensors, RequestedOutput
from service.core.numerics import Array
from service.prediction import answer_members as members
from service.prediction.answer import Answer, Part
from service.prediction.answer_member import Member
from service.prediction.query import groups_of
from service.prediction.tasks import TASKS
from service.prediction.tasks.multiclass import MULTICLASS
from service.runtime.registry import Registry
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest
from tests.every_task import ROWS, Case, answer_of, rows_of, written

MODELS = ("letters", "complaints", "motion")
ABOUT = "The lowest of the row's scores."


def lowest(answer: Answer) -> Array:
    """Values of the new member."""
    found: Array = answer.posterior.scores.min(axis=1)
    return found


@pytest.fixture
def new_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ood.lowest`: one entry among the members of `ood`."""
    entry = Member("lowest", "number", ABOUT, lowest, tensor="lowest")
    ood, *others = members.TOPICS["ood"]
    monkeypatch.setitem(members.TOPICS, "ood", (replace(ood, members=(*ood.members, entry)), *others))


@pytest.mark.usefixtures("new_member")
@pytest.mark.parametrize("name", MODELS)
def test_a_new_member_is_in_rows_columns_tensors_and_schemas(every_task: Registry, name: str) -> None:
    query = Case(name, "decide").query(every_task)
    answer, part = answer_of(query, rows_of(query.model)), Part("request", ROWS)
    expected = lowest(answer).tolist()
    by_row, by_column = (written(query, answer, "decide", layout, [part])[0] for layout in ("rows", "columns"))
    assert [row["ood"]["lowest"] for row in by_row["predictions"]] == expected
    assert by_column["columns"]["ood.lowest"] == expected
    (tensor,) = OutputTensors(query).written([RequestedOutput("lowest", binary=False)], answer, part)
    assert np.asarray(tensor.values).tolist() == expected
    schema = {"type": "number", "description": ABOUT}
    assert row_schema(query.model.task, VERBS["decide"].topics)["properties"]["ood"]["properties"]["lowest"] == schema
    assert columns_schema(query.model.task, VERBS["decide"].topics)["properties"]["ood.lowest"]["items"] == {
        "type": "number"
    }


@pytest.mark.usefixtures("new_member")
@pytest.mark.parametrize("name", ["letters", "complaints"])
def test_a_new_member_is_in_scored_files(every_task: Registry, name: str, tmp_path: Path) -> None:
    query = Case(name, "decide").query(every_task)
    rows = rows_of(query.model)
    np.savez(tmp_path / "rows.npz", X=rows)
    score(query.model, ScoreRequest(tmp_path / "rows.npz", tmp_path / "out.parquet"))
    assert pl.read_parquet(tmp_path / "out.parquet")["ood.lowest"].to_list() == lowest(answer_of(query, rows)).tolist()


def test_a_new_member_may_pick_one_of_the_numbers_of_another(
    every_task: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (classes, *others) = MULTICLASS.groups["probabilities"]
    entry: Member[Answer] = Member(
        "confidence", "number", "Probability of the label.", pick=("probabilities.{class}", "label")
    )
    groups = {**MULTICLASS.groups, "probabilities": (replace(classes, members=(*classes.members, entry)), *others)}
    monkeypatch.setitem(TASKS, "multiclass", replace(MULTICLASS, groups=groups))
    query = Case("letters", "predict").query(every_task)
    answer, part = answer_of(query, rows_of(query.model)), Part("request", ROWS)
    by_row, by_column = (written(query, answer, "predict", layout, [part])[0] for layout in ("rows", "columns"))
    expected = answer.probabilities.max(axis=1).tolist()
    assert [row["confidence"] for row in by_row["predictions"]] == expected
    assert by_column["columns"]["confidence"] == expected


@pytest.mark.parametrize("task", TASKS)
def test_every_member_has_a_path_of_its_own_and_a_sentence(task: str) -> None:
    topics = {*members.TOPICS, *TASKS[task].groups}
    found = [(group.path, member) for group in groups_of(task, sorted(topics)) for member in group.members]
    assert len({(path, member.path) for path, member in found}) == len(found)
    assert [member.path for _, member in found if not (member.about[:1].isupper() and member.about.endswith("."))] == []


def test_tensors_have_names_of_their_own() -> None:
    for task in TASKS:
        groups = groups_of(task, sorted({*members.TOPICS, *TASKS[task].groups}))
        names = [member.tensor for group in groups for member in group.members if member.tensor]
        assert len(set(names)) == len(names), task
