"""Graphs of a few operators, in one call each; some of them never end, or need more memory than there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.bundle.sums import GRAPH_FILE
from service.bundle.writer import create_draft, publish

FLOAT = TensorProto.FLOAT
MANIFEST = """\
schema = 1
title = "two numbers"
[graph]
output = "s"
output_kind = "logits"
classes = ["a", "b"]
[[inputs]]
name = "x"
features = ["first", "second"]
"""

Build = Callable[[Path], object]


def value(name: str, shape: list[Any] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    """A declared tensor."""
    return helper.make_tensor_value_info(name, kind, shape)


def weights(name: str, array: Any) -> onnx.TensorProto:
    """An initialiser in float32, or as it is if it holds whole numbers."""
    array = np.asarray(array)
    return numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(np.float32), name)


def graph(
    *nodes: onnx.NodeProto,
    constants: tuple[onnx.TensorProto, ...] = (),
    inputs: tuple[onnx.ValueInfoProto, ...] = (value("x", [None, 2]),),
    outputs: tuple[onnx.ValueInfoProto, ...] = (value("s", [None, 2]),),
    opset: int = 17,
    ir: int = 8,
    domain: str = "ai.onnx.ml",
) -> Build:
    """A file of these operators."""
    made = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(domain, 3 if domain == "ai.onnx.ml" else 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=ir)
    return lambda path: onnx.save(model, path)


def node(operator: str, inputs: str = "x", output: str = "s", **attributes: Any) -> onnx.NodeProto:
    """An operator; its domain follows from its name."""
    domain = "ai.onnx.ml" if operator.endswith(("Classifier", "Regressor")) else ""
    return helper.make_node(operator, inputs.split(), output.split(), domain=domain, **attributes)


def loop() -> Build:
    """Adds one, 2^62 times."""
    body = helper.make_graph(
        [node("Add", "v one", "w"), node("Identity", "go", "on")],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v", [None, 2])],
        [value("on", [], TensorProto.BOOL), value("w", [None, 2])],
        [weights("one", [1.0])],
    )
    trips = weights("trips", np.array(2**62, dtype=np.int64))
    go = numpy_helper.from_array(np.array(True), "go0")
    return graph(node("Loop", "trips go0 x", "s", body=body), constants=(trips, go))


def slow_load() -> Build:
    """Compares a million boxes of a constant with each other before ONNX Runtime has a session; needs little memory."""
    many = 1_000_000
    sizes = {"corners": [1, many, 4], "rows": [1, 1, many], "most": [1]}
    shapes = [weights(f"{name}_shape", np.array(size, dtype=np.int64)) for name, size in sizes.items()]
    fill = {"corners": weights("v", [0.5]), "rows": weights("v", [0.5]), "most": weights("v", np.array([many]))}
    filled = [node("ConstantOfShape", f"{name}_shape", name, value=fill[name]) for name in sizes]
    tail = [
        node("NonMaxSuppression", "corners rows most one", "kept"),
        node("Cast", "kept", "indices", to=onnx.TensorProto.FLOAT),
        node("ReduceMean", "indices", "mean", keepdims=0),
        node("Add", "x mean", "s"),
    ]
    return graph(*filled, *tail, constants=(*shapes, weights("one", [1.0])))


def big_tensor(cells: int) -> Build:
    """Fills a tensor of a size that its input tells, so that nothing can be known beforehand."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Mul", "shape many", "large"),
        node("ConstantOfShape", "large", "zeros"),
        node("ReduceSum", "zeros", "sum", keepdims=0),
        node("Add", "x sum", "s"),
    ]
    return graph(*nodes, constants=(weights("many", np.array([1, cells], dtype=np.int64)),))


def draft_unloaded(repository: Repository, folder: Path, name: str, build: Build) -> None:
    """Put a graph of two columns and two logits into a repository as a draft; nothing loads it."""
    build(folder / "unloaded.onnx")
    create_draft(repository, name, {GRAPH_FILE: folder / "unloaded.onnx", MANIFEST_FILE: MANIFEST})


def publish_unloaded(repository: Repository, folder: Path, name: str, build: Build) -> int:
    """Put a graph of two columns and two logits into a repository as a version; nothing loads it on the way."""
    draft_unloaded(repository, folder, name, build)
    return publish(repository, repository.draft(name), record=None, state={})
