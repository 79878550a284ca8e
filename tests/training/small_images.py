"""Images of 8 x 8 pixels for the tests of training: a bar in one of three places, and noise."""

import numpy as np

from service.training.example_sets import Examples


def bars_of_light(rows: int = 240, *, seed: int = 0) -> Examples:
    """A bright column at the left, in the middle, or at the right, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    images = rng.uniform(0.0, 0.6, (rows, 8, 8))
    images[np.arange(rows), :, 1 + 2 * labels] += 0.3
    return Examples(images.astype(np.float32), labels)


def lying(rows: int = 120, *, seed: int = 9) -> np.ndarray:
    """The same, turned by a quarter."""
    return np.rot90(bars_of_light(rows, seed=seed).inputs, axes=(1, 2)).copy()
