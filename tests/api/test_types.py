"""Columns of every type that a graph can take: named by `/v2`, sent as JSON and as bytes, and as a raw body."""

import json
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
from service.runtime.session import DTYPES

HEAD = 'schema = 1\ntitle = "t"\n[graph]\noutput = "s"\noutput_kind = "logits"\nclasses = ["a", "b"]\n'
NAMES = {
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bool": "BOOL",
}
VALUES = np.array([[1, 0], [0, 0], [1, 1]])


def repository_of(folder: Path, kind: int, columns: tuple[str, ...]) -> Repository:
    """A repository with `m`, whose logits are its two columns: of one input `x`, or of an input each."""
    width = 2 if len(columns) == 1 else 1
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT) for name in columns]
    nodes.append(helper.make_node("Concat", [f"{name}_" for name in columns], ["s"], axis=1))
    inputs = [helper.make_tensor_value_info(name, kind, [None, width]) for name in columns]
    outputs = [helper.make_tensor_value_info("s", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(np.zeros(1), "unused")])
    path = folder / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    features = 'features = ["p", "q"]\n' if width == 2 else ""
    text = HEAD + "".join(f'[[inputs]]\nname = "{name}"\n{features}' for name in columns)
    repository = Repository(folder / "models")
    create_draft(repository, "m", {"model.onnx": path, "manifest.toml": text})
    publish_draft(repository, "m")
    return repository


@pytest.fixture(params=sorted(DTYPES.values()))
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(request.param)
    return found


@pytest.fixture(params=[("x",), ("p", "q")], ids=["one input", "an input each"])
async def client(
    request: pytest.FixtureRequest, dtype: np.dtype[Any], tmp_path: Path, client_of: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    async with client_of(load_registry(repository_of(tmp_path, kind, request.param))) as running:
        yield running


def parts(names: list[str]) -> list[tuple[str, np.ndarray[Any, Any]]]:
    return [("x", VALUES)] if names == ["x"] else [("p", VALUES[:, :1]), ("q", VALUES[:, 1:])]


async def inputs_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v2/models/m")).json()["inputs"]
    return found


def logits(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    return np.array(output["data"]).reshape(-1, 2).astype(int).tolist()


async def test_v2_names_the_graph_s_type_and_takes_it(client: httpx.AsyncClient, dtype: np.dtype[Any]) -> None:
    entries = await inputs_of(client)
    assert {entry["datatype"] for entry in entries} == {NAMES[dtype.name]}
    blobs = []
    plain, binary = [], []
    for name, values in parts([entry["name"] for entry in entries]):
        head = {"name": name, "shape": list(values.shape), "datatype": NAMES[dtype.name]}
        plain.append({**head, "data": values.astype(dtype).ravel().tolist()})
        blobs.append(values.astype(dtype).tobytes())
        binary.append({**head, "parameters": {"binary_data_size": len(blobs[-1])}})
    outputs = [{"name": "logits"}]
    answer = await client.post("/v2/models/m/infer", json={"inputs": plain, "outputs": outputs})
    assert logits(answer) == VALUES.tolist()
    text = json.dumps({"inputs": binary, "outputs": outputs}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    answer = await client.post("/v2/models/m/infer", content=text + b"".join(blobs), headers=headers)
    assert logits(answer) == VALUES.tolist()


async def test_a_raw_body_is_of_the_graph_s_type(client: httpx.AsyncClient, dtype: np.dtype[Any]) -> None:
    raw, headers = VALUES.astype(dtype).tobytes(), {"inference-header-content-length": "0"}
    answer = await client.post("/v2/models/m/infer", content=raw, headers=headers)
    several = len(await inputs_of(client)) > 1
    assert answer.status_code == (422 if several else 200), answer.text


async def test_v1_takes_zero_and_one_everywhere(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models/m:predict", json={"instances": VALUES.tolist()})
    told = [row["probabilities"]["b"] > row["probabilities"]["a"] for row in answer.json()["predictions"]]
    assert told == [False, False, False]


# ------------------------------------------------------------------------------------------------------------ booleans


@pytest.fixture
async def flags(tmp_path: Path, client_of: Callable[..., httpx.AsyncClient]) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(load_registry(repository_of(tmp_path, TensorProto.BOOL, ("p", "q")))) as running:
        yield running


@pytest.mark.parametrize("cells", [[True, False], [1, 0], [1.0, 0.0]])
async def test_v1_takes_true_and_false_or_one_and_zero(cells: list[object], flags: httpx.AsyncClient) -> None:
    for row in (cells, dict(zip("pq", cells, strict=True))):
        answer = await flags.post("/v1/models/m:predict", json={"instances": [row]})
        (found,) = answer.json()["predictions"]
        assert found["probabilities"]["a"] == pytest.approx(1 / (1 + np.exp(-1.0)))


@pytest.mark.parametrize("cell", [2, 0.5, "true", None, []])
async def test_v1_refuses_what_is_neither(cell: object, flags: httpx.AsyncClient) -> None:
    answer = await flags.post("/v1/models/m:predict", json={"instances": [[True, cell]]})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/instances/0/1"


async def infer(client: httpx.AsyncClient, entries: list[dict[str, Any]], blob: bytes = b"") -> httpx.Response:
    text = json.dumps({"inputs": entries, "outputs": [{"name": "logits"}]}).encode()
    headers = {"inference-header-content-length": str(len(text))} if blob else {}
    return await client.post("/v2/models/m/infer", content=text + blob, headers=headers)


@pytest.mark.parametrize("data", [[True, False], [1, 0], [[True], [False]]])
async def test_v2_takes_booleans_as_json_says_them(data: list[object], flags: httpx.AsyncClient) -> None:
    entries = [{"name": name, "shape": [2, 1], "datatype": "BOOL", "data": data} for name in "pq"]
    assert logits(await infer(flags, entries)) == [[1, 1], [0, 0]]


@pytest.mark.parametrize("data", [[2, 0], ["true", "false"], [None, True]])
async def test_v2_refuses_what_is_no_boolean(data: list[object], flags: httpx.AsyncClient) -> None:
    entries = [{"name": name, "shape": [2, 1], "datatype": "BOOL", "data": data} for name in "pq"]
    answer = await infer(flags, entries)
    assert answer.status_code == 422
    assert ("it is missing" if None in data else "true") in answer.json()["error"]


async def test_v2_refuses_bytes_that_are_no_boolean(flags: httpx.AsyncClient) -> None:
    sizes = {"parameters": {"binary_data_size": 2}}
    entries = [{"name": name, "shape": [2, 1], "datatype": "BOOL", **sizes} for name in "pq"]
    assert logits(await infer(flags, entries, b"\x01\x00\x00\x01")) == [[1, 0], [0, 1]]
    answer = await infer(flags, entries, b"\x01\x02\x00\x01")
    assert answer.status_code == 422
    assert "'p': must be true or false" in answer.json()["error"]


async def test_v2_refuses_booleans_where_numbers_are_taken(
    tmp_path: Path, client_of: Callable[..., httpx.AsyncClient]
) -> None:
    async with client_of(load_registry(repository_of(tmp_path, TensorProto.FLOAT, ("p", "q")))) as client:
        entries = [{"name": name, "shape": [1, 1], "datatype": "BOOL", "data": [True]} for name in "pq"]
        answer = await infer(client, entries)
    assert answer.status_code == 422
    assert "inputs.0.datatype: must be of numbers, such as FP32" in answer.json()["error"]
