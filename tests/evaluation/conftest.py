"""Rows with a known truth, and a graph whose logits are its inputs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import Manifest, parse_manifest
from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.numerics import Array, Indices

TEXT = """\
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
NAMES = ("ann", "bob", "cyd", "dee", "eve", "fay", "gus", "hal", "ida", "jon")


def toy_text(k: int, tail: str) -> str:
    classes = ", ".join(f'"{name}"' for name in (*NAMES, *(f"c{i}" for i in range(len(NAMES), k)))[:k])
    features = ", ".join(f'"f{i}"' for i in range(k))
    return TEXT.format(classes=classes, features=features, tail=tail)


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
