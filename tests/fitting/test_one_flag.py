"""Calibration rows keep their flags and p-values on every path, whatever kind of model they were fitted for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.core.numerics import Array
from service.core.ood import SCORES
from service.fitting.fit import FitRequest, fit
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime.model import Model, load_model

ROWS, FEATURES, HIDDEN = 330, 24, 96
ON_LOGITS = [name for name, score in SCORES.items() if score.needs in ("logits", "probabilities")]
ON_PROBABILITIES = [name for name, score in SCORES.items() if score.needs == "probabilities"]
ON_FEATURES = ["mahalanobis", "relative_mahalanobis", "knn", "vim"]


Weights = dict[str, npt.NDArray[np.float32]]


def weights_of(outputs: int, scale: float) -> Weights:
    rng = np.random.default_rng(1)
    sizes = {"w": (FEATURES, HIDDEN), "u": (HIDDEN, outputs)}
    weights = {name: rng.normal(size=size, scale=size[0] ** -0.5).astype(np.float32) for name, size in sizes.items()}
    weights["u"] *= np.float32(scale)
    return weights


def network(path: Path, weights: Weights, *, ends: str | None) -> Path:
    """Two layers of float32 with ``ends`` after them, and the hidden layer as an output beside."""
    outputs = weights["u"].shape[1]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wx"]),
        helper.make_node("Tanh", ["wx"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "u"], ["z"]),
    ]
    if ends is not None:
        nodes.append(helper.make_node(ends, ["z"], ["p"]))
    shown = [("p" if ends else "z", outputs), ("hidden", HIDDEN)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FEATURES])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in shown],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def drawn(logits: Array, task: str, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    if task == "multilabel":
        return (logits > rng.logistic(size=logits.shape)).astype(np.intp)
    if logits.shape[1] == 1:
        return (logits[:, 0] > rng.logistic(size=len(logits))).astype(np.intp)
    found: npt.NDArray[np.intp] = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return found


CASES: dict[str, dict[str, Any]] = {
    "three logits": {"k": 3, "scores": ON_LOGITS},
    "three logits, within classes": {"k": 3, "scores": ON_LOGITS, "more": "per_class = true"},
    "many logits, in float32": {"k": 130, "scores": ON_LOGITS},
    "large logits": {"k": 4, "scores": ON_LOGITS, "scale": 300.0},
    "probabilities": {"k": 3, "scores": ON_PROBABILITIES, "ends": "Softmax", "kind": "probabilities"},
    "two probabilities": {"k": 2, "scores": ["nll", "entropy", "margin"], "ends": "Softmax", "kind": "probabilities"},
    "one column": {"k": 2, "columns": 1, "scores": ["nll", "margin"], "ends": "Sigmoid", "kind": "probabilities"},
    "inputs": {"k": 3, "scores": ON_FEATURES},
    "a hidden layer": {"k": 3, "scores": ON_FEATURES, "more": 'space = "hidden"'},
    "labels": {
        "k": 5, "scores": ["joint_energy", "max_label"], "ends": "Sigmoid", "kind": "sigmoid_probabilities",
        "task": "multilabel",
    },
}  # fmt: skip


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., tuple[Model, Array]]:
    def make(
        *, k: int, scores: list[str], columns: int | None = None, ends: str | None = None, kind: str = "logits",
        task: str = "multiclass", more: str = "", scale: float = 3.0,
    ) -> tuple[Model, Array]:  # fmt: skip
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(2 * ROWS, FEATURES)) * np.logspace(-1, 1, FEATURES) ** 0.5 + 3.0
        rows[1::9] = rows[::9][: len(rows[1::9])]  # repeated rows tie
        weights = weights_of(columns or k, scale)
        graph = network(tmp_path / "model.onnx", weights, ends=ends)
        labels = drawn(np.tanh(rows @ weights["w"]) @ weights["u"], task, rng)
        repository = Repository(tmp_path / "models")
        repository.root.mkdir()
        declared = Declared(
            output="p" if ends else "z", output_kind=kind, classes=tuple(f"c{i}" for i in range(k)), task=task
        )
        draft = import_model(repository, "m", graph, declared).draft
        listed = ", ".join(f'"{name}"' for name in scores)
        text = (draft / MANIFEST_FILE).read_text()
        (draft / MANIFEST_FILE).write_text(f"{text}\n[ood]\nscores = [{listed}]\nfalse_alarm = 0.4\n{more}\n")
        cal, train = tmp_path / "cal.npz", tmp_path / "train.npz"
        np.savez(cal, X=rows[:ROWS], y=labels[:ROWS])
        np.savez(train, X=rows[ROWS:], y=labels[ROWS:])
        request = FitRequest(cal, train_data=train, calibrator="identity")
        return load_model(repository.bundle("m", fit(repository, "m", request).version)), rows[:ROWS]

    return make


@pytest.mark.parametrize("case", CASES)
def test_calibration_rows_keep_flags_and_p_values_on_every_path(
    case: str, fitted: Callable[..., tuple[Model, Array]]
) -> None:
    model, rows = fitted(**CASES[case])
    whole = model.posterior(rows)
    assert whole.p_values is not None
    assert whole.flagged is not None
    assert 0 < whole.flagged.sum() < ROWS
    expected = np.column_stack([whole.p_values, np.asarray(whole.flags), whole.flagged, np.asarray(whole.p_value)])
    for size in (1, 2, 7, 64):
        parts = [model.posterior(rows[i : i + size]) for i in range(0, ROWS, size)]
        found = np.concatenate([np.column_stack([p.p_values, p.flags, p.flagged, p.p_value]) for p in parts])  # type: ignore[list-item]
        np.testing.assert_array_equal(found, expected)
