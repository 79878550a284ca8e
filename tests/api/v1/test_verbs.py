"""One entry is a verb: the router, the document, metrics and messages know it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.api.v1 import verbs
from service.api.v1.reports import Compute, VerbReport
from service.api.v1.verbs import VERBS
from service.runtime.model import Model
from service.runtime.registry import Registry


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_listed_under_its_name(verb: str) -> None:
    assert VERBS[verb].name == verb
    assert VERBS[verb].summary


@dataclasses.dataclass(frozen=True)
class Count:
    """Rows of a request.

    Attributes
    ----------
    rows : int
        How many.
    """

    rows: int


async def test_a_new_verb_is_one_entry(
    monkeypatch: pytest.MonkeyPatch,
    client_of: Callable[..., httpx.AsyncClient],
    shipped: Registry,
    test_rows: list[list[float]],
) -> None:
    def prepared(request: Any, model: Model) -> Compute:
        del request, model
        return lambda prediction: {"rows": len(prediction.log_probs)}

    report = VerbReport("count", Count, prepared)
    count = dataclasses.replace(VERBS["estimate"], name="count", summary="How many rows", report=report)
    monkeypatch.setitem(verbs.VERBS, "count", count)
    async with client_of(shipped) as client:
        answer = await client.post("/v1/models/breast-cancer:count", json={"instances": test_rows[:3]})
        document = (await client.get("/openapi.json")).json()
        unknown = await client.post("/v1/models/breast-cancer:explain", json={})
        metrics = (await client.get("/metrics")).text
    assert (answer.status_code, answer.json()["count"]) == (200, {"rows": 3})
    assert document["paths"]["/v1/models/{name}:count"]["post"]["summary"] == "How many rows"
    assert "count" in unknown.json()["detail"]
    assert 'route="/v1/models/{name}:count"' in metrics
    assert 'temperance_rows_total{model="breast-cancer",verb="count",version="1"} 3.0' in metrics
