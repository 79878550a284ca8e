"""Several labels of one row: each calibrated by itself, and how they depend on each other beyond the row's inputs."""

from itertools import combinations

import numpy as np

from service.core.assessment.joint_labels import joint
from service.core.calibration.firth import FirthPlatt
from service.core.numerics import Array, Indices, log_softmax, two_column


def by_label(logits: Array) -> Array:
    """Log-probabilities of absent and present, shape (N, M, 2), as the sigmoids have them.

    Parameters
    ----------
    logits : ndarray of shape (N, M)

    Examples
    --------
    >>> np.exp(by_label(np.array([[0.0, np.log(3.0)]]))).round(4)
    array([[[0.5 , 0.5 ],
            [0.25, 0.75]]])
    """
    return np.stack([log_softmax(two_column(column)) for column in logits.T], axis=1)


def calibrated_by_label(held: Array, labels: Indices, logits: Array) -> Array:
    """Log-probabilities of absent and present, shape (N, M, 2), after what `temperance fit` does to every label.

    Parameters
    ----------
    held : ndarray of shape (H, M)
        Logits of held-out rows, which the calibrators are fitted on.
    labels : ndarray of shape (H, M)
        Theirs, 0 or 1.
    logits : ndarray of shape (N, M)
    """
    columns = zip(held.T, labels.T, logits.T, strict=True)
    return np.stack([FirthPlatt.fit(two_column(z), y).apply(two_column(new)) for z, y, new in columns], axis=1)


def beyond_chance(log_probs: Array, labels: Indices, *, size: int, errors: float = 3.0) -> int:
    """How many sets of ``size`` labels are present together more or less often than the product of their probabilities.

    Parameters
    ----------
    log_probs : ndarray of shape (N, M, 2)
    labels : ndarray of shape (N, M)
    size : int
        1 counts the labels whose marginal probabilities are off; 2 the pairs that depend on each other given the row.
    errors : float
        Standard errors of chance that a set may lie away.

    Examples
    --------
    >>> twins = np.tile([[0, 0], [1, 1]], (100, 1))
    >>> half = np.log(np.full((200, 2, 2), 0.5))
    >>> beyond_chance(half, twins, size=1), beyond_chance(half, twins, size=2)
    (0, 1)
    """
    present = np.exp(log_probs[:, :, 1])
    sets = [list(chosen) for chosen in combinations(range(labels.shape[1]), size)]
    found = [joint(present[:, chosen], labels[:, chosen]) for chosen in sets]
    return sum(abs(one.observed - one.product) > errors * one.standard_error for one in found)
