"""Models whose graph goes on for as long as its first input says."""

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.fitting.publish import publish_draft

STEPS = float(1 << 60)
MANIFEST = """\
schema = 1
title = "as long as its first input says"
[graph]
output = "scores"
output_kind = "logits"
classes = ["a", "b"]
[[inputs]]
name = "x"
features = ["amount", "other"]
[runtime]
execution = "{execution}"
queue = {queue}
"""


def published(
    repository: Repository,
    scratch: Path,
    name: str,
    *,
    execution: str = "thread",
    queue: int = 1024,
    graph: ModelProto | None = None,
) -> None:
    """Publish one under a name: of a loop of as many steps as its first input says, or of a graph."""
    path = scratch / f"{name}.onnx"
    save(_loop() if graph is None else graph, path)
    text = MANIFEST.format(execution=execution, queue=queue)
    create_draft(repository, name, {"model.onnx": path, "manifest.toml": text})
    publish_draft(repository, name)


def _loop() -> ModelProto:
    node, info = helper.make_node, helper.make_tensor_value_info
    step = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["total", "one"], ["next"])],
        "step",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("total", TensorProto.FLOAT, [1]),
        ],
        [info("go_on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, [1])],
    )
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Cast", ["most"], ["steps"], to=TensorProto.INT64),
        node("Loop", ["steps", "", "zero"], ["total"], body=step),
        node("Mul", ["total", "zero"], ["nothing"]),
        node("Add", ["x", "nothing"], ["scores"]),
    ]
    constants = {"zero": [0.0], "one": [1.0]}
    graph = helper.make_graph(
        nodes,
        "endless",
        [info("x", TensorProto.FLOAT, [None, 2])],
        [info("scores", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
