"""DOUBLE inputs never pass through singles on their way to the graph."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.fitting.publish import publish_draft
from service.runtime.registry import Registry, load_registry
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest

TEXT = """\
schema = 1
title = "doubles"
[graph]
output = "s"
output_kind = "logits"
classes = ["a", "b"]
[[inputs]]
name = "d"
"""
VALUES = [1.0 + 2.0**-40, 1.0 - 3 * 2.0**-42, 1.0]
ANSWERS = [2.0**-10, -3 * 2.0**-12, 0.0]  # of the second class' logit


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A model whose second logit is 2^30 times what a single loses of its input."""
    folder = tmp_path_factory.mktemp("doubles")
    nodes = [
        helper.make_node("Cast", ["d"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["single"], ["rounded"], to=TensorProto.DOUBLE),
        helper.make_node("Sub", ["d", "rounded"], ["lost"]),
        helper.make_node("Mul", ["lost", "scale"], ["s"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("d", TensorProto.DOUBLE, ["rows", 1])],
        [helper.make_tensor_value_info("s", TensorProto.DOUBLE, ["rows", 2])],
        [numpy_helper.from_array(np.array([[0.0, 2.0**30]]), "scale")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "g.onnx")
    repository = Repository(folder / "models")
    create_draft(repository, "doubles", {"model.onnx": folder / "g.onnx", "manifest.toml": TEXT})
    publish_draft(repository, "doubles")
    return load_registry(repository)


@pytest.fixture
async def client(client_of: Callable[..., httpx.AsyncClient], registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(registry) as running:
        yield running


@pytest.mark.parametrize("parameters", [{}, {"ids": ["1", "2", "3"]}])
async def test_v1_keeps_doubles(parameters: dict[str, object], client: httpx.AsyncClient) -> None:
    body = {"instances": [[value] for value in VALUES], "parameters": parameters}
    rows = (await client.post("/v1/models/doubles:predict", json=body)).json()["predictions"]
    found = [np.log(row["probabilities"]["b"] / row["probabilities"]["a"]) for row in rows]
    np.testing.assert_allclose(found, ANSWERS, rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_v2_keeps_doubles(encoding: str, client: httpx.AsyncClient) -> None:
    values = np.array(VALUES, dtype="<f8")
    entry = {"name": "d", "shape": [3, 1], "datatype": "FP64"}
    more: dict[str, object] = {"data": VALUES} if encoding == "json" else {"parameters": {"binary_data_size": 24}}
    text = json.dumps({"inputs": [{**entry, **more}], "outputs": [{"name": "logits"}]}).encode()
    headers = {"inference-header-content-length": str(len(text))} if encoding == "binary" else {}
    body = text + (values.tobytes() if encoding == "binary" else b"")
    answer = await client.post("/v2/models/doubles/infer", content=body, headers=headers)
    found = np.array(answer.json()["outputs"][0]["data"]).reshape(-1, 2)[:, 1]  # logits are FP32
    np.testing.assert_allclose(found, ANSWERS, rtol=1e-7)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_score_keeps_doubles(kind: str, registry: Registry, tmp_path: Path) -> None:
    data, frame = tmp_path / f"rows.{kind}", pl.DataFrame({"d": VALUES})
    if kind == "npz":
        np.savez(data, allow_pickle=False, d=np.array(VALUES))
    else:
        frame.write_csv(data) if kind == "csv" else frame.write_parquet(data)
    score(registry.model("doubles"), ScoreRequest(data, tmp_path / "out.parquet"))
    answers = pl.read_parquet(tmp_path / "out.parquet")
    found = np.log(answers["probabilities.b"] / answers["probabilities.a"])
    np.testing.assert_allclose(found, ANSWERS, rtol=0, atol=1e-12)
