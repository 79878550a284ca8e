"""The probability that several labels hold at once: bounds from the marginals, and a test of their product."""

from dataclasses import dataclass

import numpy as np

from service.core.numerics import Array, Flags, Indices
from service.core.sampling import mean_noise

STANDARD_ERRORS = 4.0


@dataclass(frozen=True, slots=True)
class Joint:
    """Observed frequency of several events together, beside what their marginal probabilities imply.

    Attributes
    ----------
    observed : float
        Share of rows in which all of them occurred.
    product : float
        Mean product of their probabilities: the share, were they independent given the row.
    low, high : float
        Mean `frechet_bounds`: the share under any dependence, as far as each probability is right.
    standard_error : float
        Of ``observed`` about ``product``, were that true.
    """

    observed: float
    product: float
    low: float
    high: float
    standard_error: float

    @property
    def product_is_wrong(self) -> bool:
        """Whether the product misses what was observed by more than 4 standard errors."""
        return abs(self.observed - self.product) > STANDARD_ERRORS * self.standard_error


def frechet_bounds(probabilities: Array) -> tuple[Array, Array]:
    r"""Least and greatest probability, shape (N,) each, that all events of a row occur.

    .. math:: \max\Bigl(0, \sum_j q_j - (M - 1)\Bigr) \le P(\text{all}) \le \min_j q_j

    Nothing narrower follows from the marginal probabilities: each bound is reached under some dependence.

    Parameters
    ----------
    probabilities : ndarray of shape (N, M)
        Of each event. For a set of labels: ``q`` of those in it, ``1 - q`` of the others.

    Examples
    --------
    >>> low, high = frechet_bounds(np.array([[0.9, 0.8], [0.3, 0.4]]))
    >>> low.round(4), high
    (array([0.7, 0. ]), array([0.8, 0.3]))

    References
    ----------
    Fréchet (1935), *Généralisation du théorème des probabilités totales*, Fundamenta Mathematicae 25.
    """
    absent = (1.0 - probabilities).sum(axis=1)
    return np.maximum(0.0, 1.0 - absent), probabilities.min(axis=1)


def joint(
    probabilities: Array,
    outcomes: Flags | Indices,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Joint:
    """Whether the product of the marginal probabilities is the probability that all events occur.

    For the exact match of a predicted set: the probability of what is predicted of every label, and whether that is
    true. A network with one sigmoid per label implies this product, however its labels depend on each other.

    Parameters
    ----------
    probabilities : ndarray of shape (N, M)
    outcomes : ndarray of shape (N, M)
        Whether each event occurred.
    weights, groups : ndarray of shape (N,), optional
        Rows of a group are taken to share one draw.

    Examples
    --------
    >>> twins = np.tile([[0, 0], [1, 1]], (100, 1))
    >>> found = joint(np.full((200, 2), 0.5), twins)
    >>> found.observed, found.product, found.low, found.high, found.product_is_wrong
    (0.5, 0.25, 0.0, 0.5, True)
    """
    product_of_row, all_occurred = probabilities.prod(axis=1), outcomes.all(axis=1)
    columns = (all_occurred, product_of_row, *frechet_bounds(probabilities))
    observed, product, low, high = (float(np.average(column, weights=weights)) for column in columns)
    error = mean_noise(np.sqrt(product_of_row * (1.0 - product_of_row)), weights=weights, groups=groups)
    return Joint(observed, product, low, high, error)
