"""Small problems for the tests of training: rows of three blobs, of labels, of sequences."""

import numpy as np

from service.training.example_sets import Examples


def blobs(rows: int = 300, *, seed: int = 0) -> Examples:
    """Three classes about three corners of four columns."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    inputs = rng.normal(size=(rows, 4)) + 2.0 * np.eye(3, 4)[labels]
    return Examples(inputs.astype(np.float32), labels)


def flags(rows: int = 300, *, seed: int = 0) -> Examples:
    """Two labels that each follow a column of its own."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 4)).astype(np.float32)
    labels = (2.0 * inputs[:, :2] + rng.logistic(size=(rows, 2)) > 1.0).astype(np.int64)
    return Examples(inputs, labels)


def chains(rows: int = 60, *, seed: int = 0, length: int = 12) -> Examples:
    """Sequences of two columns and two classes, of several lengths."""
    rng = np.random.default_rng(seed)
    labels = np.cumsum(rng.random((rows, length)) < 0.2, axis=1) % 2
    inputs = rng.normal(size=(rows, length, 2)) + np.eye(2)[labels]
    beyond = np.arange(length) >= rng.integers(length // 2, length + 1, rows)[:, None]
    labels[beyond], inputs[beyond] = -1, 0.0
    return Examples(inputs.astype(np.float32), labels)
