"""PyTorch through both of its exporters, and Keras on top of it."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.conformance.case import FLOAT16, Case, draw, softmax, two
from tests.conformance.from_sklearn import Exporter

VOCABULARY = 20


@contextmanager
def hushed() -> Iterator[None]:
    """Exporters warn of their own deprecation and print what they do."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def export(model: Any, example: tuple[Any, ...], path: Path, **how: Any) -> Any:
    """Write the file; the answer is the model, ready for rows."""
    torch = pytest.importorskip("torch")
    model.eval()
    with hushed(), torch.no_grad():
        torch.onnx.export(model, example, str(path), **how)
    return model


def script(model: Any, example: tuple[Any, ...], path: Path, inputs: list[str], axes: dict[int, str]) -> Any:
    """Use the older exporter, with named inputs whose ``axes`` vary."""
    how = {"dynamo": False, "input_names": inputs, "dynamic_axes": dict.fromkeys(inputs, axes), "opset_version": 17}
    return export(model, example, path, **how)


def ask(model: Any, *tensors: Any) -> Any:
    """Answer of a torch model as an array."""
    with pytest.importorskip("torch").no_grad():
        return model(*tensors).float().numpy()


def perceptron(classes: int, *last: Any, hidden: int = 8) -> Any:
    """Two layers from four features, the same each time."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, classes), *last)


def tabular(to_probabilities: Callable[[Any], Any], classes: int, **how: Any) -> Exporter:
    """A small network over four features, by the newer exporter."""

    def exporter(path: Path) -> Case:
        torch = pytest.importorskip("torch")
        rows = draw(5, 4)
        network = perceptron(classes, hidden=how.get("hidden", 8))
        model = export(network, (torch.from_numpy(rows[: how.get("batch", 2)]),), path, **how.get("to", {}))
        names = tuple(map(str, range(max(classes, 2))))
        return Case(path, rows.tolist(), to_probabilities(ask(model, torch.from_numpy(rows))), names)

    return exporter


def activated(activation: str, classes: int, flags: dict[str, Any], to: Callable[[Any], Any], task: str) -> Exporter:
    """A small network whose last layer is an activation, by the older exporter."""

    def exporter(path: Path) -> Case:
        torch = pytest.importorskip("torch")
        last = {
            "Softmax": [torch.nn.Softmax(dim=1)],
            "LogSoftmax": [torch.nn.LogSoftmax(dim=1)],
            "Sigmoid": [torch.nn.Sigmoid()],
            "flat Sigmoid": [torch.nn.Sigmoid(), torch.nn.Flatten(0)],
            "none": [],
        }[activation]
        rows = torch.from_numpy(draw(5, 4))
        model = script(perceptron(classes, *last), (rows,), path, ["x"], {0: "batch"})
        names = flags.get("classes", tuple(map(str, range(max(classes, 2)))))
        return Case(path, rows.tolist(), to(ask(model, rows)), names, flags, task=task)

    return exporter


def half(path: Path) -> Case:
    """Input, weights and output in float16."""
    torch = pytest.importorskip("torch")
    rows = torch.from_numpy(draw(5, 4))
    model = script(perceptron(3).half(), (rows.half(),), path, ["x"], {0: "batch"})
    expected = softmax(ask(model, rows.half()))
    return Case(path, rows.half().float().tolist(), expected, ("0", "1", "2"), tolerance=FLOAT16)


def image(path: Path, *, channels_last: bool = False, whole: bool = False) -> Case:
    """Pixels (NCHW or NHWC, floats or bytes) to `[N, K, 1, 1]`."""
    torch = pytest.importorskip("torch")
    module: Any = torch.nn.Module

    class Convolution(module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(5, 4, 1)
            )

        def forward(self, x: Any) -> Any:
            pixels = x.permute(0, 3, 1, 2) if channels_last else x
            return self.layers(pixels.float() / 255.0 if whole else pixels)

    shape = (6, 6, 3) if channels_last else (3, 6, 6)
    values = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8) if whole else draw(3, *shape)
    model = script(Convolution(), (torch.from_numpy(values),), path, ["pixels"], {0: "batch"})
    expected = softmax(ask(model, torch.from_numpy(values)).reshape(3, 4))
    return Case(path, values.tolist(), expected, ("0", "1", "2", "3"))


def segmentation(path: Path) -> Case:
    """Classes on axis 1, one answer per pixel; the positions are the pixels, row by row."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    pixels = torch.from_numpy(draw(2, 3, 4, 5))
    model = script(torch.nn.Conv2d(3, 4, 3, padding=1), (pixels,), path, ["pixels"], {0: "batch"})
    scores = ask(model, pixels).transpose(0, 2, 3, 1).reshape(2, 20, 4)
    return Case(path, pixels.tolist(), softmax(scores), ("0", "1", "2", "3"), task="sequence")


