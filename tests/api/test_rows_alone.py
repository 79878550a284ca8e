"""A dynamically quantised model answers every row as if it had been sent alone, on every path."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import polars as pl
import pytest

from service.bundle.repository import Repository
from service.core.numerics import Array
from service.evaluation.evaluate import EvaluateRequest, evaluate_file
from service.fitting.fit import FitRequest, fit
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime.registry import Registry, load_registry
from service.scoring.score import score
from service.scoring.score_request import ScoreRequest
from tests.importer.test_batch_dependence import DYNAMIC, write

ROWS = np.random.default_rng(1).normal(size=(40, 4)) * 10.0 ** np.arange(-2, 3).repeat(8)[:, None]
ROWS = ROWS.astype(np.float32).astype(np.float64)
COLUMNS = ("x0", "x1", "x2", "x3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def alone(folder: Path) -> Array:
    """What the graph answers to every row by itself, shape (N, 3)."""
    session = ort.InferenceSession(str(write(folder / "m.onnx", **DYNAMIC["linear"][1])))
    answers = [session.run(["p"], {"x": row[None].astype(np.float32)})[0][0] for row in ROWS]
    return np.array(answers, dtype=np.float64)


@pytest.fixture(scope="module")
def registry(folder: Path, alone: Array) -> Registry:
    """The model, fitted: with the identity, so that probabilities are the graph's own."""
    repository = Repository(folder / "models")
    repository.root.mkdir()
    import_model(repository, "m", folder / "m.onnx", Declared())
    labels = [int(np.random.default_rng(i).choice(3, p=p / p.sum())) for i, p in enumerate(alone)]
    np.savez(folder / "cal.npz", allow_pickle=False, X=ROWS, y=np.array(labels))
    fit(repository, "m", FitRequest(folder / "cal.npz", calibrator="identity"))
    return load_registry(repository)


@pytest.fixture
async def client(client_of: Callable[..., httpx.AsyncClient], registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(registry) as running:
        yield running


def same(found: Any, expected: Array) -> None:
    np.testing.assert_allclose(np.asarray(found, dtype=np.float64), expected, atol=1e-6)


def test_together_the_graph_would_answer_otherwise(folder: Path, alone: Array) -> None:
    together = ort.InferenceSession(str(folder / "m.onnx")).run(["p"], {"x": ROWS.astype(np.float32)})[0]
    assert np.abs(together - alone).max() > 0.1


@pytest.mark.parametrize("parameters", [{}, {"ids": [str(i) for i in range(len(ROWS))]}, {"layout": "columns"}])
async def test_v1_answers_every_row_as_if_it_were_alone(
    parameters: dict[str, Any], client: httpx.AsyncClient, alone: Array
) -> None:
    body = {"instances": ROWS.tolist(), "parameters": parameters}
    answer = (await client.post("/v1/models/m:predict", json=body)).json()
    if "columns" in answer:
        same(answer["columns"]["probabilities"], alone)
    else:
        same([list(row["probabilities"].values()) for row in answer["predictions"]], alone)


async def test_v1_answers_joined_requests_as_if_each_row_were_alone(client: httpx.AsyncClient, alone: Array) -> None:
    sent = [client.post("/v1/models/m:predict", json={"instances": [row]}) for row in ROWS.tolist()]
    answers = [answer.json()["predictions"][0]["probabilities"] for answer in await asyncio.gather(*sent)]
    same([list(answer.values()) for answer in answers], alone)


@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_v2_answers_every_row_as_if_it_were_alone(encoding: str, client: httpx.AsyncClient, alone: Array) -> None:
    rows = ROWS.astype("<f4")
    entry: dict[str, Any] = {"name": "x", "shape": [40, 4], "datatype": "FP32"}
    entry |= (
        {"data": rows.ravel().tolist()} if encoding == "json" else {"parameters": {"binary_data_size": rows.nbytes}}
    )
    text = json.dumps({"inputs": [entry], "outputs": [{"name": "probabilities"}]}).encode()
    blob, headers = (
        (b"", {}) if encoding == "json" else (rows.tobytes(), {"inference-header-content-length": str(len(text))})
    )
    answer = await client.post("/v2/models/m/infer", content=text + blob, headers=headers)
    same(np.array(answer.json()["outputs"][0]["data"]).reshape(-1, 3), alone)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_score_answers_every_row_as_if_it_were_alone(
    kind: str, registry: Registry, alone: Array, tmp_path: Path
) -> None:
    data = tmp_path / f"rows.{kind}"
    frame = pl.DataFrame(ROWS, schema=list(COLUMNS))
    if kind == "npz":
        np.savez(data, allow_pickle=False, X=ROWS)
    else:
        frame.write_csv(data) if kind == "csv" else frame.write_parquet(data)
    score(registry.model("m"), ScoreRequest(data, tmp_path / "out.parquet", chunk_rows=7))
    answers = pl.read_parquet(tmp_path / "out.parquet")
    same(answers.select([f"probabilities.{k}" for k in range(3)]).to_numpy(), alone)


def test_fit_and_evaluate(folder: Path, registry: Registry, alone: Array) -> None:
    model = registry.model("m")
    with np.load(folder / "cal.npz") as data:
        labels = data["y"]
    expected = float(-np.log(alone[np.arange(len(alone)), labels]).mean())
    record = model.bundle.record
    assert record is not None
    assert record.provenance.before["log_loss"] == pytest.approx(expected, abs=1e-5)
    assert evaluate_file(model, EvaluateRequest(folder / "cal.npz")).report.metrics["log_loss"] == pytest.approx(
        expected, abs=1e-5
    )
