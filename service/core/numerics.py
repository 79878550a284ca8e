"""Stable logarithms of sums and probabilities."""

from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

Number = TypeVar("Number", bound=np.generic)

MANY_CLASSES: Final = 100
EXACT: Final = 2**53
"""A double of this size or more may stand for several whole numbers."""

_DOUBLE: Final = np.dtype(np.float64)
_SINGLE: Final = np.dtype(np.float32)


def width(classes: int) -> np.dtype[Any]:
    """Type that logits of so many classes are computed in: float64 up to `MANY_CLASSES`, float32 above.

    A function of the model, never of the number of rows. With many classes the exponentials are all that counts and
    float32 halves the memory they pass through; it keeps probabilities to 1e-6, and nll to 1e-6 of itself above 1e-6.

    Examples
    --------
    >>> width(10), width(1000)
    (dtype('float64'), dtype('float32'))
    """
    return _DOUBLE if classes <= MANY_CLASSES else _SINGLE


def read_only(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The same array, made read-only: a constant that many answers share.

    Examples
    --------
    >>> read_only(np.zeros(1)).flags.writeable
    False
    """
    values.flags.writeable = False
    return values


def top_and_rest(logits: Array) -> tuple[Indices, Array, Array]:
    r"""Split every row into its largest logit and the mass of the others relative to it.

    The largest term is left out of the sum, so a row like ``(40, 0, 0)`` keeps its ``8.5e-18`` instead of
    losing it beside a one.

    Parameters
    ----------
    logits : ndarray of shape (N, K)

    Returns
    -------
    top : ndarray of shape (N,)
        Index of the row's largest logit, the lowest index when several are equal.
    shifted : ndarray of shape (N, K)
        ``logits`` minus the row's largest.
    rest : ndarray of shape (N,)
        :math:`\sum_{k \ne top} e^{z_k - z_{top}}`.
    """
    top = logits.argmax(axis=1)
    rows = np.arange(len(logits))
    shifted = logits - logits[rows, top][:, None]
    weights = np.exp(shifted)
    weights[rows, top] = 0.0
    return top, shifted, weights.sum(axis=1)


def logsumexp(logits: Array) -> Array:
    """Logarithm of the sum of exponentials of every row.

    Parameters
    ----------
    logits : ndarray of shape (N, K)

    Examples
    --------
    >>> logsumexp(np.array([[1000.0, 1000.0], [0.0, -np.inf]])).round(4)
    array([1000.6931,    0.    ])
    """
    _, _, rest = top_and_rest(logits)
    return logits.max(axis=1) + np.log1p(rest)


def log_softmax(logits: Array) -> Array:
    r"""Normalised log-probabilities.

    .. math:: \log p_k = z_k - \log \sum_l e^{z_l}

    Parameters
    ----------
    logits : ndarray of shape (N, K)

    Returns
    -------
    ndarray of shape (N, K)
        Exact in the relative sense for the largest class too: ``log1p`` of the other classes' mass.

    Examples
    --------
    >>> f"{log_softmax(np.array([[40.0, 0.0, 0.0]]))[0, 0]:.4e}"
    '-8.4967e-18'
    """
    _, shifted, rest = top_and_rest(logits)
    return shifted - np.log1p(rest)[:, None]


def predicted_nll(logits: Array) -> Array:
    r"""Negative log-likelihood of the predicted class.

    .. math:: -\max_k \log p_k = \log\Bigl(1 + \sum_{k \ne \hat k} e^{z_k - z_{\hat k}}\Bigr)

    Parameters
    ----------
    logits : ndarray of shape (N, K)

    Examples
    --------
    >>> predicted_nll(np.array([[0.0, 0.0], [40.0, 0.0]]))
    array([6.93147181e-01, 4.24835426e-18])
    """
    _, _, rest = top_and_rest(logits)
    return np.log1p(rest)


def largest(values: Array, count: int) -> Indices:
    """Places of the largest values of every row, descending; of equal ones the first comes first.

    Parameters
    ----------
    values : ndarray of shape (N, K)
    count : int

    Returns
    -------
    ndarray of shape (N, min(count, K))

    Examples
    --------
    >>> largest(np.array([[1.0, 3.0, 2.0, 3.0]]), 3)
    array([[1, 3, 2]])
    """
    if 2 * count >= values.shape[1]:
        return np.argsort(-values, axis=1, kind="stable")[:, :count]
    some = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    found = np.take_along_axis(values, some, axis=1)
    order = np.take_along_axis(some, np.argsort(-found, axis=1, kind="stable"), axis=1)
    # Where more values equal the last one found than were taken, the partition took any of them.
    tied = np.count_nonzero(values >= found.min(axis=1, keepdims=True), axis=1) > count
    order[tied] = np.argsort(-values[tied], axis=1, kind="stable")[:, :count]
    return order


def two_column(logit: Array) -> Array:
    """Logits of both classes from the one logit of the second: ``[0, z]``, never ``[-z, z]``.

    Parameters
    ----------
    logit : ndarray of shape (N,)

    Examples
    --------
    >>> two_column(np.array([1.5]))
    array([[0. , 1.5]])
    """
    both = np.zeros((len(logit), 2), dtype=logit.dtype)
    both[:, 1] = logit
    return both


def floored_log(probabilities: Array, *, floor: float) -> Array:
    """Logarithms of probabilities that may be zero: clipped below at ``floor``, then renormalised.

    Parameters
    ----------
    probabilities : ndarray of shape (N, K)
    floor : float
        Smallest probability that differs from zero. Random forests and saturated sigmoids emit exact zeros, and
        the floor alone then decides how far a temperature must spread them.

    Examples
    --------
    >>> floored_log(np.array([[0.0, 1.0]]), floor=1e-7).round(6)
    array([[-16.118096,  -0.      ]])
    """
    return log_softmax(np.log(np.maximum(probabilities, floor)))
