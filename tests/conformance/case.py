"""What an exporter hands over: a model file, and what its toolchain answers for some rows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT32 = 1e-5
FLOAT16 = 5e-3

Array = npt.NDArray[np.float64]


@dataclass
class Case:
    """One real export.

    Attributes
    ----------
    path : Path
        The .onnx file; weights may lie beside it.
    instances : list
        JSON rows as a client would send them: a list of cells in the order of the graph's inputs, a nested list for a
        graph of one tensor, an object by input name for a graph of several (masks are the service's to fill).
    expected : ndarray
        The toolchain's own probabilities: (N, K); P(present) of every label, (N, M), for a multilabel model;
        (N, L, K) for a sequence model, NaN where a shorter row is padded.
    classes : tuple of str
    flags : dict
        Fields of `service.importer.declared.Declared` that `temperance import` must be given; empty: it needs none.
    tolerance : float
    task : str
    """

    path: Path
    instances: list[Any]
    expected: Array
    classes: tuple[str, ...]
    flags: dict[str, Any] = field(default_factory=dict)
    tolerance: float = FLOAT32
    task: str = "multiclass"


def draw(rows: int, *shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Standard normal numbers that float32 holds exactly."""
    return np.random.default_rng(seed).normal(size=(rows, *shape)).astype(np.float32)


def softmax(logits: npt.NDArray[Any]) -> Array:
    """Along the last axis."""
    values = logits.astype(np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def two(p: npt.NDArray[Any]) -> Array:
    """Both classes' probabilities from the second's."""
    flat = p.astype(np.float64).reshape(-1)
    return np.stack([1.0 - flat, flat], axis=1)
