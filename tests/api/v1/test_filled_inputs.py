"""What the service fills itself may be sent by name if it says the same, and is refused in its place otherwise."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.fitting.publish import publish_draft
from service.runtime.registry import load_registry

TEXT = """\
schema = 1
title = "tokens"
[graph]
output = "s"
output_kind = "logits"
classes = ["a", "b"]
[[inputs]]
name = "input_ids"
pad = 0
[[inputs]]
name = "attention_mask"
mask = true
[[inputs]]
name = "token_type_ids"
fill = 0
"""
IDS = [5, 6, 7]


def repository_of(folder: Path, length: int | str) -> Repository:
    """A repository with `tokens`: the mean of the ids that the mask keeps is the second class' logit."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    nodes = [
        helper.make_node("Mul", names[:2], ["kept"]),
        helper.make_node("Add", ["kept", "token_type_ids"], ["typed"]),
        helper.make_node("Cast", ["typed"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "scale"], ["s"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", length]) for name in names]
    outputs = [helper.make_tensor_value_info("s", TensorProto.FLOAT, ["rows", 2])]
    constants = [
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(np.array([[0.0, 0.01]], dtype=np.float32), "scale"),
    ]
    path = folder / "graph.onnx"
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    repository = Repository(folder / "models")
    create_draft(repository, "tokens", {"model.onnx": path, "manifest.toml": TEXT})
    publish_draft(repository, "tokens")
    return repository


@pytest.fixture(params=["length", 5], ids=["any length", "five tokens"])
def length(request: pytest.FixtureRequest) -> int | str:
    found: int | str = request.param
    return found


@pytest.fixture
async def client(
    length: int | str, tmp_path: Path, client_of: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(load_registry(repository_of(tmp_path, length))) as running:
        yield running


async def response_to(client: httpx.AsyncClient, *rows: dict[str, Any]) -> httpx.Response:
    return await client.post("/v1/models/tokens:predict", json={"instances": list(rows)})


@pytest.mark.parametrize(
    "sent",
    [
        {"attention_mask": [1, 1, 1]},
        {"attention_mask": [1.0, True, 1]},
        {"token_type_ids": [0, 0, 0]},
        {"attention_mask": [1, 1, 1], "token_type_ids": [0, 0, 0]},
    ],
)
async def test_what_says_the_same_is_accepted(sent: dict[str, Any], client: httpx.AsyncClient) -> None:
    plain = (await response_to(client, {"input_ids": IDS})).json()["predictions"][0]["probabilities"]
    answer = await response_to(client, {"input_ids": IDS, **sent}, {"input_ids": [1, 2, 3, 4]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["probabilities"] == plain


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("attention_mask", [1, 1, 0]),
        ("attention_mask", [1, 1]),
        ("attention_mask", [0, 1, 1]),
        ("attention_mask", [1, 1, 1, 1]),
        ("attention_mask", [1, 1, 1, 0, 0, 0]),
        ("attention_mask", 1),
        ("attention_mask", None),
        ("attention_mask", ["1", "1", "1"]),
        ("attention_mask", [[1], [1], [1]]),
        ("token_type_ids", [0, 0, 1]),
        ("token_type_ids", [0]),
        ("token_type_ids", [0, [0]]),
        ("token_type_ids", "0"),
    ],
)
async def test_what_says_something_else_is_refused_in_its_place(
    name: str, cell: object, client: httpx.AsyncClient
) -> None:
    answer = await response_to(client, {"input_ids": [1]}, {"input_ids": IDS, name: cell})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/instances/1/{name}"
    assert "is filled by the service" in error["detail"]


@pytest.mark.parametrize("sent", [{"attention_mask": [1, 1, 1, 0, 0]}, {"token_type_ids": [0] * 5}])
async def test_only_a_graph_of_one_length_is_filled_up(
    sent: dict[str, Any], length: int | str, client: httpx.AsyncClient
) -> None:
    answer = await response_to(client, {"input_ids": IDS, **sent})
    assert answer.status_code == (200 if length == 5 else 422)


async def test_other_names_are_unknown_still(client: httpx.AsyncClient) -> None:
    answer = await response_to(client, {"input_ids": IDS, "attention_mask": [1, 1, 1], "mask": [1, 1, 1]})
    assert answer.status_code == 422
    assert [error["code"] for error in answer.json()["errors"]] == ["unknown-feature"]
