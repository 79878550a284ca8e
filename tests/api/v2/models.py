"""A small model of every kind that is served: text, pixels, inputs of many types, labels, sequences."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft

Shape = list[int | None]
Tensors = dict[str, tuple[int, Shape]]
node = helper.make_node
OPSETS: Final = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
HEAD: Final = 'schema = 1\ntitle = "{title}"\n[graph]\noutput = "scores"\n'

NOTES: Final = """\
output_kind = "logits"
classes = ["home", "ward"]
[[inputs]]
name = "words"
features = ["place", "arrival"]
[features.place]
categories = ["er", "icu"]
[features.arrival]
missing = { impute = "walk" }
"""
PICTURE: Final = """\
output_kind = "logits"
classes = ["dark", "light"]
[[inputs]]
name = "pixels"
allowed = [0, 250]
"""
STAY: Final = """\
output_kind = "logits"
classes = ["home", "ward"]
[[inputs]]
name = "x"
features = ["age", "pulse"]
[[inputs]]
name = "code"
[[inputs]]
name = "seen"
[[inputs]]
name = "dose"
[[inputs]]
name = "place"
[[inputs]]
name = "ids"
pad = 0
[[inputs]]
name = "mask"
mask = true
[[inputs]]
name = "kinds"
fill = 0
[features.age]
allowed = [0, 120]
[features.pulse]
missing = { impute = 70 }
[features.place]
categories = ["er", "icu"]
"""
COMPLAINTS: Final = """\
output_kind = "sigmoid_logits"
task = "multilabel"
classes = ["ache", "burn", "chill"]
[[inputs]]
name = "x"
features = ["dose"]
[sites.ward]
prevalence = { ache = 0.9, burn = 0.1, chill = 0.5 }
[policies.care.labels.ache.costs]
wait = { absent = 0, present = 9 }
treat = { absent = 1, present = 0 }
call = { absent = 2, present = 2 }
[policies.care.labels.burn.costs]
wait = { absent = 0, present = 1 }
treat = { absent = 1, present = 0 }
"""
MOTION: Final = """\
output_kind = "logits"
task = "sequence"
classes = ["rest", "move"]
[[inputs]]
name = "steps"
pad = 0
[policies.alone.costs]
idle = { rest = 0, move = 4 }
act = { rest = 1, move = 0 }
"""


def write_repository(folder: Path) -> Repository:
    """All models, published; `complaints` and `motion` calibrated."""
    repository = Repository(folder / "models")
    repository.root.mkdir()
    for name, (graph, manifest) in MODELS.items():
        path = folder / f"{name}.onnx"
        onnx.save(graph(), path)
        text = HEAD.format(title=name) + manifest
        create_draft(repository, name, {"model.onnx": path, "manifest.toml": text})
        data = _DATA.get(name)
        if data is None:
            publish_draft(repository, name)
        else:
            np.savez(folder / f"{name}.npz", **data())  # type: ignore[arg-type]  # arrays by name
            fit(repository, name, FitRequest(folder / f"{name}.npz"))
    return repository


def _model(nodes: list[onnx.NodeProto], inputs: Tensors, scores: Shape, **constants: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8)


def _notes() -> onnx.ModelProto:
    """Logits: three for the ICU, two for an ambulance, against one."""
    nodes = [
        node("OneHotEncoder", ["words"], ["hot"], domain="ai.onnx.ml", cats_strings=["icu", "ambulance"], zeros=1),
        node("Reshape", ["hot", "flat"], ["columns"]),
        node("Gemm", ["columns", "w", "b"], ["scores"]),
    ]
    weights = np.array([[0, 3], [0, 0], [0, 0], [0, 2]], dtype=np.float32)
    return _model(
        nodes,
        {"words": (TensorProto.STRING, [None, 2])},
        [None, 2],
        flat=np.array([-1, 4]),
        w=weights,
        b=np.array([1, 0], dtype=np.float32),
    )


def _picture() -> onnx.ModelProto:
    """The sum of the pixels in hundreds against one."""
    nodes = [
        node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        node("Reshape", ["values", "flat"], ["columns"]),
        node("Gemm", ["columns", "w", "b"], ["scores"]),
    ]
    weights = np.stack([np.zeros(6), np.full(6, 0.01)], axis=1).astype(np.float32)
    return _model(
        nodes,
        {"pixels": (TensorProto.UINT8, [None, 2, 3])},
        [None, 2],
        flat=np.array([-1, 6]),
        w=weights,
        b=np.array([1, 0], dtype=np.float32),
    )


def _stay() -> onnx.ModelProto:
    """The sum of all numbers and of the mean id, against ten for the ICU; the code counts modulo ten."""
    nodes = [
        node("Mod", ["code", "ten"], ["digit"]),
        *(node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT) for name in ("digit", "seen", "dose", "ids")),
        node("Mul", ["ids_", "mask"], ["real"]),
        node("ReduceSum", ["real", "last"], ["sum"], keepdims=1),
        node("ReduceSum", ["mask", "last"], ["count"], keepdims=1),
        node("Div", ["sum", "count"], ["mean"]),
        node("Cast", ["kinds"], ["kinds_"], to=TensorProto.FLOAT),
        node("ReduceSum", ["kinds_", "last"], ["kind"], keepdims=1),
        node("Concat", ["x", "digit_", "seen_", "dose_", "mean", "kind"], ["all"], axis=1),
        node("ReduceSum", ["all", "last"], ["first"], keepdims=1),
        node("OneHotEncoder", ["place"], ["hot"], domain="ai.onnx.ml", cats_strings=["icu"], zeros=1),
        node("Reshape", ["hot", "column"], ["icu"]),
        node("Mul", ["icu", "weight"], ["second"]),
        node("Concat", ["first", "second"], ["scores"], axis=1),
    ]
    inputs: Tensors = {
        "x": (TensorProto.FLOAT, [None, 2]),
        "code": (TensorProto.INT64, [None, 1]),
        "seen": (TensorProto.BOOL, [None, 1]),
        "dose": (TensorProto.FLOAT16, [None, 1]),
        "place": (TensorProto.STRING, [None, 1]),
        "ids": (TensorProto.INT64, [None, None]),
        "mask": (TensorProto.FLOAT, [None, None]),
        "kinds": (TensorProto.INT64, [None, None]),
    }
    return _model(
        nodes,
        inputs,
        [None, 2],
        ten=np.array([10]),
        last=np.array([1]),
        column=np.array([-1, 1]),
        weight=np.array([10.0], dtype=np.float32),
    )


SLOPES: Final = np.array([[1.5, -0.5, 1.0]], dtype=np.float32)
INTERCEPTS: Final = np.array([-0.5, 0.2, -1.0], dtype=np.float32)


def _complaints() -> onnx.ModelProto:
    inputs: Tensors = {"x": (TensorProto.FLOAT, [None, 1])}
    return _model([node("Gemm", ["x", "w", "b"], ["scores"])], inputs, [None, 3], w=SLOPES, b=INTERCEPTS)


def _motion() -> onnx.ModelProto:
    """Twice the step against nothing, position by position."""
    nodes = [node("Unsqueeze", ["steps", "axes"], ["column"]), node("MatMul", ["column", "w"], ["scores"])]
    inputs: Tensors = {"steps": (TensorProto.FLOAT, [None, None])}
    return _model(nodes, inputs, [None, None, 2], axes=np.array([2]), w=np.array([[0.0, 2.0]], dtype=np.float32))


def _complaint_rows() -> dict[str, object]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1)).astype(np.float32)
    return {"X": x, "y": (rng.random((600, 3)) < 1.0 / (1.0 + np.exp(-(x @ SLOPES + INTERCEPTS)))).astype(np.int64)}


def _motion_rows() -> dict[str, object]:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(200, 6)).astype(np.float32)
    labels = (rng.random(steps.shape) < 1.0 / (1.0 + np.exp(-2.0 * steps))).astype(np.int64)
    lengths = rng.integers(2, 7, size=200)
    behind = np.arange(6) >= lengths[:, None]
    return {"steps": np.where(behind, 0, steps), "y": np.where(behind, -1, labels), "lengths": lengths}


_DATA: Final[dict[str, Callable[[], dict[str, object]]]] = {"complaints": _complaint_rows, "motion": _motion_rows}
MODELS: Final[dict[str, tuple[Callable[[], onnx.ModelProto], str]]] = {
    "notes": (_notes, NOTES),
    "picture": (_picture, PICTURE),
    "stay": (_stay, STAY),
    "complaints": (_complaints, COMPLAINTS),
    "motion": (_motion, MOTION),
}
