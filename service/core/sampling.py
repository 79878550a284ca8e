"""Weights and groups of rows: how much a mean over such rows is worth.

Rows of a group (a patient) are taken to have one fate, the strongest dependence there can be: chance is then never
underrated.
"""

import numpy as np

from service.core.numerics import Array, Indices


def mean_noise(deviation: Array, *, weights: Array | None = None, groups: Indices | None = None) -> float:
    r"""Standard deviation of a weighted mean of values with known deviations.

    .. math:: \frac{1}{W} \sqrt{\sum_g \Bigl(\sum_{i \in g} w_i \sigma_i\Bigr)^2}

    Exact for rows that are groups of their own; otherwise the largest that any dependence within groups allows.

    Parameters
    ----------
    deviation : ndarray of shape (N,)
        Standard deviation of every row's value.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1.

    Examples
    --------
    >>> mean_noise(np.ones(4)), round(mean_noise(np.ones(4), groups=np.array([0, 0, 1, 1])), 6)
    (0.5, 0.707107)
    """
    share = np.full(len(deviation), 1.0 / len(deviation)) if weights is None else weights / weights.sum()
    moved = share * deviation
    together = moved if groups is None else np.bincount(groups, moved)
    return float(np.sqrt(together @ together))


def informative(weights: Array | None, groups: Indices | None) -> tuple[Array | None, Indices | None]:
    """Weights and groups that matter: equal weights, and groups of one row each, are as good as none.

    Estimators that assume neither would otherwise differ from those that allow for both.

    Parameters
    ----------
    weights, groups : ndarray of shape (N,) or None

    Examples
    --------
    >>> informative(np.array([2.0, 2.0]), np.array([1, 0]))
    (None, None)
    """
    equal = weights is not None and bool((weights == weights[0]).all())
    alone = groups is not None and len(np.unique(groups)) == len(groups)
    return None if equal else weights, None if alone else groups


def mean_and_error(
    values: Array, *, weights: Array | None = None, groups: Indices | None = None
) -> tuple[float, float]:
    r"""Weighted mean of rows and its standard error, rows of a group counted as one draw.

    .. math:: \bar v = \sum_i s_i v_i, \quad
        \operatorname{se} = \sqrt{\sum_g \Bigl(\sum_{i \in g} s_i (v_i - \bar v)\Bigr)^2}, \quad s_i = w_i / W

    A weight of two is the row twice in one group, and a row twice in one group counts no more than once.

    Parameters
    ----------
    values : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1.

    Examples
    --------
    >>> mean, error = mean_and_error(np.array([0.0, 0.0, 4.0, 4.0]), groups=np.array([0, 0, 1, 1]))
    >>> mean, round(error, 6), round(mean_and_error(np.array([0.0, 4.0]))[1], 6)
    (2.0, 1.414214, 1.414214)

    References
    ----------
    Liang & Zeger (1986), *Longitudinal Data Analysis Using Generalized Linear Models*, Biometrika 73.
    """
    share = np.full(len(values), 1.0 / len(values)) if weights is None else weights / weights.sum()
    mean = float(share @ values)
    moved = share * (values - mean)
    together = moved if groups is None else np.bincount(groups, moved)
    return mean, float(np.sqrt(together @ together))


def effective_rows(n: int, *, weights: Array | None = None, groups: Indices | None = None) -> float:
    r"""How many independent rows of equal weight are as informative, at least: :math:`W^2 / \sum_g W_g^2`.

    Parameters
    ----------
    n : int
    weights, groups : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(effective_rows(4, groups=np.array([0, 0, 1, 1])), 6)
    2.0

    References
    ----------
    Kish (1965), *Survey Sampling*.
    """
    return mean_noise(np.ones(n), weights=weights, groups=groups) ** -2.0
