"""`layout = "columns"` says what the rows layout says: the same document, turned on its side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.runtime.registry import Registry

Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]
Json = dict[str, Any]

CLASSES = ("0", "1", "2")
RNG = np.random.default_rng(0)
ROWS = np.log(RNG.dirichlet(np.ones(3), size=24)).tolist()
ROWS[5] = ROWS[17] = [0.0, 0.0, 0.0]  # as flat as a row can be: every score flags it
POLICIES = """
[ood]
scores = ["nll", "energy"]
gate = ["nll"]
false_alarm = 0.05
[policies.walk]
default = true
on_ood = "ask"
[policies.walk.costs]
go = { "0" = 0, "1" = 10, "2" = 3 }
ask = { "0" = 1, "1" = 1, "2" = 1 }
[policies.fly]
[policies.fly.costs]
land = { "0" = 4, "1" = 0, "2" = 1 }
stay = { "0" = 0, "1" = 4, "2" = 1 }
climb = { "0" = 1, "1" = 9, "2" = 0 }
[sites.north.prevalence]
"0" = 0.8
"1" = 0.1
"2" = 0.1
[sites.south.prevalence]
"0" = 0.2
"1" = 0.7
"2" = 0.1
"""
NAMES = [f"row {i}" for i in range(len(ROWS))]
PARAMETERS: dict[str, Json] = {
    "nothing": {},
    "ids": {"ids": NAMES},
    "a site": {"site": "north"},
    "a site for every row": {"site": ["north", "south"] * 12},
    "the most probable": {"top_k": 2},
    "more than there are": {"top_k": 9},
    "label sets": {"coverage": 0.8},
    "label sets and the most probable": {"coverage": 0.5, "top_k": 1},
    "false discoveries": {"fdr": 0.2},
    "a policy": {"policy": "fly"},
    "a policy for every row": {"policy": ["walk", "fly", "fly"] * 8},
    "costs of one's own": {"costs": {"a": dict.fromkeys(CLASSES, 1.5), "b": {"0": 0, "1": 9, "2": 1}}},
    "a session": {"session": {"false_alarms_per_1000_steps": 100}},
}
KNOWN = {
    "predict": {"ids", "site", "top_k", "coverage"},
    "detect": {"ids", "fdr", "session"},
    "decide": {"ids", "site", "top_k", "coverage", "fdr", "policy", "costs", "session"},
}


def as_rows(said: Json) -> list[Json]:
    """Predictions of the rows layout, made of columns and of nothing else."""
    columns, classes = said["columns"], said["classes"]
    rows: list[Json] = [{"prediction_id": name.removeprefix(said["id"])} for name in columns["prediction_id"]]
    for i, row in enumerate(rows):
        row |= {name: columns[name][i] for name in ("id", "label") if name in columns}
        if "probabilities" in columns:
            row["probabilities"] = dict(zip(classes, columns["probabilities"][i], strict=True))
        if "top" in columns:
            pairs = zip(columns["top"]["index"][i], columns["top"]["probability"][i], strict=True)
            row["top"] = [{"label": classes[k], "probability": p} for k, p in pairs]
        if "set" in columns:
            own = columns["set"]
            labels = [name for name, member in zip(classes, own["members"][i], strict=True) if member]
            said_of = {"coverage": own["coverage"], "method": own["method"], "valid": own["valid"][i]}
            row["set"] = {"labels": labels, **said_of}
        if "ood" in columns:
            row["ood"] = ood_of_row(columns["ood"], i)
    for part in columns.get("decisions", ()):
        for place, i in enumerate(part["rows"]):
            rows[i]["decision"] = decision_of_row(part, place, i)
    return rows


def at(column: list[Any] | None, i: int) -> Any:
    return None if column is None else column[i]


def ood_of_row(ood: Json, i: int) -> Json:
    row: Json = {name: at(ood[name], i) for name in ("flagged", "p_value", "discovered") if name in ood}
    found = [{key: said for key, said in one.items() if key != "row"} for one in ood["evidence"] if one["row"] == i]
    scores = {name: {key: at(column, i) for key, column in own.items()} for name, own in ood["scores"].items()}
    return {**row, "evidence": found, "scores": scores}


def decision_of_row(part: Json, place: int, i: int) -> Json:
    named = ("action", "risk", "margin", "value_of_information", "value_of_deferring", "reason")
    row = {"policy": part["policy"], **{name: part[name][place] for name in named if name in part}}
    row["risks"] = dict(zip(part["actions"], part["risks"][place], strict=True))
    overruled = part["overridden"]
    if i in overruled["rows"]:
        where = overruled["rows"].index(i)
        row["overridden"] = {"action": overruled["action"][where], "risk": overruled["risk"][where]}
    return row


async def ask(client: httpx.AsyncClient, verb: str, rows: Any, **parameters: Any) -> Json:
    body = {"instances": rows, "parameters": parameters}
    answer = await client.post(f"/v1/models/logits:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    document: Json = answer.json()
    return document


async def both(client: httpx.AsyncClient, verb: str, rows: Any, **parameters: Any) -> tuple[Json, Json]:
    """Columns and rows of one question."""
    columns = await ask(client, verb, rows, layout="columns", **parameters)
    plain = await ask(client, verb, rows, **parameters)
    for row in plain["predictions"]:
        row["prediction_id"] = row["prediction_id"].removeprefix(plain["id"])
    return columns, plain


@pytest.mark.parametrize("verb", KNOWN)
async def test_columns_hold_the_values_of_the_rows_to_the_last_digit(
    publish_logits: Publish, client_of: Connect, conforms: Callable[..., Any], verb: str
) -> None:
    cases = [case for case in PARAMETERS.values() if KNOWN[verb].issuperset(case)]
    async with client_of(publish_logits(CLASSES, more=POLICIES, fitted=True)) as client:
        answers = [(*(await both(client, verb, ROWS, **case)), case) for case in cases]
    assert len(answers) > 3
    own = {"id", "created", "classes", "columns", "predictions"}
    for columns, plain, case in answers:
        assert as_rows(columns) == plain["predictions"], case
        assert {k: v for k, v in columns.items() if k not in own} == {k: v for k, v in plain.items() if k not in own}
        assert columns["classes"] == list(CLASSES)
        assert conforms(columns, verb) == [], case


async def test_flags_overrule_and_say_why_in_columns_too(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(CLASSES, more=POLICIES, fitted=True)) as client:
        columns = (await ask(client, "decide", ROWS, layout="columns"))["columns"]
    flagged = [i for i, flag in enumerate(columns["ood"]["flagged"]) if flag]
    assert {5, 17}.issubset(flagged)
    assert [one["row"] for one in columns["ood"]["evidence"]] == flagged
    (decided,) = columns["decisions"]
    assert [decided["action"][i] for i in flagged] == ["ask"] * len(flagged)
    assert set(decided["overridden"]["rows"]).issubset(flagged)


async def test_what_was_computed_in_single_precision_is_the_same_number_in_both_layouts(
    publish_logits: Publish, client_of: Connect, tmp_path: Path
) -> None:
    classes = tuple(f"c{i}" for i in range(120))
    p = RNG.dirichlet(np.ones(120), size=1200)
    data = tmp_path / "many.npz"
    np.savez(data, X=np.log(p), y=(p.cumsum(axis=1) > RNG.random((1200, 1))).argmax(axis=1))
    costs = {"a": {name: i / 7 for i, name in enumerate(classes)}, "b": dict.fromkeys(classes, 1 / 3)}
    async with client_of(publish_logits(classes, fitted=True, data=data)) as client:
        for verb in KNOWN:
            columns, plain = await both(
                client, verb, np.log(p[:9]).tolist(), **({"costs": costs} if verb == "decide" else {})
            )
            assert as_rows(columns) == plain["predictions"]


async def test_an_uncalibrated_version_has_nulls_for_columns_that_it_cannot_fill(
    publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(CLASSES)) as client:
        columns, plain = await both(client, "detect", ROWS)
    assert as_rows(columns) == plain["predictions"]
    assert columns["columns"]["ood"]["flagged"] is None


async def test_values_outside_their_ranges_are_evidence_in_columns_too(ask_shipped: Any, example_row: Any) -> None:
    odd = [*example_row[:-2], -5.0, 1e6]
    said = [await ask_shipped("decide", [example_row, odd, odd], **more) for more in ({"layout": "columns"}, {})]
    for row in said[1]["predictions"]:
        row["prediction_id"] = row["prediction_id"].removeprefix(said[1]["id"])
    assert as_rows(said[0]) == said[1]["predictions"]
    assert {"row": 1, "rule": "range"}.items() <= said[0]["columns"]["ood"]["evidence"][0].items()


@pytest.fixture
def ask_shipped(request: pytest.FixtureRequest) -> Any:
    """`ask` of the conftest, whose name is taken here."""
    return request.getfixturevalue("ask")


async def test_the_rows_layout_may_be_named(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(CLASSES)) as client:
        assert "predictions" in await ask(client, "predict", ROWS, layout="rows")


@pytest.mark.parametrize("verb", KNOWN)
async def test_another_layout_is_refused(publish_logits: Publish, client_of: Connect, verb: str) -> None:
    async with client_of(publish_logits(CLASSES)) as client:
        body = {"instances": ROWS, "parameters": {"layout": "zq7canary"}}
        refused = (await client.post(f"/v1/models/logits:{verb}", json=body)).json()
    assert refused["errors"][0]["pointer"] == "/parameters/layout"
    assert "'rows' or 'columns'" in refused["detail"]
    assert "zq7canary" not in str(refused)
