"""What a caller learns when a graph cannot answer, or not in time."""

from collections.abc import Callable
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.fitting.publish import publish_draft
from service.runtime.registry import Registry, load_registry

MANIFEST = """\
schema = 1
title = "a table of three"
[graph]
output = "scores"
output_kind = "logits"
classes = ["a", "b"]
[[inputs]]
name = "x"
"""
PATH = "/v1/models/table:predict"


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Registry]:
    """Publishes a graph that looks its one feature up in a table of three, and fails beyond it."""

    def made(tail: str = "") -> Registry:
        graph = helper.make_graph(
            [helper.make_node("Gather", ["table", "x"], ["scores"])],
            "table",
            [helper.make_tensor_value_info("x", TensorProto.INT64, [None, 1])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
            [helper.make_tensor("table", TensorProto.FLOAT, [3], [-1.0, 0.0, 1.0])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "table.onnx")
        repository = Repository(tmp_path / "repository")
        repository.root.mkdir()
        create_draft(repository, "table", {"model.onnx": tmp_path / "table.onnx", "manifest.toml": MANIFEST + tail})
        publish_draft(repository, "table")
        return load_registry(repository)

    return made


async def test_rows_that_the_graph_fails_on_are_the_caller_s_and_pointed_to(
    publish: Callable[..., Registry], client_of: Callable[..., httpx.AsyncClient]
) -> None:
    async with client_of(publish()) as client:
        answer = await client.post(PATH, json={"instances": [[0], [77], [2], [-99]]})
        good = await client.post(PATH, json={"instances": [[0], [2]]})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:temperance:problem:model-output-invalid")
    assert [entry["pointer"] for entry in answer.json()["errors"]] == ["/instances/1", "/instances/3"]
    assert "77" not in f"{answer.json()['detail']} {answer.json()['errors']}"
    assert good.status_code == 200


@pytest.mark.parametrize("where", ["setting", "manifest"])
async def test_a_request_that_is_out_of_time_is_a_504(
    where: str, publish: Callable[..., Registry], client_of: Callable[..., httpx.AsyncClient]
) -> None:
    registry = publish("[runtime]\ndeadline = 1e-9\n" if where == "manifest" else "")
    settings = {"deadline": 1e-9} if where == "setting" else {}
    async with client_of(registry, **settings) as client:
        answer = await client.post(PATH, json={"instances": [[0]] * 10})
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:temperance:problem:deadline-exceeded")
