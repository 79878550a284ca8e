"""Two models whose truth is known: labels that depend on each other, and a tagger of a sticky chain."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import scipy.special
from onnx import TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.numerics import Array, Indices
from service.fitting.fit import FitRequest, FitResult, fit
from service.runtime.registry import Registry, load_registry

LABELS = ("ache", "burn", "chill")
SLOPES, INTERCEPTS = np.array([1.5, -0.5, 1.0]), np.array([-0.5, 0.2, -3.0])
LABEL_COSTS = """
[sites.ward]
prevalence = { ache = 0.9, burn = 0.1, chill = 0.5 }
[policies.care]
default = true
on_ood = "ask"
[policies.care.labels.ache.costs]
wait = { absent = 0, present = 9 }
treat = { absent = 1, present = 0 }
ask = { absent = 2, present = 2 }
[policies.care.labels.burn.costs]
wait = { absent = 0, present = 1 }
treat = { absent = 1, present = 0 }
"""
PATH_COSTS = """
[policies.alone]
default = true
[policies.alone.costs]
idle = { rest = 0, move = 4 }
act = { rest = 1, move = 0 }
[policies.path]
switch = 0.7
[policies.path.costs]
idle = { rest = 0, move = 4 }
act = { rest = 1, move = 0 }
"""
LENGTH = 25


@dataclass(frozen=True)
class Workshop:
    """A repository with one draft, and files of rows beside it."""

    repository: Repository
    folder: Path
    name: str

    def rows(self, name: str, **arrays: object) -> Path:
        """Write an .npz file."""
        path = self.folder / f"{name}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]  # arrays by name
        return path

    def fit(self, data: Path, **options: object) -> FitResult:
        """Publish the draft, calibrated."""
        return fit(self.repository, self.name, FitRequest(data, **options))  # type: ignore[arg-type]


def expit(log_odds: Array) -> Array:
    return np.asarray(scipy.special.expit(log_odds))


def draw_labels(n: int, seed: int) -> tuple[Array, Indices, Array]:
    """Rows of one number, labels that share a random one given it, and each label's true probability."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1)).astype(np.float32).astype(np.float64)
    truth = expit(x * SLOPES + INTERCEPTS)
    return x, (rng.random((n, 1)) < truth).astype(np.intp), truth


def draw_sequences(n: int, seed: int, *, stay: float = 0.95, length: int = LENGTH) -> tuple[Array, Indices]:
    """A two-state chain seen through noise of 1.2: positions, and their states."""
    rng = np.random.default_rng(seed)
    y = np.empty((n, length), dtype=np.intp)
    y[:, 0] = rng.integers(0, 2, n)
    for t in range(1, length):
        y[:, t] = np.where(rng.random(n) < stay, y[:, t - 1], 1 - y[:, t - 1])
    return (2.0 * y - 1.0 + 1.2 * rng.normal(size=y.shape)).astype(np.float32), y


def save_graph(
    path: Path, nodes: list[onnx.NodeProto], shape: list[int | None], width: int, **constants: Array
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def label_draft(
    folder: Path, *, sharpness: float = 2.0, shift: float = 0.0, kind: str = "sigmoid_logits", more: str = LABEL_COSTS
) -> Workshop:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
        helper.make_node("Sigmoid" if kind == "sigmoid_probabilities" else "Identity", ["z"], ["scores"]),
    ]
    graph = save_graph(
        folder / "labels.onnx",
        nodes,
        [None, 3],
        1,
        w=(sharpness * SLOPES[None]).astype(np.float32),
        b=(sharpness * INTERCEPTS + shift).astype(np.float32),
    )
    head = (
        f'schema = 1\ntitle = "complaints"\n[graph]\noutput = "scores"\noutput_kind = "{kind}"\n'
        f'task = "multilabel"\nclasses = {list(LABELS)}\n[[inputs]]\nname = "x"\nfeatures = ["dose"]\n'
    )
    return _workshop(folder, "complaints", graph, head.replace("'", '"') + more)


def sequence_draft(folder: Path, *, sharpness: float = 2.0, more: str = PATH_COSTS) -> Workshop:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["scores"]),
    ]
    graph = save_graph(
        folder / "tagger.onnx",
        nodes,
        [None, LENGTH, 2],
        LENGTH,
        w=(sharpness * np.array([[-1.0, 1.0]]) / 1.44).astype(np.float32),
        axes=np.array([2], dtype=np.int64),
    )
    steps = [f"t{i}" for i in range(LENGTH)]
    head = (
        'schema = 1\ntitle = "motion"\n[graph]\noutput = "scores"\noutput_kind = "logits"\ntask = "sequence"\n'
        f'classes = ["rest", "move"]\n[[inputs]]\nname = "x"\nfeatures = {steps}\n'
    )
    return _workshop(folder, "motion", graph, head.replace("'", '"') + more)


@pytest.fixture
def label_workshop(tmp_path: Path) -> Callable[..., Workshop]:
    """A multilabel draft whose log-odds are the true ones times ``sharpness``, plus ``shift``."""
    return partial(label_draft, tmp_path)


@pytest.fixture
def sequence_workshop(tmp_path: Path) -> Callable[..., Workshop]:
    """A draft of a tagger whose log-odds are the true ones of each position alone, times ``sharpness``."""
    return partial(sequence_draft, tmp_path)


@pytest.fixture(scope="session")
def both_tasks(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Both models calibrated and loaded: `complaints` and `motion`."""
    folder = tmp_path_factory.mktemp("tasks")
    labels, sequences = label_draft(folder), sequence_draft(folder)
    x, y, _ = draw_labels(2000, 0)
    labels.fit(labels.rows("labels", X=x, y=y))
    x, y = draw_sequences(300, 0)
    sequences.fit(sequences.rows("sequences", X=x, y=y))
    return load_registry(labels.repository)


def _workshop(folder: Path, name: str, graph: Path, manifest: str) -> Workshop:
    repository = Repository(folder / "models")
    repository.root.mkdir(exist_ok=True)
    create_draft(repository, name, {"model.onnx": graph, "manifest.toml": manifest}, force=True)
    return Workshop(repository, folder, name)


@pytest.fixture
def labels_drawn() -> Callable[[int, int], tuple[Array, Indices, Array]]:
    """`draw_labels`."""
    return draw_labels


@pytest.fixture
def sequences_drawn() -> Callable[..., tuple[Array, Indices]]:
    """`draw_sequences`."""
    return draw_sequences
