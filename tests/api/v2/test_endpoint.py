"""Inference in process: what `/v2` answers is what `/v1` decides."""

import asyncio
import re
from typing import Any

import pytest

from tests.api.v2.bodies import ALL, request_of


async def test_every_output_is_what_decide_answers(infer, ask, rows) -> None:
    outputs, document = await infer(request_of(rows, id="mine"))
    decided = await ask("decide", rows.tolist())
    assert list(outputs) == ALL
    assert (document["model_name"], document["model_version"], document["id"]) == ("breast-cancer", "1", "mine")
    assert document["parameters"] == {"digest": decided["digest"], "version": "1", "site": "", "policy": "biopsy"}
    for i, row in enumerate(decided["predictions"]):
        assert outputs["label"]["data"][i] == row["label"]
        assert outputs["action"]["data"][i] == row["decision"]["action"]
        assert outputs["ood"]["data"][i] is row["ood"]["flagged"]
        assert outputs["p_value"]["data"][i] == pytest.approx(row["ood"]["p_value"])
        assert outputs["ood_score"]["data"][i] == pytest.approx(row["ood"]["scores"]["mahalanobis"]["score"])
        assert outputs["probabilities"]["data"][2 * i : 2 * i + 2] == pytest.approx(list(row["probabilities"].values()))
        assert outputs["risk"]["data"][3 * i : 3 * i + 3] == pytest.approx(list(row["decision"]["risks"].values()))
    assert {name: output["shape"] for name, output in outputs.items()} == {
        **{name: [5] for name in ALL},
        "logits": [5, 2],
        "probabilities": [5, 2],
        "risk": [5, 3],
    }


async def test_site_and_policy_are_parameters(infer, ask, rows) -> None:
    outputs, document = await infer(request_of(rows, parameters={"site": "screening", "policy": "biopsy", "else": 1}))
    decided = await ask("decide", rows.tolist(), site="screening")
    assert document["parameters"]["site"] == "screening"
    assert outputs["probabilities"]["data"][0] == pytest.approx(decided["predictions"][0]["probabilities"]["benign"])


async def test_requested_outputs_choose_what_is_answered_and_what_is_decided(client, infer, rows) -> None:
    outputs, document = await infer(request_of(rows, outputs=[{"name": "label"}, {"name": "ood"}]))
    assert list(outputs) == ["label", "ood"]
    assert document["parameters"]["policy"] == ""
    metrics = (await client.get("/metrics")).text
    assert "temperance_actions_total{" not in metrics


async def test_a_null_policy_is_none(infer, rows) -> None:
    _, document = await infer(request_of(rows, parameters={"policy": None}))
    assert document["parameters"]["policy"] == "biopsy"


MOTIONS = [[[1.0, -0.5, 2.0], [0.5, 0.1, 0.0]], [[0.3]], [[2.0, 1.0, -1.0, 0.5]], [[-1.0, -2.0]]]
OUTPUTS: list[dict[str, Any]] = [
    {},
    {"outputs": [{"name": "label"}, {"name": "risk"}]},
    {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}, {"name": "action"}]},
    {"parameters": {"binary_data_output": True}},
]


def motion(steps: list[list[float]], more: dict[str, Any]) -> dict[str, Any]:
    shape = [len(steps), len(steps[0])]
    lengths = [shape[1] - (row[-1] == 0.0) for row in steps]
    inputs = [
        {"name": "steps", "shape": shape, "datatype": "FP32", "data": steps},
        {"name": "lengths", "shape": shape[:1], "datatype": "INT64", "data": lengths},
    ]
    return {"inputs": inputs, "id": "mine", **more}


async def test_requests_that_are_answered_together_are_answered_as_alone(client_of, kinds) -> None:
    bodies = [motion(steps, more) for steps in MOTIONS for more in OUTPUTS]
    async with client_of(kinds) as client:
        alone = [(await client.post("/v2/models/motion/infer", json=body)).content for body in bodies]
        before = kinds.model("motion").tally.runs
        together = await asyncio.gather(*(client.post("/v2/models/motion/infer", json=body) for body in bodies))
        assert kinds.model("motion").tally.runs - before < len(bodies) / 2
    assert [without_ids(answer.content) for answer in together] == [without_ids(content) for content in alone]


def without_ids(content: bytes) -> bytes:
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", b"id", content)
