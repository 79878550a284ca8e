"""Rows whose true posterior is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from service.core.numerics import Array, Indices, log_softmax


@dataclass(frozen=True, slots=True)
class Truth:
    """Draws normal logits, and labels from softmax(slope * log p + bias)."""

    slope: Array
    bias: Array

    def log_probs(self, logits: Array) -> Array:
        """What a perfect calibrator answers."""
        return log_softmax(self.slope * log_softmax(logits) + self.bias)

    def draw(self, n: int, *, seed: int) -> tuple[Array, Indices]:
        rng = np.random.default_rng(seed)
        logits = 3.0 * rng.normal(size=(n, len(self.bias)))
        cumulative = np.exp(self.log_probs(logits)).cumsum(axis=1)
        return logits, (cumulative > rng.random((n, 1)) * cumulative[:, -1:]).argmax(axis=1)

    def excess(self, log_probs: Array, logits: Array) -> float:
        """Expected log loss above the least there is: the mean Kullback-Leibler divergence from the truth."""
        true = self.log_probs(logits)
        return float(np.mean(np.sum(np.exp(true) * (true - log_probs), axis=1)))


@pytest.fixture
def truth():
    """Truths: of one temperature unless slopes or a bias are given."""

    def make(k: int, *, slope: Array | float = 1.0 / 1.7, bias: Array | None = None) -> Truth:
        return Truth(np.broadcast_to(np.asarray(slope, dtype=np.float64), (k,)), np.zeros(k) if bias is None else bias)

    return make


@pytest.fixture
def weighted_model():
    """Two normal classes, one rare, seen through the posterior of a model trained with balanced class weights."""

    def draw(n: int, *, seed: int) -> tuple[Array, Array, Indices]:
        rng = np.random.default_rng(seed)
        labels = (rng.random(n) < 0.1).astype(np.intp)
        x = rng.normal(size=n) + np.where(labels == 1, 1.0, -1.0)
        balanced = np.stack([np.zeros(n), 2.0 * x], axis=1)
        return balanced, balanced + np.log([0.9, 0.1]), labels

    return draw
