"""Models of other kinds than rows of numbers with one class: several labels, sequences, texts."""

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import tomlkit
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.repository import Repository
from service.fitting.fit import FitRequest, fit
from service.importer.declared import Declared
from service.importer.import_model import import_model

MULTILABEL, SEQUENCE, TEXT = "findings", "tagger", "notes"
WIDTH: Final = 30
LABELS: Final = ("fever", "cough", "rash", "ache", "chill")
STATES: Final = ("rest", "move")
LENGTH: Final = 25
WORDS: Final = (
    "chest",
    "pain",
    "on",
    "exertion",
    "mild",
    "headache",
    "nausea",
    "crushing",
    "and",
    "cough",
    "since",
    "today",
)
OPSET: Final = {"": 17, "ai.onnx.ml": 3}


def publish_all(models: Path) -> None:
    """Version 1 of every model, calibrated."""
    for publish in (_multilabel, _sequence, publish_text):
        with tempfile.TemporaryDirectory() as scratch:
            publish(Repository(models), Path(scratch))


def multilabel_row() -> list[float]:
    """Numbers with four digits."""
    row: list[float] = np.random.default_rng(0).normal(size=WIDTH).round(4).tolist()
    return row


def sequence_row() -> list[float]:
    """One number for every position."""
    row: list[float] = np.random.default_rng(1).normal(size=LENGTH).round(4).tolist()
    return row


def text_row() -> list[str]:
    """Five words."""
    return ["crushing chest pain since today"]


def _multilabel(repository: Repository, scratch: Path) -> None:
    rng = np.random.default_rng(2)
    weight = rng.normal(0.0, 0.4, (WIDTH, len(LABELS))).astype(np.float32)
    x = rng.normal(size=(2000, WIDTH)).astype(np.float32)
    present = rng.random((2000, len(LABELS))) < 1.0 / (1.0 + np.exp(-x @ weight))
    nodes = [helper.make_node("MatMul", ["X", "w"], ["logits"])]
    graph = _save(scratch, nodes, WIDTH, [None, len(LABELS)], w=2.0 * weight)
    costs = {"wait": {"absent": 0, "present": 9}, "treat": {"absent": 1, "present": 0}}
    policy = {"care": {"default": True, "labels": {label: {"costs": costs} for label in LABELS}}}
    declared = Declared(output_kind="sigmoid_logits", task="multilabel", classes=LABELS)
    _publish(repository, MULTILABEL, graph, declared, policy, X=x, y=present.astype(np.int64))


def _sequence(repository: Repository, scratch: Path) -> None:
    rng = np.random.default_rng(3)
    y = (np.cumsum(rng.random((300, LENGTH)) < 0.05, axis=1) + rng.integers(0, 2, (300, 1))) % 2
    x = (2.0 * y - 1.0 + 1.2 * rng.normal(size=y.shape)).astype(np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["X", "axes"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["logits"]),
    ]
    weight = np.array([[-1.4, 1.4]], dtype=np.float32)
    graph = _save(scratch, nodes, LENGTH, [None, LENGTH, 2], w=weight, axes=np.array([2]))
    costs = {"idle": {"rest": 0, "move": 4}, "act": {"rest": 1, "move": 0}}
    declared = Declared(output_kind="logits", task="sequence", classes=STATES)
    _publish(repository, SEQUENCE, graph, declared, {"alone": {"default": True, "costs": costs}}, X=x, y=y)


def publish_text(repository: Repository, scratch: Path) -> None:
    """Version 1 of the model of text."""
    rng = np.random.default_rng(4)
    lines = [" ".join(rng.choice(WORDS, size=5)) for _ in range(800)]
    urgent = np.array([("chest" in line or "pain" in line) != (rng.random() < 0.1) for line in lines])
    y = np.where(urgent, "urgent", "routine")
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(lines[:400], y[:400])
    options: dict[Any, Any] = {id(fitted): {"zipmap": False}, TfidfVectorizer: {"locale": "C"}}
    types = [("text", StringTensorType([None, 1]))]
    graph = scratch / "model.onnx"
    onnx.save(to_onnx(fitted, initial_types=types, options=options, target_opset=OPSET), graph)
    costs = {"queue": {"routine": 0, "urgent": 9}, "call": {"routine": 1, "urgent": 0}}
    policy = {"triage": {"default": True, "costs": costs}}
    _publish(repository, TEXT, graph, Declared(), policy, text=np.array(lines[400:])[:, None], y=y[400:])


def _save(scratch: Path, nodes: list[onnx.NodeProto], width: int, shape: list[int | None], **constants: Any) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = scratch / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _publish(
    repository: Repository, name: str, graph: Path, declared: Declared, policies: dict[str, Any], **arrays: Any
) -> None:
    data = graph.with_suffix(".npz")
    np.savez(data, **arrays)
    manifest = import_model(repository, name, graph, declared).draft / MANIFEST_FILE
    document = tomlkit.parse(manifest.read_text(encoding="utf-8"))
    document["policies"] = policies
    manifest.write_text(tomlkit.dumps(document), encoding="utf-8")
    fit(repository, name, FitRequest(data))
