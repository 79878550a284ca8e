"""Real parts for every test: the shipped model, its data, a server process, small graphs of our own."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import onnx
import polars as pl
import pytest

from service.bundle.repository import Repository
from service.evaluation.dataset import Dataset
from service.evaluation.sets import fit_sets
from service.onboarding import Declared, import_model, publish_draft
from service.runtime.model import Model
from service.runtime.registry import load_registry

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "models"
TEMPERANCE = Path(sys.executable).with_name("temperance")
START_SECONDS = 60


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """`models/breast-cancer/recipe.py` as a module."""
    spec = importlib.util.spec_from_file_location("recipe", SHIPPED / "breast-cancer" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def data_folder(recipe: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv, calibration.csv and test.csv of the shipped model."""
    folder = tmp_path_factory.mktemp("data")
    recipe.write_data(folder, *recipe.load_splits())
    return folder


@pytest.fixture(scope="session")
def features(data_folder: Path) -> list[str]:
    """Feature names of the shipped model."""
    return pl.read_csv(data_folder / "test.csv", n_rows=1).columns[:-1]


@pytest.fixture(scope="session")
def test_rows(data_folder: Path, features: list[str]) -> list[list[float]]:
    """Measurements of the test patients."""
    return [list(row) for row in pl.read_csv(data_folder / "test.csv").select(features).iter_rows()]


@pytest.fixture(scope="session")
def test_labels(data_folder: Path) -> list[str]:
    """Class names of the test patients."""
    return pl.read_csv(data_folder / "test.csv")["y"].to_list()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A writable copy of the shipped models."""
    return Repository(shutil.copytree(SHIPPED, tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__")))


@dataclass(frozen=True)
class Server:
    """A running `temperance serve`."""

    client: httpx.Client
    process: "subprocess.Popen[bytes]"
    log: Path

    def post(self, verb: str, body: object, *, model: str = "breast-cancer") -> httpx.Response:
        """Send a JSON body to a verb of a model."""
        return self.client.post(f"/v1/models/{model}:{verb}", json=body)


@contextmanager
def serving(models: Path, *flags: str, **environment: str) -> Iterator[Server]:
    """A real server process on a free port, ready to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TEMPERANCE_")}
    command = [str(TEMPERANCE), "serve", "--models", str(models), "--port", str(port), *flags]
    with (
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        subprocess.Popen(command, env={**clean, **environment}, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        server = Server(client, process, Path(log.name))
        try:
            _wait_until_ready(server)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            if server.client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not become ready:\n{server.log.read_text()}")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The shipped models behind a real server process."""
    with serving(SHIPPED) as running:
        yield running


@pytest.fixture
def linear_graph(tmp_path: Path) -> Callable[..., Path]:
    """Writes a graph that computes ``x @ weights + bias`` in float32, and returns its path.

    ``activation`` is the name of an operator after it (Softmax, Sigmoid, …).
    """

    def write(weights: list[list[float]], bias: list[float], *, activation: str | None = None) -> Path:
        w = np.array(weights, dtype=np.float32)
        nodes = [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["scores"])]
        if activation is not None:
            nodes.append(onnx.helper.make_node(activation, ["scores"], ["activated"]))
        last = "scores" if activation is None else "activated"
        graph = onnx.helper.make_graph(
            nodes,
            "linear",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, w.shape[0]])],
            [onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, [None, w.shape[1]])],
            [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(np.array(bias, dtype=np.float32), "b")],
        )
        path = tmp_path / f"linear-{activation}.onnx"
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write


@pytest.fixture(scope="session")
def with_sets() -> Callable[..., Model]:
    """Gives a calibrated model label sets from so many rows of each class: ``with_sets(model, rows=[…])``."""

    def fitted_sets(model: Model, *, rows: list[int], state: bool = True) -> Model:
        rng = np.random.default_rng(0)
        log_probs = np.log(rng.dirichlet(np.ones(len(rows)), size=sum(rows)))
        data = Dataset(log_probs, np.repeat(np.arange(len(rows)), rows), None, None, "")
        fitted, arrays = fit_sets(log_probs, data, model.classes, method="lac")
        assert model.bundle.record is not None
        record = model.bundle.record.model_copy(update={"label_sets": fitted})
        others = {key: array for key, array in model.bundle.state.items() if key not in arrays}
        bundle = replace(model.bundle, record=record, state=others | (arrays if state else {}))
        return replace(model, bundle=bundle)

    return fitted_sets


@pytest.fixture
def uncalibrated(tmp_path: Path, linear_graph: Callable[..., Path]) -> Model:
    """A model of two classes, `a` and `b`, that was published without `fit`."""
    repository = Repository(tmp_path / "uncalibrated")
    repository.root.mkdir()
    graph = linear_graph([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    import_model(repository, "logits", graph, Declared(output_kind="logits", classes=("a", "b")))
    publish_draft(repository, "logits")
    return load_registry(repository).model("logits")
