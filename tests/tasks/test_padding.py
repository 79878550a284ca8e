"""Sequences of unequal length, from a file of padded arrays to answers over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.numerics import Array, Indices
from service.data.dataset import read_dataset
from service.errors import DataError
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft, why_uncalibrated
from service.main import compose
from service.prediction.bulk import posterior_of
from service.runtime.model import Model
from service.runtime.registry import Registry, load_registry
from service.runtime.rows import Fields
from service.settings import Settings

Draw = Callable[..., tuple[Array, Indices]]
TEXT = """\
schema = 1
title = "motion"
[graph]
output = "scores"
output_kind = "logits"
task = "sequence"
classes = ["rest", "move"]
[[inputs]]
name = "x"
pad = 0.0
[policies.care]
switch = 0.5
[policies.care.costs]
idle = { rest = 0, move = 4 }
act = { rest = 1, move = 0 }
"""


def cut(x: Array, y: Indices, lengths: Indices) -> tuple[Array, Indices]:
    behind = np.arange(x.shape[1]) >= lengths[:, None]
    return np.where(behind, 0.0, x).astype(np.float32), np.where(behind, -1, y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("padding")


@pytest.fixture
def tagger(folder: Path, sequences_drawn: Draw) -> Registry:
    """A sequence tagger with lengths of 5 to 25 positions, calibrated on 300 of them."""
    repository = Repository(folder / "models")
    if not repository.root.is_dir():
        repository.root.mkdir()
        x, y = sequences_drawn(300, 0)
        x, y = cut(x, y, np.random.default_rng(1).integers(5, 26, 300))
        np.savez(folder / "cal.npz", x=x, y=y)
        _draft(repository, folder)
        fit(repository, "motion", FitRequest(folder / "cal.npz"))
    return load_registry(repository)


def _draft(repository: Repository, folder: Path, text: str = TEXT) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["scores"]),
    ]
    weights = (2.0 * np.array([[-1.0, 1.0]]) / 1.44).astype(np.float32)
    constants = {"axes": np.array([2]), "w": weights}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "tagger.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    create_draft(repository, "motion", {"model.onnx": path, "manifest.toml": text})


def test_only_positions_that_are_there_are_learned_from(tagger: Registry, folder: Path) -> None:
    record = tagger.model("motion").bundle.record
    assert record is not None
    assert record.sequence is not None
    with np.load(folder / "cal.npz") as data:
        y = data["y"]
    assert record.sequence.positions == int((y >= 0).sum())
    assert record.provenance.class_counts == {"rest": int((y == 0).sum()), "move": int((y == 1).sum())}
    assert record.calibrator.params["temperature"] == pytest.approx(2.0, abs=0.2)


def test_a_sequence_is_answered_alike_alone_and_beside_longer_ones(tagger: Registry, folder: Path) -> None:
    model: Model = tagger.model("motion")
    rows = read_dataset(folder / "cal.npz", model.manifest, inputs=model.inputs).rows
    together = posterior_of(model, rows)
    smoothed = model.smoothed(together, "hmm")
    assert together.lengths is not None
    for i in (0, 7, 23):
        alone = posterior_of(model, rows[i : i + 1])
        n = int(together.lengths[i])
        np.testing.assert_allclose(model.smoothed(alone, "hmm")[0, :n], smoothed[i, :n], rtol=0, atol=1e-9)
        np.testing.assert_allclose(alone.scores, together.scores[i : i + 1], rtol=0, atol=1e-9)


async def test_answers_are_as_long_as_their_sequences(tagger: Registry, sequences_drawn: Draw) -> None:
    x, y = sequences_drawn(2, 5)
    instances: list[Any] = [x[0, :7].tolist(), x[1].tolist()]
    labels = [[("rest", "move")[k] for k in row] for row in (y[0, :7], y[1])]
    transport = httpx.ASGITransport(compose(Settings(audit="off"), tagger))
    async with httpx.AsyncClient(transport=transport, base_url="http://temperance") as client:
        answer = await client.post("/v1/models/motion:decide", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        for row, n in zip(answer.json()["predictions"], (7, 25), strict=True):
            assert len(row["label"]) == len(row["probabilities"]) == len(row["decision"]) == n
            assert row["path"]["total_risk"] >= sum(d["risk"] for d in row["decision"]) - 1e-9
        evaluated = await client.post("/v1/models/motion:evaluate", json={"instances": instances, "labels": labels})
        assert evaluated.status_code == 200, evaluated.text
        assert evaluated.json()["evaluation"]["parts"]["positions"]["rows"] == 32
        wrong = await client.post("/v1/models/motion:evaluate", json={"instances": instances, "labels": labels[::-1]})
        assert wrong.status_code == 422
        assert "sequence 0 has 25 labels and 7 positions" in wrong.json()["detail"]


def test_a_draft_of_the_version_keeps_its_calibration(tagger: Registry) -> None:
    assert why_uncalibrated(tagger.model("motion").bundle) is None


@pytest.mark.parametrize("source", ["labels", "lengths"])
def test_undeclared_padding_is_named_with_its_remedy(source: str, folder: Path) -> None:
    rng, shape = np.random.default_rng(0), (30, 25)
    lengths = rng.integers(5, 26, 30)
    x, y = cut(rng.normal(size=shape) + 7.0, rng.integers(0, 2, shape), lengths)
    x[np.arange(25) >= lengths[:, None]] = -3.0
    rows = {"x": x, "y": y} if source == "labels" else {"x": x, "y": np.maximum(y, 0), "lengths": lengths}
    np.savez(folder / "padded.npz", allow_pickle=False, **rows)
    repository = Repository(folder / f"undeclared-{source}")
    repository.root.mkdir()
    _draft(repository, folder, TEXT.replace("pad = 0.0\n", "shape = [25]\n"))
    where = "their labels end in -1" if source == "labels" else "'lengths' ends them"
    with pytest.raises(DataError, match=rf"rows of 'x' end in -3 where {where}; declare pad = -3 for it under"):
        fit(repository, "motion", FitRequest(folder / "padded.npz"))


def test_lengths_in_a_file_are_used(tagger: Registry, folder: Path) -> None:
    model = tagger.model("motion")
    with np.load(folder / "cal.npz") as data:
        x, y = data["x"][:40], data["y"][:40]
    lengths = (y >= 0).sum(axis=1)
    np.savez(folder / "lengths.npz", allow_pickle=False, x=x, y=y, lengths=lengths)
    rows = read_dataset(folder / "lengths.npz", model.manifest, inputs=model.inputs).rows
    assert isinstance(rows, Fields)
    assert rows.lengths is not None
    np.testing.assert_array_equal(rows.lengths, lengths)


def test_positions_of_a_quantised_model_are_those_of_the_sequence_alone(folder: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Unsqueeze", ["d", "axes"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["scores"]),
    ]
    constants = {"axes": np.array([2]), "w": np.array([[-1.0, 1.0]], dtype=np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "quantised.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    repository = Repository(folder / "quantised")
    text = TEXT.replace('task = "sequence"', 'task = "sequence"\nrows = "alone"').replace("pad = 0.0", "pad = 90.0")
    create_draft(repository, "motion", {"model.onnx": path, "manifest.toml": text})
    publish_draft(repository, "motion")
    model = load_registry(repository).model("motion")
    x, lengths = np.random.default_rng(0).normal(size=(4, 6)) * [[0.01], [1.0], [5.0], [0.1]], np.array([6, 2, 4, 1])
    together = model.raw(Fields(np.empty((4, 0)), {"x": x}, lengths)).logits
    session = ort.InferenceSession(str(path))
    assert together.shape == (4, 6, 2)
    for i, n in enumerate(lengths.tolist()):
        (alone,) = session.run(["scores"], {"x": x[i : i + 1, :n].astype(np.float32)})
        np.testing.assert_allclose(together[i, :n], alone[0], rtol=1e-6)
        assert (together[i, n:] == 0.0).all()
