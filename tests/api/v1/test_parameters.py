"""Costs and prevalences that come with a request."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.decision import TIE_TOLERANCE
from service.core.numerics import Array
from service.runtime.model import Model
from service.runtime.registry import Registry

Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]

FITTED = pytest.mark.parametrize("fitted", [False, True], ids=["uncalibrated", "fitted"])
BIAS = 1e-4  # relative: beyond float32 logits and the tie band, well within the third digit of any threshold

REFER_WHEN_FLAGGED = """
[policies.refer]
on_ood = "refer"
[policies.refer.costs]
pass = { "0" = 0, "1" = 10 }
refer = { "0" = 1, "1" = 0 }
"""


async def decide(
    client: httpx.AsyncClient, probabilities: Sequence[Sequence[float]], costs: Sequence[Sequence[float]]
) -> list[dict[str, Any]]:
    """Decisions of the model `logits` for rows that are log-probabilities; ``costs[action][class]``."""
    named = {f"a{a}": {str(k): c for k, c in enumerate(row)} for a, row in enumerate(costs)}
    body = {"instances": np.log(probabilities).tolist(), "parameters": {"costs": named}}
    answer = await client.post("/v1/models/logits:decide", json=body)
    assert answer.status_code == 200, answer.text
    decisions = [row["decision"] for row in answer.json()["predictions"]]
    for decision in decisions:
        assert decision["risk"] == decision["risks"][decision["action"]]
        assert decision["policy"] == {"name": "(request)", "source": "request"}
    return decisions


def two_classes(p: float) -> tuple[float, float]:
    return (1.0 - p, p)


SWITCHES = {
    "a miss costs ten false alarms": ([[0, 10], [1, 0]], 1 / 11),
    "every outcome has a price": ([[-1, 20], [4, 2]], 0.21739130434782608),
    "errors cost the same": ([[0, 1], [1, 0]], 0.5),
    "a miss costs fifty biopsies": ([[0, 50], [1, 1]], 0.02),
}


@FITTED
@pytest.mark.parametrize("name", SWITCHES)
async def test_the_action_switches_at_the_probability_that_the_costs_give(
    name: str, *, fitted: bool, publish_logits: Publish, client_of: Connect
) -> None:
    costs, threshold = SWITCHES[name]
    around = [two_classes(threshold * (1 - BIAS)), two_classes(threshold * (1 + BIAS))]
    async with client_of(publish_logits(("0", "1"), fitted=fitted)) as client:
        below, above = await decide(client, around, costs)
    assert (below["action"], below["reason"]) == ("a0", "lowest_risk")
    assert (above["action"], above["reason"]) == ("a1", "lowest_risk")


@FITTED
async def test_three_classes_get_the_action_of_least_expected_cost(
    *, fitted: bool, publish_logits: Publish, client_of: Connect
) -> None:
    rows = [(0.6, 0.3, 0.1), (0.6, 0.1, 0.3)]
    async with client_of(publish_logits(("0", "1", "2"), fitted=fitted)) as client:
        first, second = await decide(client, rows, [[0, 1, 10], [2, 0, 2], [9, 9, 0]])
    assert first["action"] == "a0"
    assert [first["risks"][a] for a in ("a0", "a1", "a2")] == pytest.approx([1.3, 1.4, 8.1], abs=1e-6)
    assert first["margin"] == pytest.approx(0.1, abs=1e-6)
    assert second["action"] == "a1"


@pytest.mark.parametrize(
    "costs",
    [
        [[0, 1], [1, 0]],
        [[1, 0], [0, 1]],
        [[3, 3], [3, 3]],
        [
            [
                0,
                10,
            ],
            [10, 0],
            [5, 5],
        ],
    ],
    ids=str,
)
async def test_a_tie_goes_to_the_first_action_and_says_so(
    costs: list[list[float]], publish_logits: Publish, client_of: Connect
) -> None:
    async with client_of(publish_logits(("0", "1"))) as client:
        (decision,) = await decide(client, [(0.5, 0.5)], costs)
    assert (decision["action"], decision["reason"], decision["margin"]) == ("a0", "tie", 0.0)


async def test_a_tie_is_as_wide_as_what_is_at_stake_and_no_wider(publish_logits: Publish, client_of: Connect) -> None:
    costs, scale = [[0.0, 10.0], [1.0, 0.0]], 10 / 11 * 1.0 + 1 / 11 * 10.0
    steps = np.array([-3.0, -0.5, 0.5, 3.0]) * TIE_TOLERANCE * scale / 11  # risks differ by 11 (p - 1/11)
    rows = [two_classes(1 / 11 + step) for step in steps]
    async with client_of(publish_logits(("0", "1"))) as client:
        decisions = await decide(client, rows, costs)
    assert [(d["action"], d["reason"]) for d in decisions] == [
        ("a0", "lowest_risk"),
        ("a0", "tie"),
        ("a0", "tie"),
        ("a1", "lowest_risk"),
    ]


async def test_classes_of_a_cost_may_come_in_any_order(publish_logits: Publish, client_of: Connect) -> None:
    body = {
        "instances": np.log([two_classes(0.2)]).tolist(),
        "parameters": {"costs": {"pass": {"1": 10, "0": 0}, "refer": {"1": 0, "0": 1}}},
    }
    async with client_of(publish_logits(("0", "1"))) as client:
        (row,) = (await client.post("/v1/models/logits:decide", json=body)).json()["predictions"]
    assert row["decision"]["risks"] == pytest.approx({"pass": 2.0, "refer": 0.8}, abs=1e-6)
    assert list(row["decision"]["risks"]) == ["pass", "refer"]


async def test_huge_costs_neither_overflow_nor_lose_the_action(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(("0", "1"))) as client:
        (decision,) = await decide(client, [(0.9, 0.1)], [[-1e300, 1e300], [1e300, -1e300]])
    assert decision["action"] == "a0"
    assert all(map(math.isfinite, decision["risks"].values()))


async def test_costs_of_a_request_never_defer(ask: Callable[..., Any], test_rows: list[list[float]]) -> None:
    wild = [[1000.0 * value for value in row] for row in test_rows]
    costs = {"dismiss": {"benign": 0, "malignant": 50}, "defer": {"benign": 3, "malignant": 3}}
    flagged = await ask("decide", wild, costs=costs)
    assert all(row["ood"]["flagged"] for row in flagged["predictions"])
    assert {row["decision"]["reason"] for row in flagged["predictions"]} == {"lowest_risk"}
    assert not any("overridden" in row["decision"] for row in flagged["predictions"])


async def test_costs_of_a_request_decide_where_no_flag_is_known(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(("0", "1"), more=REFER_WHEN_FLAGGED)) as client:
        (own,) = await decide(client, [two_classes(0.01)], [[0, 10], [1, 0]])
        named = await client.post("/v1/models/logits:decide", json={"instances": [[0.0, 0.0]]})
    assert (own["action"], own["reason"]) == ("a0", "lowest_risk")
    assert named.json()["predictions"][0]["decision"]["reason"] == "ood_unavailable"


NO_DEFAULT = REFER_WHEN_FLAGGED + REFER_WHEN_FLAGGED.replace("policies.refer", "policies.other").replace("10", "20")


async def test_several_policies_without_a_default_must_be_chosen_from(
    publish_logits: Publish, client_of: Connect
) -> None:
    body: dict[str, Any] = {"instances": [[0.0, 0.0]]}
    async with client_of(publish_logits(("0", "1"), more=NO_DEFAULT, fitted=True)) as client:
        refused = await client.post("/v1/models/logits:decide", json=body)
        chosen = await client.post("/v1/models/logits:decide", json=body | {"parameters": {"policy": "other"}})
        predicted = await client.post("/v1/models/logits:predict", json=body)
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:temperance:problem:policy-required"
    assert "refer, other" in refused.json()["detail"]
    assert chosen.json()["predictions"][0]["decision"]["policy"] == {"name": "other", "source": "manifest"}
    assert predicted.status_code == 200


async def test_a_model_without_policies_decides_on_costs_alone(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(("0", "1"))) as client:
        refused = await client.post("/v1/models/logits:decide", json={"instances": [[0.0, 0.0]]})
        (decision,) = await decide(client, [(0.5, 0.5)], [[0, 2], [1, 0]])
    assert refused.json()["type"] == "urn:temperance:problem:policy-required"
    assert decision["action"] == "a1"


def table(answer: dict[str, Any]) -> Array:
    """Probabilities of an answer, shape (N, K)."""
    return np.array([list(row["probabilities"].values()) for row in answer["predictions"]])


def bayes(p: Array, source: Array, target: Array) -> Array:
    joint = p * target / source
    shifted: Array = joint / joint.sum(axis=1, keepdims=True)
    return shifted


@pytest.mark.parametrize("verb", ["predict", "decide"])
@pytest.mark.parametrize(
    "options",
    [
        {"site": "screening"},
        {"prevalence": {"malignant": 0.02, "benign": 0.98}},
        {"prevalence": {"benign": 0.001, "malignant": 0.999}},
    ],
    ids=["site", "explicit", "reversed"],
)
async def test_another_prevalence_moves_probabilities_by_bayes_rule(
    verb: str, options: dict[str, Any], ask: Callable[..., Any], test_rows: list[list[float]], shipped_model: Model
) -> None:
    here, there = await ask(verb, test_rows), await ask(verb, test_rows, **options)
    source, target = (
        np.array([there["prevalence"][end][c] for c in shipped_model.classes]) for end in ("source", "target")
    )
    np.testing.assert_allclose(table(there), bayes(table(here), source, target), rtol=0, atol=1e-9)
    assert there["prevalence"]["site"] == options.get("site")
    assert there["prevalence"]["source"] == here["prevalence"]["source"]


async def test_a_site_and_its_prevalence_answer_the_same(
    ask: Callable[..., Any], test_rows: list[list[float]], shipped_model: Model
) -> None:
    site = await ask("predict", test_rows, site="screening")
    prevalence = shipped_model.manifest.sites["screening"].prevalence
    assert site["prevalence"]["target"] == prevalence
    assert table(site).tolist() == table(await ask("predict", test_rows, prevalence=prevalence)).tolist()


async def test_the_prevalence_it_was_calibrated_at_changes_not_one_bit(
    ask: Callable[..., Any], test_rows: list[list[float]]
) -> None:
    here = await ask("decide", test_rows)
    same = await ask("decide", test_rows, prevalence=here["prevalence"]["source"])
    assert same["prevalence"]["target"] == here["prevalence"]["target"] == here["prevalence"]["source"]
    assert table(same).tobytes() == table(here).tobytes()
    assert [row["decision"] for row in same["predictions"]] == [row["decision"] for row in here["predictions"]]


async def test_flags_do_not_depend_on_prevalence_or_costs(
    ask: Callable[..., Any], test_rows: list[list[float]]
) -> None:
    here, there = await ask("decide", test_rows), await ask("decide", test_rows, site="screening")
    assert [row["ood"] for row in here["predictions"]] == [row["ood"] for row in there["predictions"]]


async def test_decisions_are_taken_at_the_requested_prevalence(
    ask: Callable[..., Any], test_rows: list[list[float]]
) -> None:
    rare = await ask("decide", test_rows, prevalence={"benign": 0.9999, "malignant": 0.0001})
    for row in rare["predictions"]:
        assert row["decision"]["risks"]["dismiss"] == pytest.approx(50 * row["probabilities"]["malignant"], abs=1e-9)


async def test_an_uncalibrated_version_has_no_prevalence_to_move_from(
    publish_logits: Publish, client_of: Connect
) -> None:
    body = {"instances": [[0.0, 0.0]], "parameters": {"prevalence": {"0": 0.5, "1": 0.5}}}
    async with client_of(publish_logits(("0", "1"))) as client:
        refused = await client.post("/v1/models/logits:predict", json=body)
        plain = await client.post("/v1/models/logits:predict", json={"instances": [[0.0, 0.0]]})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:temperance:problem:prevalence-unavailable")
    assert plain.json()["prevalence"] == {"source": None, "target": None, "site": None}
    assert plain.json()["calibration"] == {"method": "identity", "status": "uncalibrated"}


async def test_a_fitted_version_speaks_of_the_classes_it_was_fitted_on(
    publish_logits: Publish, client_of: Connect
) -> None:
    body = {"instances": np.log([[0.7, 0.3]]).tolist(), "parameters": {"prevalence": {"0": 0.1, "1": 0.9}}}
    async with client_of(publish_logits(("0", "1"), fitted=True)) as client:
        answer = (await client.post("/v1/models/logits:predict", json=body)).json()
    source = np.array(list(answer["prevalence"]["source"].values()))
    expected = bayes(np.array([[0.7, 0.3]]), source, np.array([0.1, 0.9]))
    np.testing.assert_allclose(table(answer), expected, rtol=0, atol=1e-6)


async def test_a_misspelt_class_is_met_with_the_nearest_one(
    client: httpx.AsyncClient, example_row: list[float]
) -> None:
    body = {"instances": [example_row], "parameters": {"prevalence": {"benign": 0.5, "malignent": 0.5}}}
    (fault,) = (await client.post("/v1/models/breast-cancer:predict", json=body)).json()["errors"]
    assert fault["pointer"] == "/parameters/prevalence/?"
    assert "did you mean 'malignant'?" in fault["detail"]
    assert "malignent" not in fault["detail"]
