"""The prevalence of calibrated probabilities, and the class frequencies that it is compared with."""

import numpy as np

from service.bundle.manifest import Manifest
from service.core.numerics import Array, Indices
from service.data.dataset import Dataset


def declared_prevalence(manifest: Manifest, *, weighted: bool) -> Array | None:
    """Declared training prevalence, times the class weights if the logits still carry them; shape (K,), or None."""
    training, classes = manifest.training, manifest.graph.classes
    if training.prevalence is None:
        return None
    shares: Array = np.array([training.prevalence[c] for c in classes], dtype=np.float64)
    if weighted and training.class_weights is not None:
        shares = shares * np.array([training.class_weights[c] for c in classes])
    normalised: Array = shares / shares.sum()
    return normalised


def frequencies(data: Dataset, k: int) -> Array:
    """Share of every class among the rows, by weight, shape (K,)."""
    counts = np.bincount(data.labels, weights=data.weights, minlength=k).astype(np.float64)
    shares: Array = counts / counts.sum()
    return shares


def units_of_classes(data: Dataset, k: int) -> Indices:
    """How many rows or, if there are groups, groups have every class, shape (K,)."""
    kept = np.ones(len(data), dtype=np.bool_) if data.weights is None else data.weights > 0.0
    if data.groups is None:
        return np.bincount(data.labels[kept], minlength=k)
    pairs = np.unique(np.stack([data.groups, data.labels], axis=1)[kept], axis=0)
    return np.bincount(pairs[:, 1], minlength=k)


def log_ratio(observed: Array, declared: Array) -> Array:
    """Log ratio of two prevalences: minus infinity where a class has no rows."""
    with np.errstate(divide="ignore"):  # a class without rows gets probability zero among these rows
        ratio: Array = np.log(observed / declared)
    return ratio
