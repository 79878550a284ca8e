"""Standardisation and compact storage, shared by the scores on features.

Tested in `tests/core/ood/test_scores.py`.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array

Stored = npt.NDArray[np.float64] | npt.NDArray[np.float32]

STATE_BYTES: Final = 32 * 2**20
"""What the fitted scores of one bundle may take together. All of them at once fit up to 768 features and 1000
classes, each alone up to 2048 features."""

WIDE: Final = 2**18  # elements; above, float32 halves the state and costs 6e-8 of relative error


def spread(values: Array) -> Array:
    """Standard deviation of every feature, shape (F,); one where a feature does not vary.

    Parameters
    ----------
    values : ndarray of shape (N, F)

    Raises
    ------
    ValueError
        If there are not two rows.

    Examples
    --------
    >>> spread(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])).round(6)
    array([1.      , 1.632993])
    """
    if len(values) < 2:
        raise ValueError("one row alone does not determine how far rows spread")
    # The mean of n equal numbers is off by a last bit: exact zero misses most constant features, and would divide
    # by rounding noise.
    deviation = values.std(axis=0)
    return np.where(deviation > 1e-12 * np.abs(values).max(axis=0), deviation, 1.0)


def compact(array: Array) -> Stored:
    """The array as it is stored: float32 once it has more than `WIDE` elements."""
    return array.astype(np.float32) if array.size > WIDE else array
