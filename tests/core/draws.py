"""Probabilities with what happened: said as it is, and said too boldly."""

import numpy as np

from service.core.numerics import Array, Flags


def perfect(n: int, *, seed: int) -> tuple[Array, Flags]:
    """Probabilities that come true as often as they say."""
    rng = np.random.default_rng(seed)
    said = rng.beta(2.0, 1.0, size=n)
    return said, rng.random(n) < said


def distorted(n: int, *, seed: int) -> tuple[Array, Flags]:
    """The same with the odds squared."""
    said, happened = perfect(n, seed=seed)
    odds = (said / (1.0 - said)) ** 2.0
    return odds / (1.0 + odds), happened
