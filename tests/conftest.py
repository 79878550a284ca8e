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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
import pytest

from service.bundle.drafts import open_draft
from service.bundle.manifest import Manifest, parse_manifest
from service.bundle.repository import Repository
from service.bundle.writer import create_draft, draft_files, publish
from service.core.numerics import Array, Indices
from service.data.dataset import Dataset
from service.fitting.label_sets import fit_sets
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime.model import Model
from service.runtime.proven_versions import FOLDER
from service.runtime.registry import Registry, load_registry
from tests.shipped_model import NAME, SHIPPED

ROOT = Path(__file__).parent.parent
TEMPERANCE = Path(sys.executable).with_name("temperance")
START_SECONDS = 60
PROOFS = tempfile.TemporaryDirectory(prefix="temperance-proofs-")


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """`models/breast-cancer/recipe.py` as a module."""
    spec = importlib.util.spec_from_file_location("recipe", ROOT / "models" / NAME / "recipe.py")
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


@pytest.fixture(scope="session")
def every_task(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A calibrated model of every task, and one that is uncalibrated; `tests.every_task` has requests for them."""
    from tests.every_task import models_of_every_task

    return models_of_every_task(tmp_path_factory.mktemp("every"))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A writable copy of the shipped models."""
    return Repository(shutil.copytree(SHIPPED, tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def draft(repository: Repository) -> Path:
    """A draft of the shipped version, calibration included."""
    return open_draft(repository, "breast-cancer")


@pytest.fixture
def publish_again(repository: Repository) -> Callable[[], int]:
    """Publishes the shipped model once more, all alike, and says as which version; no alias names it yet."""

    def publish_copy() -> int:
        create_draft(repository, "breast-cancer", draft_files(repository.bundle("breast-cancer", 1)))
        draft = repository.draft("breast-cancer")
        return publish(repository, draft, record=draft.record, state=draft.state)

    return publish_copy


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
def _data_folder() -> Iterator[str]:
    """An empty one, but for what earlier servers of these tests have proven: that is not proven again."""
    with tempfile.TemporaryDirectory() as data:
        (Path(data) / FOLDER).symlink_to(PROOFS.name)
        yield data


@contextmanager
def serving(models: Path, *flags: str, **environment: str) -> Iterator[Server]:
    """A real server process on a free port, ready to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TEMPERANCE_")}
    command = [str(TEMPERANCE), "serve", "--models", str(models), "--port", str(port), *flags]
    with (
        _data_folder() as data,  # that of the person who runs the tests may hold keys
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        subprocess.Popen(command, env={**clean, "TEMPERANCE_DATA": data, **environment}, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        server = Server(client, process, Path(log.name))
        try:
            _wait_until_ready(server)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session", name="serving")
def serving_of_any_repository() -> Callable[..., AbstractContextManager[Server]]:
    """`serving`, for test modules, which cannot import it."""
    return serving


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
def issuer() -> Iterator[Any]:
    """A running issuer of tokens."""
    from tests.token_issuer import running_issuer  # it makes keys

    with running_issuer() as running:
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
        logits = np.log(rng.dirichlet(np.ones(len(rows)), size=sum(rows)))
        data = Dataset(logits, np.repeat(np.arange(len(rows)), rows), None, None, "")
        fitted, arrays = fit_sets(logits, data, model.classes, method="lac")
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


@dataclass(frozen=True)
class HiddenLayer:
    """A trained network of one hidden layer whose output `hidden` its graph exposes.

    Far from the training rows its ReLUs make it ever surer, so only `hidden` shows that a row is foreign.
    """

    centres: npt.NDArray[np.float64]
    layers: tuple[npt.NDArray[np.float32], ...]

    def draw(self, n: int, *, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
        """Rows of the training population, and their classes."""
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, len(self.centres), n).astype(np.intp)
        rows = self.centres[labels] + rng.normal(size=(n, self.centres.shape[1]))
        return rows.astype(np.float32).astype(np.float64), labels

    def far(self, n: int, *, seed: int) -> npt.NDArray[np.float64]:
        """Rows far from it."""
        rows = 20.0 * np.random.default_rng(seed).normal(size=(n, self.centres.shape[1]))
        return rows.astype(np.float32).astype(np.float64)

    def hidden(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What the exposed layer holds."""
        return np.maximum(rows @ self.layers[0] + self.layers[1], 0.0)

    def logits(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What the network answers."""
        return self.hidden(rows) @ self.layers[2] + self.layers[3]

    def save(self, path: Path, *, shape: tuple[int, ...] | None = None, kind: str = "logits") -> Path:
        """Write the graph; ``shape`` is what `hidden` is brought to, ``kind`` the output: logits or probabilities."""
        node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
        nodes = [
            node("Gemm", ["x", "w0", "b0"], ["summed"]),
            node("Relu", ["summed"], ["flat"]),
            node("Identity", ["flat"], ["hidden"]) if shape is None else node("Reshape", ["flat", "shape"], ["hidden"]),
            node("Gemm", ["flat", "w1", "b1"], ["logits"]),
            node("Softmax", ["logits"], ["probabilities"]),
        ]
        floats, width = onnx.TensorProto.FLOAT, self.layers[0].shape[1]
        outputs = {kind: [None, len(self.centres)], "hidden": [None, width] if shape is None else [None, *shape[1:]]}
        constants = {"w0": self.layers[0], "b0": self.layers[1], "w1": self.layers[2], "b1": self.layers[3]}
        shapes = [] if shape is None else [onnx.numpy_helper.from_array(np.array(shape, dtype=np.int64), "shape")]
        graph = onnx.helper.make_graph(
            nodes if kind == "probabilities" else nodes[:-1],
            "hidden-layer",
            [info("x", floats, [None, self.centres.shape[1]])],
            [info(name, floats, dims) for name, dims in outputs.items()],
            [*(onnx.numpy_helper.from_array(value, name) for name, value in constants.items()), *shapes],
        )
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        return path


@pytest.fixture(scope="session")
def hidden_layer() -> HiddenLayer:
    """The network, trained."""
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))
    untrained = HiddenLayer(centres, ())
    network = MLPClassifier((24,), max_iter=400, random_state=0, learning_rate_init=0.01, n_iter_no_change=5)
    network.fit(*untrained.draw(1500, seed=1))
    pairs = zip(network.coefs_, network.intercepts_, strict=True)
    return HiddenLayer(centres, tuple(array.astype(np.float32) for pair in pairs for array in pair))


TOY = """\
schema = 1
title = "logits in, logits out"
[graph]
output = "scores"
output_kind = "logits"
classes = [{classes}]
[[inputs]]
name = "x"
features = [{features}]
{tail}
"""
TOY_CLASSES = ("ann", "bob", "cyd", "dee", "eve", "fay", "gus", "hal", "ida", "jon")


def toy_text(k: int, tail: str) -> str:
    classes = ", ".join(f'"{name}"' for name in (*TOY_CLASSES, *(f"c{i}" for i in range(len(TOY_CLASSES), k)))[:k])
    features = ", ".join(f'"f{i}"' for i in range(k))
    return TOY.format(classes=classes, features=features, tail=tail)


@pytest.fixture
def toy_manifest() -> Callable[..., Manifest]:
    """Manifest of `k` classes `ann`, `bob`, … and as many features `f0`, `f1`, …."""

    def make(k: int = 2, tail: str = "") -> Manifest:
        return parse_manifest(toy_text(k, tail))

    return make


@pytest.fixture
def toy(tmp_path: Path, linear_graph: Callable[..., Path]) -> Callable[..., Repository]:
    """A repository with a draft `toy` of `k` classes, whose graph hands its inputs on as logits."""

    def make(k: int = 2, tail: str = "") -> Repository:
        repository = Repository(tmp_path / "toys")
        graph = linear_graph(np.eye(k).tolist(), [0.0] * k)
        create_draft(repository, "toy", {"model.onnx": graph, "manifest.toml": toy_text(k, tail)}, force=True)
        return repository

    return make


@pytest.fixture
def truth() -> Callable[..., tuple[Array, Indices]]:
    """Draws logits that float32 holds, and labels from their softmax at a temperature and a prevalence ratio."""

    def draw(
        n: int,
        k: int = 2,
        *,
        temperature: float = 2.0,
        scale: float = 4.0,
        log_ratio: tuple[float, ...] | None = None,
        seed: int = 0,
    ) -> tuple[Array, Indices]:
        rng = np.random.default_rng(seed)
        logits = rng.normal(scale=scale, size=(n, k)).astype(np.float32).astype(np.float64)
        tilted = logits / temperature + (0.0 if log_ratio is None else np.array(log_ratio))
        labels = (tilted + rng.gumbel(size=(n, k))).argmax(axis=1)
        return logits, labels.astype(np.intp)

    return draw


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes arrays to an .npz file of a name."""

    def write(name: str = "data", **arrays: object) -> Path:
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]  # whatever the test wants to see refused
        return path

    return write
