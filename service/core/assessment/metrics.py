"""How good the probabilities are: ``*_score`` higher is better, all others lower."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.coding import bits_per_label, compression_score, perplexity
from service.core.assessment.miscalibration import (
    adaptive_calibration_error,
    calibration_error,
    classwise_calibration_error,
    debiased_calibration_error,
    equal_mass_calibration_error,
    ks_calibration_error,
    maximum_calibration_error,
    top_label_calibration_error,
)
from service.core.assessment.ranking import average_precision
from service.core.assessment.selective import area_under_risk_coverage
from service.core.numerics import Array, Indices


def accuracy_score(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Share of rows whose most probable class is the true one.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> accuracy_score(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.5
    """
    return float(np.average(log_probs.argmax(axis=1) == labels, weights=weights))


def log_loss(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    r"""Mean negative log-probability of the true class, in nats: :math:`-\frac1n \sum_i \log p_{i y_i}`.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(log_loss(np.log([[0.5, 0.5]]), np.array([1])), 6)
    0.693147
    """
    return float(-np.average(_own(log_probs, labels), weights=weights))


def brier_loss(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    r"""Brier score: mean squared error of the probabilities, :math:`\frac1n \sum_i \sum_k (p_{ik} - [y_i = k])^2`.

    Of three classes or more the sum over classes, from 0 to 2; of two classes the error of one of the two
    probabilities, from 0 to 1, which is half that sum. This is scikit-learn's convention (``scale_by_half="auto"``),
    and that of all parts of the Brier score here.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(brier_loss(np.log([[0.75, 0.25]]), np.array([0])), 6)
    0.0625

    References
    ----------
    Brier (1950), *Verification of Forecasts Expressed in Terms of Probability*, Monthly Weather Review 78.
    """
    p = np.exp(log_probs)
    p[np.arange(len(p)), labels] -= 1.0
    error = float(np.average(np.einsum("nk,nk->n", p, p), weights=weights))
    return error / 2.0 if p.shape[1] == 2 else error


def auroc_score(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Probability that a row of a class gets more of that class than another row does, averaged over classes.

    For two classes the area under the ROC curve; ties count half. Classes that no row or every row has are left
    out; not a number when none remains.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> auroc_score(np.log([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]), np.array([0, 0, 1]))
    0.5

    References
    ----------
    Hanley & McNeil (1982), *The Meaning and Use of the Area under a ROC Curve*, Radiology 143.
    """
    w = np.ones(len(labels)) if weights is None else weights
    events = ((log_probs[:, k], labels == k) for k in _present(log_probs, labels))
    parts = [separation_score(p[~own], p[own], weights=w[~own], ood_weights=w[own]) for p, own in events]
    return float(np.mean(parts)) if parts else math.nan


def average_precision_score(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Area under the precision-recall curve of each class against the others, averaged over classes.

    For two classes the mean of both, so that it does not depend on which is called positive.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> average_precision_score(np.log([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    present = _present(log_probs, labels)
    parts = [average_precision(log_probs[:, k], labels == k, weights=weights) for k in present]
    return float(np.mean(parts)) if parts else math.nan


def aurc_loss(log_probs: Array, labels: Indices) -> float:
    """Mean error rate over all coverages when the least confident rows are left unanswered first.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> aurc_loss(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.25
    """
    # log-probabilities still rank rows whose probabilities have all rounded to one
    return area_under_risk_coverage(log_probs.max(axis=1), log_probs.argmax(axis=1) != labels)


def separation_score(
    scores: Array, ood_scores: Array, *, weights: Array | None = None, ood_weights: Array | None = None
) -> float:
    """Probability that an out-of-distribution row scores above an in-distribution one (AUROC; ties count half).

    Parameters
    ----------
    scores : ndarray of shape (N,)
        OOD scores of in-distribution rows.
    ood_scores : ndarray of shape (M,)
        OOD scores of out-of-distribution rows.
    weights, ood_weights : ndarray of shape (N,) and (M,), optional

    Examples
    --------
    >>> separation_score(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    0.875
    """
    order = np.argsort(scores)
    mass = np.ones(len(scores)) if weights is None else weights[order]
    cumulated = np.concatenate([[0.0], mass.cumsum()])
    ends = (np.searchsorted(scores[order], ood_scores, side=side) for side in ("left", "right"))
    below = sum(cumulated[end] for end in ends)
    return float(np.average(below, weights=ood_weights) / (2.0 * cumulated[-1]))


def realised_cost(actions: Indices, cost: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Mean cost of the actions taken, now that the true classes are known.

    Parameters
    ----------
    actions : ndarray of shape (N,)
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> realised_cost(np.array([0, 1]), np.array([[0.0, 50.0], [1.0, 1.0]]), np.array([1, 1]))
    25.5
    """
    return float(np.average(cost[actions, labels], weights=weights))


def _own(log_probs: Array, labels: Indices) -> Array:
    return log_probs[np.arange(len(labels)), labels]


def _present(log_probs: Array, labels: Indices) -> list[int]:
    """Classes that some rows have and some have not."""
    counts = np.bincount(labels, minlength=log_probs.shape[1])
    return [int(k) for k in np.flatnonzero((counts > 0) & (counts < len(labels)))]


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure of how good probabilities are, and its explanation for readers.

    Attributes
    ----------
    function : callable
        Of log-probabilities (N, K) and labels (N,); ``weights`` (N,) too where ``weighted``.
    meaning : str
        One line: what it measures, and which way is better where the name does not say so.
    weighted : bool
        Whether it has a meaning for weighted rows; the others count rows, in bins, ranks or corrections.
    """

    function: Callable[..., float]
    meaning: str
    weighted: bool = True

    def __call__(self, log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
        """Value over the rows; a weight of two is the row twice."""
        return self.function(log_probs, labels, **({} if weights is None else {"weights": weights}))


def all_metrics(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> dict[str, float]:
    """Every registered metric by name; one that these rows do not define (of one class only, for example) is left out.

    So is, for weighted rows, one that has no meaning with weights.
    """
    if weights is None:
        values = {name: metric(log_probs, labels) for name, metric in METRICS.items()}
    else:
        kept = weights > 0.0  # a row of weight 0 is no row
        rows, true, mass = log_probs[kept], labels[kept], weights[kept]
        values = {name: metric(rows, true, weights=mass) for name, metric in METRICS.items() if metric.weighted}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def mean_metrics(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Every metric's mean over the parts that define it, such as the labels of a multilabel model.

    Parameters
    ----------
    parts : sequence of dict of str to float

    Examples
    --------
    >>> mean_metrics([{"log_loss": 0.25, "auroc_score": 0.5}, {"log_loss": 0.75}])
    {'log_loss': 0.5, 'auroc_score': 0.5}
    """
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: float(np.mean([part[name] for part in parts if name in part])) for name in names}


METRICS: Final[dict[str, Metric]] = {
    "accuracy_score": Metric(
        accuracy_score, "share of rows whose most probable class is the true class; higher is better"
    ),
    "log_loss": Metric(log_loss, "mean negative log-probability of the true class, in nats; lower is better"),
    "bits_per_label": Metric(bits_per_label, "the log loss in bits: the code length of one label"),
    "perplexity": Metric(perplexity, "exponential of the log loss: as many equally likely classes are as uncertain"),
    "compression_score": Metric(
        compression_score, "share of the bits saved against a coder that knows the class frequencies alone"
    ),
    "brier_loss": Metric(
        brier_loss, "Brier score: squared error of the probabilities, for two classes of one of them; lower is better"
    ),
    "auroc_score": Metric(
        auroc_score, "probability that a row of a class is ranked above a row of another; mean over classes"
    ),
    "average_precision_score": Metric(
        average_precision_score, "area under the precision-recall curve; mean over classes"
    ),
    "aurc_loss": Metric(
        aurc_loss, "area under the risk-coverage curve: mean error rate over all coverages", weighted=False
    ),
    "calibration_error": Metric(
        calibration_error, "gap between confidence and accuracy (15 bins; biased up when rows are few)"
    ),
    "equal_mass_calibration_error": Metric(
        equal_mass_calibration_error, "calibration error with bins of equal numbers of rows", weighted=False
    ),
    "maximum_calibration_error": Metric(maximum_calibration_error, "the largest gap of any bin"),
    "classwise_calibration_error": Metric(
        classwise_calibration_error, "gap of the probability of every class; the one that expected costs depend on"
    ),
    "adaptive_calibration_error": Metric(
        adaptive_calibration_error, "classwise calibration error with bins of equal numbers of rows", weighted=False
    ),
    "top_label_calibration_error": Metric(top_label_calibration_error, "gap within every predicted class"),
    "ks_calibration_error": Metric(
        ks_calibration_error, "largest gap between cumulated confidence and cumulated accuracy; needs no bins"
    ),
    "debiased_calibration_error": Metric(
        debiased_calibration_error, "root mean squared gap, corrected for the noise of few rows", weighted=False
    ),
}
