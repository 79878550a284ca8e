"""Sensitivity, specificity, predictive values, confusion matrices and ROC curves, of the label and of decisions."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.confusion import Estimate, Rates, confusion_matrix, rates
from service.core.assessment.discrimination import FEWEST, auroc, roc_curve
from service.core.costs import class_ranges
from service.core.decision import TIE_TOLERANCE
from service.core.numerics import Array, Flags, Indices

MOST_CLASSES: Final = 20  # more make no table that can be read; the most frequent are reported
POINTS: Final = 101  # of a curve

Counts = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share or an area with its 95 % interval.

    Attributes
    ----------
    value, low, high : float or None
        None where the rows do not determine it.
    rows : int
        That it is a share of; of an area, the rarer of the class' rows and the others.
    reason : str or None
        Why something is None: "no_rows", "too_few_events" or "one_group".
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class ClassRates:
    """Predicting one class, or acting on it, against the true class.

    Attributes
    ----------
    sensitivity, specificity : Rate
        Share of the rows of the class that are predicted so; share of the others that are not.
    positive_predictive_value, negative_predictive_value : Rate
        Share of the rows predicted so that are of the class; share of the rest that are not. They hold at the rows'
        own prevalence.
    """

    sensitivity: Rate
    specificity: Rate
    positive_predictive_value: Rate
    negative_predictive_value: Rate


@dataclass(frozen=True, slots=True)
class RocPoints:
    """The ROC curve of a class against the others, in at most 103 points.

    Attributes
    ----------
    false_positive_rate, sensitivity : list of float
        Share of the rows of other classes, and of the class itself, at or above each threshold.
    """

    false_positive_rate: list[float]
    sensitivity: list[float]


@dataclass(frozen=True, slots=True)
class ClassReport:
    """How well one class is discriminated from all others.

    Attributes
    ----------
    rows : int
        Of the class.
    auroc : Rate
    roc : RocPoints or None
        None where all rows are of the class, or none.
    label : ClassRates
        Where the most probable class is predicted.
    """

    rows: int
    auroc: Rate
    roc: RocPoints | None
    label: ClassRates


@dataclass(frozen=True, slots=True)
class Acted:
    """A policy's actions by the true class.

    Attributes
    ----------
    confusion : dict of str to dict of str to float, or None
        Action, then true class, then the weight of the rows; None above `MOST_CLASSES`.
    acts_on : dict of str to list of str
        By class, the actions of least cost if that class were certain: taking one of them is acting on the class.
    rates : dict of str to ClassRates
        Of acting on each class. A deferred row is acted on for a class only where deferring costs least in it.
    """

    confusion: Counts | None
    acts_on: dict[str, list[str]]
    rates: dict[str, ClassRates]


def shown_classes(labels: Indices, classes: tuple[str, ...]) -> list[int]:
    """Indices of the classes that are reported: all, or the most frequent `MOST_CLASSES`."""
    counts = np.bincount(labels, minlength=len(classes))
    return sorted(np.argsort(-counts, kind="stable")[:MOST_CLASSES].tolist())


def class_reports(
    log_probs: Array,
    labels: Indices,
    classes: tuple[str, ...],
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> dict[str, ClassReport]:
    """How well each class is discriminated from the others.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    weights, groups : ndarray of shape (N,), optional
    """
    predicted = log_probs.argmax(axis=1)
    return {
        classes[k]: ClassReport(
            int(np.count_nonzero(labels == k)),
            rate_of(auroc(log_probs[:, k], labels == k, weights=weights, groups=groups), groups, area=True),
            _roc(log_probs[:, k], labels == k, weights),
            _class_rates(predicted == k, labels == k, weights, groups),
        )
        for k in shown_classes(labels, classes)
    }


def label_confusion(
    log_probs: Array, labels: Indices, classes: tuple[str, ...], *, weights: Array | None = None
) -> Counts | None:
    """Weight of the rows by most probable and by true class; None above `MOST_CLASSES`."""
    return _counts(log_probs.argmax(axis=1), classes, labels, classes, weights)


def acted(
    action: Indices,
    actions: tuple[str, ...],
    cost: Array,
    labels: Indices,
    classes: tuple[str, ...],
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Acted:
    """Actions by the true class.

    Parameters
    ----------
    action : ndarray of shape (N,)
        Taken, flags included.
    actions : tuple of str
    cost : ndarray of shape (A, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    weights, groups : ndarray of shape (N,), optional
    """
    least = cost - cost.min(axis=0) <= TIE_TOLERANCE * class_ranges(cost)
    shown = shown_classes(labels, classes)
    return Acted(
        _counts(action, actions, labels, classes, weights),
        {classes[k]: [actions[a] for a in np.flatnonzero(least[:, k])] for k in shown},
        {classes[k]: _class_rates(least[action, k], labels == k, weights, groups) for k in shown},
    )


def rate_of(found: Estimate, groups: Indices | None, *, area: bool = False) -> Rate:
    """An estimate as a report holds it.

    Parameters
    ----------
    found : Estimate
    groups : ndarray of shape (N,), optional
        Of the rows that it was made of.
    area : bool, optional
        Whether it needs rows of both kinds.
    """
    value, low, high = (None if math.isnan(v) else v for v in (found.value, found.low, found.high))
    if value is None:
        return Rate(None, None, None, found.rows, "no_rows")
    if low is not None:
        return Rate(value, low, high, found.rows, None)
    few = area and (groups is None or found.rows < FEWEST or groups.min() != groups.max())
    return Rate(value, None, None, found.rows, "too_few_events" if few else "one_group")


def _counts(
    predicted: Indices, names: tuple[str, ...], labels: Indices, classes: tuple[str, ...], weights: Array | None
) -> Counts | None:
    if len(classes) > MOST_CLASSES:
        return None
    counted = confusion_matrix(predicted, labels, shape=(len(names), len(classes)), weights=weights)
    rows = (counted if weights is not None else counted.astype(np.int64)).tolist()
    return {name: dict(zip(classes, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def _roc(scores: Array, event: Flags, weights: Array | None) -> RocPoints | None:
    if event.all() or not event.any():
        return None
    curve = roc_curve(scores, event, weights=weights, points=POINTS)
    return RocPoints(curve.false_positive_rate.tolist(), curve.sensitivity.tolist())


def _class_rates(predicted: Flags, event: Flags, weights: Array | None, groups: Indices | None) -> ClassRates:
    found: Rates = rates(predicted, event, weights=weights, groups=groups)
    return ClassRates(
        rate_of(found.sensitivity, groups),
        rate_of(found.specificity, groups),
        rate_of(found.positive_predictive_value, groups),
        rate_of(found.negative_predictive_value, groups),
    )
