"""Parameters that vary by row: a list of one per instance."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.runtime.registry import Registry

Ask = Callable[..., Any]
Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]

POLICIES = """
[policies.walk]
default = true
on_ood = "ask"
[policies.walk.costs]
go = { "0" = 0, "1" = 10 }
ask = { "0" = 1, "1" = 1 }
[policies.fly]
[policies.fly.costs]
land = { "0" = 4, "1" = 0 }
stay = { "0" = 0, "1" = 4 }
climb = { "0" = 1, "1" = 9 }
[sites.north.prevalence]
"0" = 0.9
"1" = 0.1
[sites.south.prevalence]
"0" = 0.2
"1" = 0.8
"""
CLASSES = ("0", "1")
ROWS = np.log(np.random.default_rng(0).dirichlet(np.ones(2), size=6)).tolist()


async def post(client: httpx.AsyncClient, rows: Any, *, verb: str = "decide", **parameters: Any) -> dict[str, Any]:
    body = {"instances": rows, "parameters": parameters}
    answer = await client.post(f"/v1/models/logits:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def close(found: Any, expected: Any) -> None:
    """Equal but for ids; numbers to rounding."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found.keys() - {"prediction_id"}:
            close(found[key], expected[key])
    elif isinstance(found, list):
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    elif isinstance(found, float):
        assert found == pytest.approx(expected, abs=1e-12)
    else:
        assert found == expected


def table(rng: np.random.Generator) -> dict[str, dict[str, float]]:
    costs = rng.normal(size=(2, 2)).tolist()
    return {name: dict(zip(CLASSES, row, strict=True)) for name, row in zip(("act", "wait"), costs, strict=True)}


def listed(name: str) -> list[Any]:
    """A value of the parameter for each row."""
    rng = np.random.default_rng(1)
    shares = [dict(zip(CLASSES, row, strict=True)) for row in rng.dirichlet(np.ones(2), size=6).tolist()]
    values: dict[str, list[Any]] = {
        "costs": [table(rng) for _ in ROWS],
        "policy": ["walk", "fly", "fly", "walk", "fly", "walk"],
        "site": ["north", "south", "south", "north", "north", "south"],
        "prevalence": shares,
    }
    return values[name]


@pytest.mark.parametrize("name", ["costs", "policy", "site", "prevalence"])
async def test_every_row_is_answered_as_it_would_be_alone(
    name: str,
    publish_logits: Publish,
    client_of: Connect,
    conforms: Callable[..., Any],
) -> None:
    values = listed(name)
    async with client_of(publish_logits(CLASSES, more=POLICIES, fitted=True)) as client:
        together = await post(client, ROWS, verb="decide", **{name: values})
        alone = [
            await post(client, [row], verb="decide", **{name: value}) for row, value in zip(ROWS, values, strict=True)
        ]
    for found, one in zip(together["predictions"], alone, strict=True):
        close(found, one["predictions"][0])
    if name in {"site", "prevalence"}:
        for end in ("target", "site"):
            stated = together["prevalence"][end]
            expected = [one["prevalence"][end] for one in alone]
            assert (stated or [None] * 6) == expected
    assert conforms(together, "decide") == []


async def test_policies_by_row_may_have_actions_of_their_own(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(CLASSES, more=POLICIES, fitted=True)) as client:
        answer = await post(client, ROWS[:3], policy=["fly", "walk", "fly"])
        metrics = (await client.get("/metrics")).text
    decisions = [row["decision"] for row in answer["predictions"]]
    assert [decision["policy"]["name"] for decision in decisions] == ["fly", "walk", "fly"]
    assert [list(d["risks"]) for d in decisions] == [
        ["land", "stay", "climb"],
        ["go", "ask"],
        ["land", "stay", "climb"],
    ]
    assert ["value_of_deferring" in decision for decision in decisions] == [False, True, False]
    counted = [line for line in metrics.splitlines() if line.startswith("temperance_actions_total")]
    assert sum(float(line.split()[-1]) for line in counted if 'policy="fly"' in line) == 2
    assert sum(float(line.split()[-1]) for line in counted if 'policy="walk"' in line) == 1


async def test_tables_may_order_their_actions_as_they_like_but_not_name_others(
    publish_logits: Publish, client_of: Connect
) -> None:
    first = table(np.random.default_rng(2))
    turned = dict(reversed(first.items()))
    other = {"act": first["act"], "flee": first["wait"]}
    async with client_of(publish_logits(CLASSES, fitted=True)) as client:
        answer = await post(client, [ROWS[0], ROWS[0]], costs=[first, turned])
        body = {"instances": ROWS[:3], "parameters": {"costs": [first, first, other]}}
        refused = (await client.post("/v1/models/logits:decide", json=body)).json()
    one, same = (row["decision"] for row in answer["predictions"])
    close(one, same)
    assert refused["errors"][0]["pointer"] == "/parameters/costs/2"
    assert "same actions as the first" in refused["detail"]
    assert "flee" not in str(refused)


@pytest.mark.parametrize("name", ["site", "prevalence"])
async def test_predict_takes_prevalences_by_row_too(name: str, publish_logits: Publish, client_of: Connect) -> None:
    values = listed(name)
    async with client_of(publish_logits(CLASSES, more=POLICIES, fitted=True)) as client:
        together = await post(client, ROWS, verb="predict", coverage=0.8, **{name: values})
        alone = [
            await post(client, [row], verb="predict", coverage=0.8, **{name: value})
            for row, value in zip(ROWS, values, strict=True)
        ]
    close(together["predictions"], [one["predictions"][0] for one in alone])


@pytest.mark.parametrize("name", ["costs", "policy", "site", "prevalence"])
async def test_an_evaluation_is_of_all_rows_alike(name: str, publish_logits: Publish, client_of: Connect) -> None:
    body = {"instances": ROWS, "labels": [0] * 6, "parameters": {name: listed(name)}}
    async with client_of(publish_logits(CLASSES, more=POLICIES, fitted=True)) as client:
        answer = await client.post("/v1/models/logits:evaluate", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/parameters/{name}"
