"""Points of one parameter: how likely the null and the alternatives hold each of them to be.

The null is no point. What `fit` found is off by chance, as its calibration rows were finite, and within a tolerance a
deviation is of no interest. Under the null the parameter therefore has a normal distribution that is as wide as both.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array

TOLERANCE: Final = 0.05
"""In logits, or in the logarithm of a slope: 5 per cent of the odds."""

ALTERNATIVE_SCALE: Final = 0.5
"""Of Student's t with three degrees of freedom: what `fit` itself takes for likely of log T and of biases."""

STEP: Final = 0.5
NEAR: Final = 6.0
GROWTH: Final = 1.25


@dataclass(frozen=True, slots=True)
class Lattice:
    """Points, and the logarithms of their weights; weights sum to one.

    Attributes
    ----------
    points, log_null, log_alternative : ndarray of shape (J,)
    """

    points: Array
    log_null: Array
    log_alternative: Array


def lattice(error: float, *, farthest: float, tolerance: float = TOLERANCE) -> Lattice:
    """Points from -``farthest`` to ``farthest``: close together near zero, in steps that grow beyond.

    Null and alternatives have weights on the same points, so that the distance between points never favours either.

    Parameters
    ----------
    error : float
        Standard error of what `fit` found.
    farthest : float
    tolerance : float
        Standard deviation of deviations that are of no interest.

    Examples
    --------
    >>> found = lattice(0.1, farthest=3.0, tolerance=0.0)
    >>> len(found.points), float(found.points[20]), round(float(np.exp(found.log_null).max()), 2)
    (41, 0.0, 0.2)
    """
    sd = math.hypot(error, tolerance)
    points = _points(sd, farthest)
    widths = np.gradient(points)
    null = -0.5 * (points / sd) ** 2
    scale = max(ALTERNATIVE_SCALE, 3.0 * sd)
    alternative = -2.0 * np.log1p((points / scale) ** 2 / 3.0)
    return Lattice(points, _normalised(null + np.log(widths)), _normalised(alternative + np.log(widths)))


def _points(sd: float, farthest: float) -> Array:
    near = sd * np.arange(0.0, NEAR + STEP / 2.0, STEP)
    steps = math.ceil(max(math.log(farthest / near[-1]) / math.log(GROWTH), 0.0))
    upper = np.concatenate([near, near[-1] * GROWTH ** np.arange(1, steps + 1)])
    return np.concatenate([-upper[:0:-1], upper])


def _normalised(log_weights: Array) -> Array:
    return log_weights - np.logaddexp.reduce(log_weights)
