"""Probabilities with what outcomes: predicted as it is, and predicted too boldly."""

import numpy as np

from service.core.numerics import Array, Flags


def perfect(n: int, *, seed: int) -> tuple[Array, Flags]:
    """Probabilities that come true as often as they say."""
    rng = np.random.default_rng(seed)
    predicted = rng.beta(2.0, 1.0, size=n)
    return predicted, rng.random(n) < predicted


def distorted(n: int, *, seed: int) -> tuple[Array, Flags]:
    """The same with the odds squared."""
    predicted, outcomes = perfect(n, seed=seed)
    odds = (predicted / (1.0 - predicted)) ** 2.0
    return odds / (1.0 + odds), outcomes
