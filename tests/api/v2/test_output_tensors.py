"""Outputs of every task are what `/v1` decides, in shapes that hold all rows of a request."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.v2.model_metadata import model_metadata
from service.api.v2.output_tensors import OutputNames
from service.runtime.registry import Registry
from tests.api.v2.bodies import request_of

COMPLAINTS = {"name": "dose", "shape": [3], "datatype": "FP32", "data": [0.5, -1.0, 3.0]}
MOTION = [
    {"name": "steps", "shape": [2, 3], "datatype": "FP32", "data": [1.0, -0.5, 2.0, 0.5, 0.0, 0.0]},
    {"name": "lengths", "shape": [2], "datatype": "INT64", "data": [3, 1]},
]


@pytest.fixture
def outputs_of(client_of: Callable[..., httpx.AsyncClient], kinds: Registry) -> Callable[..., Any]:
    """Outputs of a model by name as nested lists, and the rows that `/v1` decides on the same instances."""

    async def both(model: str, inputs: list[Any], instances: list[Any], **more: Any) -> tuple[dict[str, Any], Any]:
        async with client_of(kinds) as client:
            answer = await client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **more})
            plain = await client.post(
                f"/v1/models/{model}:decide",
                json={"instances": instances, "parameters": more.get("parameters", {})},
            )
        assert answer.status_code == 200, answer.text
        outputs = answer.json()["outputs"]
        return {one["name"]: np.array(one["data"], dtype=object).reshape(one["shape"]).tolist() for one in outputs}, (
            plain.json()["predictions"]
        )

    return both


async def test_labels_have_a_place_each_in_the_order_of_the_classes(outputs_of) -> None:
    outputs, rows = await outputs_of("complaints", [COMPLAINTS], [[0.5], [-1.0], [3.0]])
    for i, row in enumerate(rows):
        assert outputs["probabilities"][i] == list(row["probabilities"].values())
        assert outputs["labels"][i] == [name in row["labels"] for name in row["probabilities"]]
        assert outputs["ood"][i] == row["ood"]["flagged"]
        assert outputs["p_value"][i] == row["ood"]["p_value"]
        ache, burn = row["decisions"]["ache"], row["decisions"]["burn"]
        assert outputs["action"][i] == [ache["action"], burn["action"], ""]
        assert outputs["risk"][i] == [
            list(ache["risks"].values()),
            [*burn["risks"].values(), None],
            [None, None, None],
        ]


async def test_a_site_moves_labels(outputs_of) -> None:
    outputs, rows = await outputs_of("complaints", [COMPLAINTS], [[0.5], [-1.0], [3.0]], parameters={"site": "ward"})
    assert outputs["probabilities"][0] == list(rows[0]["probabilities"].values())


async def test_sequences_are_padded_to_the_longest(outputs_of) -> None:
    outputs, (long, short) = await outputs_of("motion", MOTION, [[1.0, -0.5, 2.0], [0.5]])
    assert outputs["lengths"] == [3, 1]
    assert outputs["label"] == [long["label"], [short["label"][0], "", ""]]
    for name, member in (("probabilities", "probabilities"), ("logits", None)):
        own = outputs[name]
        assert own[1][1:] == [[None, None], [None, None]]
        if member:
            assert own[0] == [list(position.values()) for position in long[member]]
            assert own[1][0] == list(short[member][0].values())
    assert outputs["action"] == [
        [position["action"] for position in long["decision"]],
        [short["decision"][0]["action"], "", ""],
    ]
    assert outputs["risk"][0] == [list(position["risks"].values()) for position in long["decision"]]
    assert outputs["risk"][1][1:] == [[None, None], [None, None]]
    assert outputs["ood"] == [long["ood"]["flagged"], short["ood"]["flagged"]]


async def test_the_likeliest_class_of_padding_is_empty(outputs_of) -> None:
    requested = [{"name": "probabilities", "parameters": {"classification": 1}}]
    outputs, (long, short) = await outputs_of("motion", MOTION, [[1.0, -0.5, 2.0], [0.5]], outputs=requested)
    names = [[entry[0].split(":")[-1] for entry in row] for row in outputs["probabilities"]]
    assert names == [long["label"], [short["label"][0], "", ""]]


def test_names_are_those_of_the_members(kinds: Registry) -> None:
    complaints, motion = OutputNames.of(kinds.model("complaints")), OutputNames.of(kinds.model("motion"))
    assert set(complaints.decided) == {
        *("logits", "probabilities", "labels", "ood_score", "p_value", "ood", "risk", "action", "prediction_id")
    }
    assert set(motion.always) == {
        *("logits", "probabilities", "label", "lengths", "ood_score", "p_value", "ood", "prediction_id")
    }
    assert motion.need_decision(["label", "risk"])
    assert not motion.need_decision(["label"])
    assert motion.ranked == {"logits", "probabilities"}


@pytest.mark.parametrize("name", ["notes", "picture", "stay", "complaints", "motion"])
def test_metadata_list_every_output_once(kinds: Registry, name: str) -> None:
    model = kinds.model(name)
    described = tuple(entry["name"] for entry in model_metadata(model, kinds)["outputs"])
    assert described == OutputNames.of(model).chosen(decide=model.manifest.default_policy is not None)


async def test_classification_names_the_likeliest_classes(infer, rows) -> None:
    requested = [{"name": "probabilities", "parameters": {"classification": 1}}]
    outputs, _ = await infer(request_of(rows, outputs=requested))
    plain, _ = await infer(request_of(rows))
    assert outputs["probabilities"]["datatype"] == "BYTES"
    assert outputs["probabilities"]["shape"] == [5, 1]
    for entry, label in zip(outputs["probabilities"]["data"], plain["label"]["data"], strict=True):
        value, index, name = entry.split(":")
        assert (name, index) == (label, str(["benign", "malignant"].index(label)))
        assert float(value) > 0.5


async def test_what_an_uncalibrated_model_cannot_know_is_no_output_of_it(client_of, publish_logits) -> None:
    async with client_of(publish_logits(("a", "b", "c"))) as client:
        described = (await client.get("/v2/models/logits")).json()
        names = [entry["name"] for entry in described["outputs"]]
        assert names == ["logits", "label", "probabilities", "ood_score", "prediction_id"]
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.0, 1.0, 2.0]}
        refused = await client.post(
            "/v2/models/logits/infer", json={"inputs": [tensor], "outputs": [{"name": "p_value"}]}
        )
        assert refused.status_code == 422
        answer = await client.post("/v2/models/logits/infer", json={"inputs": [tensor]})
        assert [output["name"] for output in answer.json()["outputs"]] == names
