"""The losses of the family without their gradients, for reports; formulas and papers stand at the functions with both.

Each takes what the function of the same name takes and returns one number per row, shape (N,).

Tested in `tests/core/losses/test_losses.py`: every value is that of the function with the gradient.
"""

import math

import numpy as np

from service.core.losses.loss import LOWEST
from service.core.losses.sequence import PADDING
from service.core.losses.softmax import log_rest_mass
from service.core.numerics import Array, Indices, log_softmax


def cross_entropy(logits: Array, labels: Indices) -> Array:
    """Negative log-probability of the true class.

    Examples
    --------
    >>> cross_entropy(np.log([[0.7, 0.2, 0.1]]), np.array([0])).round(4)
    array([0.3567])
    """
    loss: Array = -log_softmax(logits)[np.arange(len(logits)), labels]
    return loss


def weighted_cross_entropy(logits: Array, labels: Indices, *, class_weights: Array) -> Array:
    """Cross-entropy times the weight of the true class."""
    weighted: Array = np.asarray(class_weights)[labels] * cross_entropy(logits, labels)
    return weighted


def focal(logits: Array, labels: Indices, *, gamma: float = 2.0, alpha: Array | None = None) -> Array:
    """Cross-entropy times a power of the probability of the other classes."""
    rest = np.exp(gamma * log_rest_mass(log_softmax(logits), labels))
    weight = 1.0 if alpha is None else np.asarray(alpha)[labels]
    return weight * rest * cross_entropy(logits, labels)


def label_smoothing(logits: Array, labels: Indices, *, epsilon: float = 0.1) -> Array:
    """Cross-entropy against the true class mixed with all classes alike."""
    log_probs = log_softmax(logits)
    own = log_probs[np.arange(len(logits)), labels]
    return -(1.0 - epsilon) * own - epsilon * log_probs.mean(axis=1)


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """Cross-entropy against distributions."""
    return -np.einsum("nk,nk->n", targets, log_softmax(logits))


def distillation(logits: Array, labels: Indices, *, teacher: Array, tau: float = 4.0, soft_share: float = 0.5) -> Array:
    """Cross-entropy against a teacher's softened distribution, combined with the hard labels."""
    soft = soft_cross_entropy(logits / tau, np.exp(log_softmax(teacher / tau)))
    return soft_share * tau**2 * soft + (1.0 - soft_share) * cross_entropy(logits, labels)


def binary_cross_entropy(logits: Array, labels: Indices, *, positive_weight: float = 1.0) -> Array:
    """Cross-entropy of one logit per row."""
    return multilabel_cross_entropy(logits[:, None], labels[:, None], positive_weight=positive_weight)


def multilabel_cross_entropy(logits: Array, labels: Indices, *, positive_weight: float | Array = 1.0) -> Array:
    """Sum over labels of the binary cross-entropies."""
    weight = np.where(labels == 1, positive_weight, 1.0)
    total: Array = (weight * np.logaddexp(0.0, (1.0 - 2.0 * labels) * logits)).sum(axis=1)
    return total


def sigmoid_focal(logits: Array, labels: Indices, *, gamma: float = 2.0, alpha: float | None = None) -> Array:
    """Sum over labels of focal losses of one logit each."""
    sign = 2.0 * labels - 1.0
    weight = 1.0 if alpha is None else np.where(labels == 1, alpha, 1.0 - alpha)
    rest = np.exp(-gamma * np.logaddexp(0.0, sign * logits))
    total: Array = (weight * rest * np.logaddexp(0.0, -sign * logits)).sum(axis=1)
    return total


def sequence_cross_entropy(logits: Array, labels: Indices, *, smoothness: float = 0.0) -> Array:
    """Cross-entropy of every position and a price on change between neighbours."""
    n, length, k = logits.shape
    present = labels != PADDING
    each = cross_entropy(logits.reshape(-1, k), np.where(present, labels, 0).ravel()).reshape(n, length)
    total: Array = (each * present).sum(axis=1)
    if smoothness == 0.0:
        return total
    log_probs = log_softmax(logits.reshape(-1, k)).reshape(logits.shape)
    change = _jensen_shannon(log_probs[:, :-1], log_probs[:, 1:]) * (present[:, :-1] & present[:, 1:])
    return total + smoothness * change.sum(axis=1)


def _jensen_shannon(log_p: Array, log_q: Array) -> Array:
    log_p, log_q = np.maximum(log_p, LOWEST), np.maximum(log_q, LOWEST)
    log_m = np.logaddexp(log_p, log_q) - math.log(2.0)
    half: Array = 0.5 * (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m))
    return half.sum(axis=-1)
