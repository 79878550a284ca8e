"""Two models or strategies on the same rows: paired differences of log loss and of realised cost."""

import numpy as np

from service.core.assessment.utility import Difference, difference_bounds, paired_difference
from service.core.numerics import Array, Indices

FLOOR = -745.0  # of a log-probability: exp of it is the smallest double


def log_loss_difference(
    log_probs: Array,
    others: Array,
    labels: Indices,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Difference:
    r"""How much more log loss one model has than another on the same rows, in nats per row, with its 95 % interval.

    .. math:: \frac{1}{W} \sum_i w_i \bigl(\log q_{i y_i} - \log p_{i y_i}\bigr)

    A pair shares its row's chance, so that the interval is far narrower than that of two log losses apart. What every
    other class of a row would have made enters the interval as possible; zero probabilities count as the smallest
    double.

    Parameters
    ----------
    log_probs, others : ndarray of shape (N, K)
        p and q.
    labels : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional
        Rows of a group are one draw.

    Examples
    --------
    >>> p, q = (np.log(np.tile([1.0 - share, share], (100, 1))) for share in (0.1, 0.3))
    >>> found = log_loss_difference(p, q, (np.arange(100) < 30) * 1)
    >>> round(found.mean, 3), found.low < 0.153 < found.high, found.low > 0.0
    (0.154, True, True)
    """
    change = np.maximum(others, FLOOR) - np.maximum(log_probs, FLOOR)
    loss = change[np.arange(len(labels)), labels]
    return paired_difference(
        loss,
        np.zeros_like(loss),
        least=change.min(axis=1),
        most=change.max(axis=1),
        weights=weights,
        groups=groups,
    )


def cost_difference(
    actions: Indices,
    others: Indices,
    cost: Array,
    labels: Indices,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Difference:
    """How much more the actions of one strategy cost than those of another on the same rows, with its 95 % interval.

    Parameters
    ----------
    actions, others : ndarray of shape (N,)
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional

    Examples
    --------
    >>> costs = np.array([[0.0, 10.0], [1.0, 1.0]])
    >>> labels = (np.arange(200) < 60) * 1
    >>> found = cost_difference(np.zeros(200, dtype=int), np.ones(200, dtype=int), costs, labels)
    >>> found.mean, found.low > 0.0
    (2.0, True)
    """
    least, most = difference_bounds(actions, others, cost)
    return paired_difference(
        cost[actions, labels], cost[others, labels], least=least, most=most, weights=weights, groups=groups
    )
