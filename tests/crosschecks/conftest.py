"""Rows for the comparison with every other library."""

from collections.abc import Callable

import numpy as np
import pytest

from service.core.numerics import Array, Indices

Rows = Callable[..., tuple[Array, Indices]]


@pytest.fixture(scope="session")
def rows() -> Rows:
    """Draws logits that are 1.7 times too sure, and labels."""

    def draw(n: int = 2000, k: int = 4, *, seed: int = 0) -> tuple[Array, Indices]:
        rng = np.random.default_rng(seed)
        logits = 3.0 * rng.normal(size=(n, k))
        return logits, (logits / 1.7 + rng.gumbel(size=(n, k))).argmax(axis=1)

    return draw
