"""Names that are nearly those of options: refused where they would be ignored."""

from typing import Any

import pytest

from service.api.v2.parameter_names import TAKEN, V1_ONLY
from tests.api.v2.bodies import INFER, binary, request_of

SLIPS = ["Policy", "polcy", "policy_name", "polices", "policies", "pol-icy", "ploicy", "sites", "Site", "stie", "sit"]
SLIPS += [
    "smoother",
    "Switch",
    "label_cost",
    "site_id",
    "prevalance",
    "Prevalence",
    "prevelence",
    "prevalence",
    "cost",
    "costs",
    "converage",
    "FDR",
    "sesion",
]
IGNORED = [
    "priority",
    "timeout",
    "headers",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "size",
    "state",
    "version",
]
IGNORED += ["trace", "my_param", "binary_data", "user", "model", "triton_enable_empty_final_response", "x" * 500, ""]


@pytest.mark.parametrize("key", SLIPS)
async def test_a_near_miss_is_refused_naming_the_known_one(client, rows, key: str) -> None:
    body, headers = binary(rows, parameters={key: "biopsy"})
    for answer in (
        await client.post(INFER, json=request_of(rows, parameters={key: "biopsy"})),
        await client.post(INFER, content=body, headers=headers),
        await client.post(INFER, json=request_of(rows, **{key: "biopsy"})),
        await client.post(INFER, json=request_of(rows, outputs=[{"name": "label", "parameters": {key: "biopsy"}}])),
    ):
        assert (answer.status_code, list(answer.json())) == (422, ["error"])
        error = answer.json()["error"]
        assert any(f"`{name}`" in error for name in (*TAKEN, *V1_ONLY))
        assert key in V1_ONLY or f"`{key}`" not in error


@pytest.mark.parametrize("key", IGNORED)
async def test_other_unknown_parameters_are_ignored(infer, rows, key: str) -> None:
    plain, _ = await infer(request_of(rows, outputs=[{"name": "action"}]))
    outputs, document = await infer(
        request_of(rows, outputs=[{"name": "action"}], parameters={key: 5_000_000, "site": "screening"})
    )
    assert outputs.keys() == plain.keys()
    assert document["parameters"]["site"] == "screening"


@pytest.mark.parametrize(
    "more", [{"paramaters": {}}, {"parameter": {}}, {"parameters": []}, {"parameters": {"site": 5}}]
)
async def test_parameters_that_would_be_ignored_are_refused(client, rows, more: dict[str, Any]) -> None:
    answer = await client.post(INFER, json=request_of(rows, **more))
    assert (answer.status_code, list(answer.json())) == (422, ["error"])
    assert "5" not in answer.json()["error"]
