"""No sentence of pydantic's is in an answer, whatever is wrong with a request."""

from typing import Any

import httpx
import pytest

from tests.bundle.test_wording import PHRASES, put, spoiled

OPTIONS: dict[str, Any] = {
    "policy": "biopsy",
    "site": "screening",
    "prevalence": {"benign": 0.5, "malignant": 0.5},
    "costs": {"a": {"benign": 0, "malignant": 1}, "b": {"benign": 1, "malignant": 0}},
    "ids": ["one"],
    "top_k": 1,
    "layout": "rows",
    "coverage": 0.9,
    "fdr": 0.1,
    "session": {"statistic": 0.0, "false_alarms_per_1000_steps": 1.0},
    "losses": ["focal"],
    "smoother": "none",
    "strength": 1.0,
    "switch": 1.0,
    "label_costs": {"x": {"a": {"absent": 0, "present": 1}, "b": {"absent": 0, "present": 1}}},
}


@pytest.mark.parametrize("verb", ["predict", "detect", "decide", "evaluate", "estimate"])
async def test_requests_say_what_is_wrong_in_our_words(
    verb: str, client: httpx.AsyncClient, test_rows: list[list[float]]
) -> None:
    refused = 0
    for name, own in OPTIONS.items():
        document: dict[str, Any] = {"instances": [test_rows[0][:3]], "parameters": {name: own}}
        if verb == "evaluate":
            document["labels"] = ["benign"]
        for path, value in spoiled(document):
            if path[0] == "instances" and name != "policy":
                continue
            answer = await client.post(f"/v1/models/breast-cancer:{verb}", json=put(document, path, value))
            refused += answer.status_code == 422
            assert not PHRASES.search(answer.text), (path, value, answer.text)
    assert refused > 100
