"""Small graphs of our own, and bundles around them."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle.manifest import Manifest, parse_manifest
from service.bundle.repository import Bundle, Repository
from service.bundle.writer import create_draft

HEAD = 'schema = 1\ntitle = "t"\n[graph]\noutput = "{output}"\noutput_kind = "{kind}"\nclasses = {classes}\n'


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """Parses a manifest around the lines that matter."""

    def make(
        tail: str, *, output: str = "scores", kind: str = "logits", classes: tuple[str, ...] = ("a", "b")
    ) -> Manifest:
        return parse_manifest(HEAD.format(output=output, kind=kind, classes=list(classes)) + tail)

    return make


@pytest.fixture
def graph_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a graph of nodes between typed inputs and outputs; shapes are ``(rows, columns)``."""

    def write(
        nodes: list[onnx.NodeProto],
        inputs: dict[str, tuple[int, list[int | None]]],
        outputs: dict[str, tuple[int, list[int | None]]],
        constants: tuple[onnx.TensorProto, ...] = (),
    ) -> Path:
        def infos(tensors: dict[str, tuple[int, list[int | None]]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, *spec) for name, spec in tensors.items()]

        graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), list(constants))
        path = tmp_path / "graph.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write


@pytest.fixture
def mixed_graph(graph_of: Callable[..., Path]) -> Path:
    """Inputs of every type that rows can fill, summed into one logit: float (2 columns), double, int64 and int32."""
    columns = {"f": TensorProto.FLOAT, "d": TensorProto.DOUBLE, "n": TensorProto.INT64, "m": TensorProto.INT32}
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT) for name in columns]
    nodes.append(helper.make_node("Concat", [f"{name}_" for name in columns], ["joined"], axis=1))
    nodes.append(helper.make_node("ReduceSum", ["joined", "axes"], ["scores"], keepdims=1))
    inputs = {name: (kind, [None, 2 if name == "f" else 1]) for name, kind in columns.items()}
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    return graph_of(nodes, inputs, {"scores": (TensorProto.FLOAT, [None, 1])}, (axes,))


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[..., Bundle]:
    """Lays a graph and the text of its manifest out as a draft, and reads it."""

    def make(
        graph: Path, tail: str, *, output: str = "scores", kind: str = "logits", classes: tuple[str, ...] = ("a", "b")
    ) -> Bundle:
        repository = Repository(tmp_path / "bundles")
        text = HEAD.format(output=output, kind=kind, classes=list(classes)) + tail
        create_draft(repository, "tiny", {"model.onnx": graph, "manifest.toml": text}, force=True)
        return repository.draft("tiny")

    return make