def reader(torch: Any, *, tagging: bool) -> Any:
    """A tiny text model over token ids and their mask: one answer per text, or one per token."""
    module: Any = torch.nn.Module

    class Reader(module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed = torch.nn.Embedding(VOCABULARY, 6)
            self.head = torch.nn.Linear(6, 3)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            mask = attention_mask.unsqueeze(-1).float()
            words = self.embed(input_ids) * mask
            mean = words.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
            return self.head(words + mean) if tagging else self.head(mean.squeeze(1))

    return Reader()


def tokens(path: Path, *, tagging: bool) -> Case:
    """Token ids of unequal length; the mask is the service's to fill."""
    torch = pytest.importorskip("torch")
    texts = [[3, 4, 5], [7], [1, 2, 3, 4, 19]]
    example = (torch.ones(2, 4, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64))
    names = ["input_ids", "attention_mask"]
    model = script(reader(torch, tagging=tagging), example, path, names, {0: "batch", 1: "sequence"})
    answers = [softmax(ask(model, torch.tensor([t]), torch.ones(1, len(t), dtype=torch.int64)))[0] for t in texts]
    expected = np.full((3, 5, 3), np.nan) if tagging else np.stack(answers)
    for row, answer in enumerate(answers if tagging else []):
        expected[row, : len(answer)] = answer
    instances = [{"input_ids": text} for text in texts]
    return Case(path, instances, expected, ("0", "1", "2"), task="sequence" if tagging else "multiclass")


def heads(path: Path) -> Case:
    """Two outputs, of which the user must say which carries the scores."""
    torch = pytest.importorskip("torch")
    module: Any = torch.nn.Module

    class Heads(module):
        def __init__(self) -> None:
            super().__init__()
            self.body = perceptron(8)
            self.site, self.grade = torch.nn.Linear(8, 2), torch.nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            y = self.body(x)
            return self.site(y), self.grade(y)

    rows = torch.from_numpy(draw(5, 4))
    how = {"dynamo": False, "input_names": ["x"], "output_names": ["site", "grade"], "opset_version": 17}
    model = export(Heads(), (rows,), path, dynamic_axes={"x": {0: "batch"}}, **how)
    with torch.no_grad():
        expected = softmax(model(rows)[1].numpy())
    return Case(path, rows.tolist(), expected, ("0", "1", "2"), {"output": "grade"})


def int8(path: Path) -> Case:
    """Dynamically quantised by ONNX Runtime; its own float answers are what the int8 ones come near."""
    pytest.importorskip("torch")
    from onnxruntime.quantization import quantize_dynamic

    with hushed():
        case = activated("Softmax", 3, {}, lambda p: p, "multiclass")(path.with_suffix(".float.onnx"))
        quantize_dynamic(case.path, path)
    case.path, case.tolerance = path, 3e-2
    return case


def without_shapes(path: Path) -> Case:
    """No shape of any input or output is declared."""
    case = activated("Softmax", 3, {"features": ("a", "b", "c", "d")}, lambda p: p, "multiclass")(path)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    onnx.save(model, path)
    return case


def old(path: Path) -> Case:
    """Opset 7, IR 3: as old as ONNX Runtime takes."""
    rows, weights = draw(5, 4), draw(4, 3, seed=3)
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["z"]), onnx.helper.make_node("Softmax", ["z"], ["p"], axis=1)],
        "old",
        [
            onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 4]),
            onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 3]),  # IR 3 lists weights as inputs
        ],
        [onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, [None, 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 7)], ir_version=3), path)
    return Case(path, rows.tolist(), softmax(rows.astype(float) @ weights), ("0", "1", "2"))


def keras(units: int, activation: str, flags: dict[str, Any], to: Callable[[Any], Any]) -> Exporter:
    """A Keras network with its activation inside, as Keras users export them."""

    def exporter(path: Path) -> Case:
        pytest.importorskip("torch")
        os.environ.setdefault("KERAS_BACKEND", "torch")
        with hushed():
            layers = pytest.importorskip("keras")
            layers.utils.set_random_seed(0)
            inside, last = layers.layers.Dense(6, activation="relu"), layers.layers.Dense(units, activation=activation)
            model = layers.Sequential([layers.Input((4,)), inside, last])
            rows = draw(5, 4)
            expected = np.asarray(model.predict(rows, verbose=0))
            model.export(str(path), format="onnx", verbose=False)
        names = flags.get("classes", tuple(map(str, range(max(units, 2)))))
        return Case(path, rows.tolist(), to(expected), names, flags)

    return exporter


def _as_is(p: Any) -> Any:
    return p.astype(np.float64)


def _odds(z: Any) -> Any:
    return two(1.0 / (1.0 + np.exp(-z.astype(np.float64))))


NO_YES = {"classes": ("no", "yes")}
LABELS = {"task": "multilabel", "classes": ("fever", "cough", "rash")}

EXPORTERS: dict[str, Exporter] = {
    "torch-static-batch": tabular(softmax, 3, batch=1),
    "torch-external-data": tabular(softmax, 3, batch=1, hidden=600),  # small weights stay in the graph
    "torch-dynamic-batch": tabular(softmax, 3, to={"dynamic_shapes": ({0: "batch"},), "external_data": False}),
    "torch-script": activated("none", 3, {}, softmax, "multiclass"),
    "torch-softmax": activated("Softmax", 3, {}, _as_is, "multiclass"),
    "torch-log-softmax": activated("LogSoftmax", 3, {}, lambda z: np.exp(z.astype(float)), "multiclass"),
    "torch-one-logit": activated("none", 1, NO_YES, _odds, "multiclass"),
    "torch-one-probability": activated("Sigmoid", 1, NO_YES, two, "multiclass"),
    "torch-flat-probability": activated("flat Sigmoid", 1, NO_YES, two, "multiclass"),
    "torch-multilabel": activated("Sigmoid", 3, LABELS, _as_is, "multilabel"),
    "torch-float16": half,
    "torch-heads": heads,
    "torch-image": image,
    "torch-image-bytes": lambda path: image(path, channels_last=True, whole=True),
    "torch-segmentation": segmentation,
    "torch-tokens": lambda path: tokens(path, tagging=False),
    "torch-tagger": lambda path: tokens(path, tagging=True),
    "torch-int8": int8,
    "no-shapes": without_shapes,
    "old-opset": old,
    "keras-softmax": keras(3, "softmax", {}, _as_is),
    "keras-sigmoid": keras(1, "sigmoid", NO_YES, two),
}
