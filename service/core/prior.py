"""Prevalence shift: the posterior once the classes are mixed in other proportions, and estimates of those."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Indices, log_softmax
from service.core.sampling import mean_noise

CONDITION_LIMIT: Final = 1e6
"""Above it, classes look so alike to the model that their proportions cannot be estimated."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Prevalence of the rows at hand, seen through the model alone.

    Attributes
    ----------
    prevalence : ndarray of shape (K,)
    standard_error : ndarray of shape (K,)
        Noise of the rows at hand; not that of the calibration. Not meaningful for a class estimated at exactly zero.
    condition : float
        Condition number of `confusion`: how much the estimate magnifies errors of the mean prediction.
    settled : bool
        Whether the iterations came to rest.
    """

    prevalence: Array
    standard_error: Array
    condition: float
    settled: bool


def shift(log_probs: Array, *, source: Array, target: Array) -> Array:
    r"""Posterior under another class prior.

    .. math:: \log p'(k \mid x) = \log p(k \mid x) + \log \frac{\pi'_k}{\pi_k} - \log Z

    Valid when only the class proportions differ between the two populations (label shift), not what a class
    looks like.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Calibrated under ``source``.
    source : ndarray of shape (K,)
        Positive prevalences.
    target : ndarray of shape (K,), or (N, K) where it varies by row
        One that equals ``source`` is a no-op to the last bit.

    Examples
    --------
    >>> np.exp(shift(np.log([[0.2, 0.8]]), source=np.array([0.5, 0.5]), target=np.array([0.9, 0.1]))).round(4)
    array([[0.6923, 0.3077]])

    References
    ----------
    Elkan (2001), *The Foundations of Cost-Sensitive Learning*, IJCAI, theorem 2.
    """
    same = np.all(source == target, axis=-1)
    if np.all(same):
        return log_probs
    return np.where(same[..., None], log_probs, log_softmax(log_probs + np.log(target / source)))


def mean_agrees(
    log_probs: Array,
    prevalence: Array,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
    standard_errors: float = 4.0,
) -> bool:
    r"""Whether the mean posterior matches observed class frequencies within sampling noise.

    The noise of class k is that of labels drawn from the posterior, :math:`\sqrt{\sum_i p_{ik}(1-p_{ik})}/n`. Rows of
    a group are taken to share one draw, the strongest dependence there can be.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    prevalence : ndarray of shape (K,)
        Class frequencies among the same rows, by the same weights.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1.
    standard_errors : float
        How many of them still count as agreement.

    Examples
    --------
    >>> mean_agrees(np.log(np.full((100, 2), 0.5)), np.array([0.9, 0.1]))
    False
    """
    probabilities = np.exp(log_probs)
    deviations = np.sqrt(probabilities * (1.0 - probabilities)).T
    noise = np.array([mean_noise(deviation, weights=weights, groups=groups) for deviation in deviations])
    gap = np.abs(np.average(probabilities, axis=0, weights=weights) - prevalence)
    return bool(np.all(gap <= standard_errors * noise + 1e-12))


def confusion(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> Array:
    r"""Mean posterior of the rows of every class, shape (K, K), columns what is true.

    .. math:: M_{jk} = E[p(j \mid x) \mid y = k]

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Raises
    ------
    ValueError
        If a class has no rows of any weight; it is named by its index, from 0.

    Examples
    --------
    >>> confusion(np.log([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]]), np.array([0, 0, 1])).round(4)
    array([[0.8, 0.4],
           [0.2, 0.6]])
    """
    classes = log_probs.shape[1]
    w = np.ones(len(labels)) if weights is None else weights
    missing = np.setdiff1d(np.arange(classes), labels[w > 0.0])
    if len(missing):
        raise ValueError(f"no row is labelled as class {missing[0]}: what the model makes of it is unknown")
    probabilities = np.exp(log_probs)
    of_class = [labels == k for k in range(classes)]
    return np.stack([np.average(probabilities[own], axis=0, weights=w[own]) for own in of_class], axis=1)


def expectation_maximisation(
    log_probs: Array,
    *,
    source: Array,
    confusion: Array,
    weights: Array | None = None,
    groups: Indices | None = None,
    tolerance: float = 1e-12,
    iterations: int = 5000,
) -> Estimate:
    r"""Prevalence of maximum likelihood (Saerens' EM): the mean of the posterior that it shifts.

    .. math:: \pi_k \leftarrow \frac1N \sum_i \frac{\pi_k r_{ik}}{\sum_l \pi_l r_{il}}, \quad
        r_{ik} = \frac{p(k \mid x_i)}{\pi^{source}_k}

    The likelihood is concave, so there is one answer (if `confusion` can be inverted). Standard errors are the
    inverse Fisher information within the simplex; with weights or groups, the sandwich over groups.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Of unlabelled rows, calibrated under ``source``: an uncalibrated model gives a wrong answer silently, which
        is what `returns_source` is for.
    source : ndarray of shape (K,)
        Positive.
    confusion : ndarray of shape (K, K)
        Of calibration rows.
    weights : ndarray of shape (N,), optional
    groups : ndarray of shape (N,), optional
        0..G-1; rows of a group count as one draw.
    tolerance : float
        Rests once no entry moves by more.
    iterations : int

    Raises
    ------
    ValueError
        If the condition number of ``confusion`` exceeds `CONDITION_LIMIT`.

    Examples
    --------
    >>> rows = np.log(np.repeat([[0.8, 0.2], [0.4, 0.6]], [30, 70], axis=0))
    >>> matrix = np.array([[0.7, 0.4], [0.3, 0.6]])
    >>> found = expectation_maximisation(rows, source=np.array([0.5, 0.5]), confusion=matrix)
    >>> found.prevalence.round(4), found.standard_error.round(4)
    (array([0.6667, 0.3333]), array([0.1528, 0.1528]))

    References
    ----------
    Saerens et al. (2002), *Adjusting the Outputs of a Classifier to New a Priori Probabilities*, Neural Computation 14.
    Alexandari et al. (2020), *Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift
    Adaptation*, ICML.
    """
    condition = checked_condition(confusion)
    relative = np.exp(log_probs - log_probs.max(axis=1, keepdims=True)) / source
    share = np.full(len(log_probs), 1.0 / len(log_probs)) if weights is None else weights / weights.sum()
    prevalence, settled = source / source.sum(), False
    for _ in range(iterations):
        previous = prevalence
        prevalence = previous * ((share / (relative @ previous)) @ relative)
        settled = bool(np.abs(prevalence - previous).max() <= tolerance)
        if settled:
            break
    return Estimate(
        prevalence / prevalence.sum(), _simplex_errors(relative, prevalence, share, groups), condition, settled
    )


def returns_source(
    log_probs: Array,
    labels: Indices,
    *,
    source: Array,
    weights: Array | None = None,
    groups: Indices | None = None,
    standard_errors: float = 4.0,
) -> bool:
    """Whether EM on calibration rows finds their known source prevalence, within sampling noise.

    Where it does not, the model is not calibrated well enough for its estimates on other rows to hold.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    source : ndarray of shape (K,)
    weights, groups : ndarray of shape (N,), optional
        As in `expectation_maximisation`.
    standard_errors : float

    Raises
    ------
    ValueError
        As `confusion` and `expectation_maximisation` do.
    """
    matrix = confusion(log_probs, labels, weights=weights)
    found = expectation_maximisation(log_probs, source=source, confusion=matrix, weights=weights, groups=groups)
    gap = np.abs(found.prevalence - source / source.sum())
    return found.settled and bool(np.all(gap <= standard_errors * found.standard_error + 1e-6))


def checked_condition(matrix: Array) -> float:
    """Condition number of a confusion matrix; ValueError where it exceeds `CONDITION_LIMIT`."""
    condition = float(np.linalg.cond(matrix))
    if not condition <= CONDITION_LIMIT:
        raise ValueError(
            f"the model discriminates the classes too poorly to estimate their prevalence: the condition number "
            f"of its confusion matrix is {condition:.3g}, and more than {CONDITION_LIMIT:g} is refused"
        )
    return condition


def _simplex_errors(relative: Array, prevalence: Array, share: Array, groups: Indices | None) -> Array:
    # Prevalences sum to one, so the information is inverted among directions that sum to zero.
    k = len(prevalence)
    axes = np.linalg.qr(np.eye(k) - 1.0 / k)[0][:, : k - 1]
    gradients = (relative / (relative @ prevalence)[:, None]) @ axes
    scores = share[:, None] * gradients
    bread = np.linalg.pinv(scores.T @ gradients)
    if groups is not None:
        sums = np.zeros((int(groups.max()) + 1, k - 1))
        np.add.at(sums, groups, scores)
        scores = sums
    return _root_diagonal(axes @ bread @ (scores.T @ scores) @ bread @ axes.T)


def _root_diagonal(covariance: Array) -> Array:
    return np.sqrt(np.maximum(np.diag(covariance), 0.0))
