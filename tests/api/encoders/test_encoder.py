"""Rows and columns of every task and option: the same values, alone or joined, and those of earlier versions."""

import json
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest

from service.api.encoders.encoder import encoder_of
from service.api.v1.verbs import VERBS
from service.prediction.answer import Part
from service.prediction.options import Options
from service.runtime.registry import Registry
from tests.every_task import CASES, CREATED, ROWS, Case, Json, answer_of, rows_of, written

EARLIER: dict[str, list[Json]] = json.loads((Path(__file__).parent / "rows.json").read_text(encoding="utf-8"))
EARLIER_ROWS = (0, 2, 7)
POSITIONS = 3  # of a sequence, in the file of earlier rows
OF_ROWS = {"predictions", "columns", "classes", "actions", "lengths"}
LISTS = {"label", "probabilities", "decision"}
Leaves = dict[tuple[str | int, ...], Any]


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of a row with its path; what is null or missing has none."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, step))
    elif value is not None:
        yield path, value


def leaves_of_columns(document: Json) -> list[Leaves]:
    """The same of columns."""
    rows: list[Leaves] = [{} for _ in document["columns"]["prediction_id"]]
    for name, column in document["columns"].items():
        first, *rest = name.split(".")
        for row, entry in zip(rows, _by_row(document, first, column), strict=True):
            if first == "top" or (first in LISTS and "lengths" in document):
                for t, item in enumerate(entry):
                    row |= dict(leaves(_named(document, name, item), (first, t, *rest)))
            else:
                row |= dict(leaves(_named(document, name, entry), (first, *rest)))
    return rows


def _by_row(document: Json, first: str, column: list[Any]) -> list[Any]:
    if first not in LISTS or "lengths" not in document:
        return column
    return [column[start:end] for start, end in pairwise([0, *accumulate(document["lengths"])])]


def _named(document: Json, name: str, entry: Any) -> Any:
    if name.endswith("probabilities"):
        return dict(zip(document["classes"], entry, strict=True))
    if not name.endswith(".risks"):
        return entry
    actions = document["actions"]
    return dict(zip(actions[name.split(".")[1]] if isinstance(actions, dict) else actions, entry, strict=True))


def both(registry: Registry, case: Case) -> tuple[Json, Json]:
    """Responses to one request, by row and by column."""
    query = case.query(registry)
    answer, part = answer_of(query, rows_of(query.model)), Part("request", ROWS, case.ids)
    by_row, by_column = (written(query, answer, case.verb, layout, [part])[0] for layout in ("rows", "columns"))
    return by_row, by_column


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_and_columns_hold_the_same_values_to_the_last_digit(every_task: Registry, case: Case) -> None:
    by_row, by_column = both(every_task, case)
    assert leaves_of_columns(by_column) == [dict(leaves(row)) for row in by_row["predictions"]]
    kept = (
        {name: value for name, value in document.items() if name not in OF_ROWS} for document in (by_row, by_column)
    )
    assert next(kept) == next(kept)
    assert by_column["classes"] == list(every_task.model(case.model).classes)


def joins(case: Case) -> bool:
    """Whether such requests are answered together."""
    return not {"fdr", "session"} & set(case.options) and not Options(case.verb, **case.options).vary_by_row


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("case", [case for case in CASES if joins(case)], ids=str)
def test_a_response_is_the_same_alone_and_joined_with_others(every_task: Registry, case: Case, layout: str) -> None:
    query = case.query(every_task)
    assert query.joins
    answer, sizes = answer_of(query, rows_of(query.model)), (1, 7, 4)
    parts = [Part(f"request {i}", size, None if i == 1 else [f"own {i}"] * size) for i, size in enumerate(sizes)]
    encoder = encoder_of(query, topics=VERBS[case.verb].topics, layout=layout)
    bounds = [slice(*pair) for pair in pairwise([0, *accumulate(sizes)])]
    alone = [encoder.write(answer[rows], [part], created=CREATED)[0] for rows, part in zip(bounds, parts, strict=True)]
    assert [json.loads(body) for body in encoder.write(answer, parts, created=CREATED)] == list(map(json.loads, alone))
    assert [b'"own 1"' in body for body in alone] == [False] * 3
    assert b'"id":"own 0"' in alone[0] or b'"id":["own 0"]' in alone[0]


@pytest.mark.parametrize("case", EARLIER)
def test_rows_hold_what_they_held_before_members_were_described_once(every_task: Registry, case: str) -> None:
    by_row, _ = both(every_task, next(known for known in CASES if str(known) == case))
    for place, earlier in zip(EARLIER_ROWS, EARLIER[case], strict=False):
        row = by_row["predictions"][place]
        for name in LISTS & {name for name, value in row.items() if isinstance(value, list)}:
            row[name] = row[name][:POSITIONS]
        now, then = dict(leaves(row)), dict(leaves(earlier))
        del now["prediction_id",], then["prediction_id",]
        assert now.keys() >= then.keys()  # a new member is in the one alone
        for path, value in then.items():
            expected = pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
            assert now[path] == expected, path


def test_a_row_without_decision_of_its_own_has_nulls_for_the_actions_of_other_policies(every_task: Registry) -> None:
    case = next(
        case for case in CASES if str(case) == "letters-decide-policy-by row" and "walk" in case.options["policy"]
    )
    _, by_column = both(every_task, case)
    assert by_column["actions"] == ["go", "ask", "land", "climb"]
    columns = by_column["columns"]
    for name, risks in zip(columns["decision.policy.name"], columns["decision.risks"], strict=True):
        assert [risk is not None for risk in risks] == (
            [True, True, False, False] if name == "walk" else [True, False, True, True]
        )


def test_an_encoder_holds_no_answer(every_task: Registry) -> None:
    query = Case("letters", "decide").query(every_task)
    encoder = encoder_of(query, topics=VERBS["decide"].topics, layout="rows")
    answer = answer_of(query, rows_of(query.model))
    first = encoder.write(answer, [Part("a", ROWS)], created=CREATED)
    encoder.write(answer[2:3], [Part("b", 1)], created=CREATED)
    assert encoder.write(answer, [Part("a", ROWS)], created=CREATED) == first
