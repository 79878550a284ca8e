"""`parameters.fdr`: rows out of distribution, with a bound on the share of false ones among them."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.runtime.registry import Registry

Publish = Callable[..., Registry]
Connect = Callable[..., httpx.AsyncClient]
COSTS = {"a": {"0": 0, "1": 1}, "b": {"0": 1, "1": 0}}


async def found(client: httpx.AsyncClient, verb: str, rows: Any, **parameters: Any) -> list[dict[str, Any]]:
    body = {"instances": rows, "parameters": parameters | ({"costs": COSTS} if verb == "decide" else {})}
    answer = await client.post(f"/v1/models/logits:{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return [row["ood"] for row in answer.json()["predictions"]]


def by_hand(p: list[float], rate: float) -> list[bool]:
    """The step-up rule as its authors state it."""
    ordered = sorted(p)
    passed = [i for i, value in enumerate(ordered, start=1) if value <= rate * i / len(p)]
    limit = ordered[passed[-1] - 1] if passed else -1.0
    return [value <= limit for value in p]


def batch(*, strange: int) -> list[list[float]]:
    """Rows as the model was fitted on, and rows of which it can make nothing."""
    rng = np.random.default_rng(3)
    rows: list[list[float]] = np.log(rng.dirichlet(np.ones(2), size=60)).tolist()
    lost: list[list[float]] = rng.normal(scale=1e-4, size=(strange, 2)).tolist()
    return rows + lost


@pytest.mark.parametrize("verb", ["detect", "decide"])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
async def test_discoveries_are_those_of_the_step_up_rule_over_the_batch(
    verb: str, rate: float, publish_logits: Publish, client_of: Connect
) -> None:
    rows = batch(strange=40)
    async with client_of(publish_logits(("0", "1"), fitted=True)) as client:
        ood = await found(client, verb, rows, fdr=rate)
    discovered = [one["discovered"] for one in ood]
    assert discovered == by_hand([one["p_value"] for one in ood], rate)
    if rate >= 0.1:
        assert all(discovered[60:])
        assert np.mean(np.flatnonzero(discovered) < 60) <= rate + 0.1


async def test_a_discovery_depends_on_the_rows_of_its_request(publish_logits: Publish, client_of: Connect) -> None:
    rows = batch(strange=1)
    async with client_of(publish_logits(("0", "1"), fitted=True)) as client:
        (alone,) = await found(client, "detect", rows[-1:], fdr=0.05)
        crowd = await found(client, "detect", rows, fdr=0.05)
    assert alone["discovered"] is True
    assert crowd[-1]["discovered"] is False
    assert {key: alone[key] for key in ("flagged", "p_value")} == {
        key: crowd[-1][key] for key in ("flagged", "p_value")
    }


async def test_discoveries_are_null_without_p_values(publish_logits: Publish, client_of: Connect) -> None:
    async with client_of(publish_logits(("0", "1"))) as client:
        (ood,) = await found(client, "detect", [[0.0, 0.0]], fdr=0.1)
    assert ood["discovered"] is None


async def test_a_gate_of_rules_alone_discovers_nothing(publish_logits: Publish, client_of: Connect) -> None:
    more = '\n[ood]\ngate = ["range"]\n'
    async with client_of(publish_logits(("0", "1"), more=more, fitted=True)) as client:
        (ood,) = await found(client, "detect", [[0.0, 0.0]], fdr=0.1)
    assert (ood["p_value"], ood["discovered"]) == (None, None)


async def test_an_answer_with_discoveries_is_documented_and_one_without_has_none(
    ask: Callable[..., Any], example_row: list[float], conforms: Callable[..., Any]
) -> None:
    plain, answer = await ask("detect", [example_row]), await ask("detect", [example_row], fdr=0.1)
    assert "discovered" not in plain["predictions"][0]["ood"]
    assert conforms(answer, "detect") == []


@pytest.mark.parametrize("rate", [0, 1, "0.1"])
async def test_a_rate_of_false_discoveries_lies_between_none_and_all(
    rate: object, client: httpx.AsyncClient, example_row: list[float]
) -> None:
    body = {"instances": [example_row], "parameters": {"fdr": rate}}
    answer = await client.post("/v1/models/breast-cancer:detect", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/parameters/fdr")
