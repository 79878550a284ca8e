"""One curve for each class against the rest, renormalised: shared by isotonic and histogram calibration.

Tested in `tests/core/calibration/test_isotonic.py`.
"""

from collections.abc import Sequence

import numpy as np

from service.core.numerics import Array, logsumexp, top_and_rest
from service.core.state_checks import SUM_TOLERANCE, check_array, check_number


def log_odds(logits: Array) -> Array:
    r"""Log-odds of every class against all others together.

    .. math:: \ln\frac{p_k}{1 - p_k} = z_k - \ln \sum_{l \ne k} e^{z_l}

    For two classes it is exactly plus and minus the difference of the logits, so equal differences stay ties.

    Parameters
    ----------
    logits : ndarray of shape (N, K)

    Examples
    --------
    >>> log_odds(np.array([[0.0, 40.0], [1.0, 2.0]]))
    array([[-40.,  40.],
           [ -1.,   1.]])
    """
    top, shifted, rest = top_and_rest(logits)
    rows = np.arange(len(logits))
    odds = shifted - np.log1p(np.maximum(rest[:, None] - np.exp(shifted), 0.0))
    shifted[rows, top] = -np.inf
    odds[rows, top] = -logsumexp(shifted)
    return odds


def pooled(x: Array, hits: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Distinct values in ascending order, the weight of each, and its share of hits; weightless rows are left out.

    Parameters
    ----------
    x, hits, weights : ndarray of shape (N,)

    Examples
    --------
    >>> pooled(np.array([2.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.0]), np.ones(3))
    (array([1., 2.]), array([1., 2.]), array([0. , 0.5]))
    """
    kept = weights > 0.0
    values, of_row = np.unique(x[kept], return_inverse=True)
    mass = np.bincount(of_row, weights[kept]).astype(np.float64)
    return values, mass, np.bincount(of_row, weights[kept] * hits[kept]) / mass


def check_curves(values: Array, blend: float, *shape: int) -> None:
    """Refuse curves of another shape (K, M), or with a share outside 0 to 1.

    Raises
    ------
    ValueError
    """
    check_number("blend", blend, above=0.0, below=1.0)
    shares = check_array("values", values, *shape)
    if not shares.size or shares.min() < 0.0 or shares.max() > 1.0 + SUM_TOLERANCE:
        raise ValueError("values must be shares from 0 to 1")


def rectangular(rows: Sequence[Array], width: int) -> Array:
    """Arrays of several lengths as one, each prolonged with its last number, or with zeros if it has none.

    Parameters
    ----------
    rows : sequence of ndarray
    width : int

    Examples
    --------
    >>> rectangular([np.array([1.0, 2.0]), np.array([])], 3)
    array([[1., 2., 2.],
           [0., 0., 0.]])
    """
    return np.stack([np.pad(row, (0, width - len(row)), mode="edge") if len(row) else np.zeros(width) for row in rows])


def blended(shares: Array, blend: float) -> Array:
    r"""Logarithms of rows brought to sum one, then mixed with the uniform distribution.

    .. math:: q \leftarrow (1 - m)\, q + m / K

    A curve fitted to counts is zero where it saw no case; the mixture never does. With
    :math:`m = 1 / (n + 1)` it is Laplace's rule.

    Parameters
    ----------
    shares : ndarray of shape (N, K)
        Not negative; a row of zeros becomes uniform.
    blend : float
        m.

    Examples
    --------
    >>> np.exp(blended(np.array([[1.0, 0.0], [0.0, 0.0]]), 0.1)).round(4)
    array([[0.95, 0.05],
           [0.5 , 0.5 ]])
    """
    k = shares.shape[1]
    total = shares.sum(axis=1, keepdims=True)
    q = np.divide(shares, total, out=np.full_like(shares, 1.0 / k), where=total > 0.0)
    return np.log((1.0 - blend) * q + blend / k)
