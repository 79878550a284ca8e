"""Rows whose outcome is known only because of the action: apart, and weighted where that is possible.

Tested in tests/monitoring/test_performance.py.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.ascertainment import inverse_probability_weights
from service.core.numerics import Array, Flags, Indices
from service.evaluation.classification_problem import SampleDesign
from service.monitoring.observations import ACTION, AnsweredRows, Predictions
from service.monitoring.part_performance import (
    ClassPerformance,
    LossPerformance,
    PartPerformance,
    class_performance,
    loss_performance,
    part_performance,
)

PARTS: Final = (5, 3, 1)
"""Parts of the probability's range within an action, the finest that have outcomes."""

APART: Final = (
    "These outcomes are known only because of the action that was taken. They say how good the predictions of such "
    "rows were. They say nothing about rows on which another action was taken, and nothing about what another action "
    "would have come to. No alarm and no refit uses them."
)
WEIGHTED: Final = (
    "Every row with an outcome is weighted with the inverse of the share of known outcomes among rows with the same "
    "action and a similar probability. This describes all answered rows if, among such rows, it does not depend on "
    "the true class whether the outcome becomes known."
)
NO_OVERLAP: Final = (
    "No weighting can make up for this: the policy decides by the probability alone, and rows on which some actions "
    "were taken have too few known outcomes. Nothing can be concluded about those rows: neither their error rates, "
    "nor calibration there, nor the cost of another action. Outcomes of a random sample of them, reported as "
    "ascertainment `audit`, would make it possible."
)
NO_ACTION: Final = (
    "No weighting is possible: some of these answers hold no decision, so that nothing says why an outcome is known."
)


@dataclass(frozen=True, slots=True)
class WeightedPerformance:
    """Estimates for all answered rows, by inverse-probability weighting.

    Attributes
    ----------
    rows : int
        With an outcome.
    of : int
        Answered rows that they stand for.
    ranges : int
        Parts of the probability's range within every action.
    log_loss : LossPerformance
        Weighted.
    classes : dict of str to ClassPerformance
        Weighted, by name.
    """

    rows: int
    of: int
    ranges: int
    log_loss: LossPerformance
    classes: dict[str, ClassPerformance]


@dataclass(frozen=True, slots=True)
class ActionPerformance:
    """Predictions whose outcome is known only because of the action.

    Attributes
    ----------
    rows : int
        How many.
    apart : PartPerformance or None
        Of these alone.
    weighted : WeightedPerformance or None
        Of all answered rows; None where it cannot be estimated.
    without_outcomes : tuple of str
        Actions whose rows have too few known outcomes.
    statements : tuple of str
        What can be concluded, and what not.
    """

    rows: int
    apart: PartPerformance | None
    weighted: WeightedPerformance | None
    without_outcomes: tuple[str, ...]
    statements: tuple[str, ...]


def action_performance(part: Predictions, rows: AnsweredRows) -> ActionPerformance | None:
    """Performance of such predictions; None where there are none.

    Parameters
    ----------
    part : Predictions
        With and without an outcome.
    rows : AnsweredRows
    """
    known = part.labels >= 0
    own = known & (rows.ascertainment[part.row] == ACTION)
    if not own.any():
        return None
    apart = part_performance(part.part(own), rows.subject[part.row[own]])
    names, action = _actions(part)
    if (action < 0).any():
        return ActionPerformance(int(own.sum()), apart, None, (), (APART, NO_ACTION))
    subject = rows.subject[part.row]
    weights, ranges, without = _weights(known, action, _risk(part), subject)
    if weights is None:
        without_outcomes = tuple(names[a] for a in without)
        return ActionPerformance(int(own.sum()), apart, None, without_outcomes, (APART, NO_OVERLAP))
    weighted = _weighted(part, known, weights, subject, ranges)
    return ActionPerformance(int(own.sum()), apart, weighted, (), (APART, WEIGHTED))


def _actions(part: Predictions) -> tuple[list[str], Indices]:
    """Names, and the action of every prediction; -1 without a decision."""
    action: Indices = np.full(len(part.labels), -1)
    names: dict[str, int] = {}
    for decided in part.decided:
        place = np.array([names.setdefault(name, len(names)) for name in decided.policy.actions])
        action[decided.places] = place[decided.action]
    return list(names), action


def _risk(part: Predictions) -> Array:
    """What the parts of the range are cut from: log-probability of the second class of two, of the first of more."""
    log_risk: Array = part.log_probs[:, 1] if len(part.classes) == 2 else part.log_probs[:, 0]
    return log_risk


def _weights(known: Flags, action: Indices, risk: Array, subject: Indices) -> tuple[Array | None, int, Indices]:
    """Weights, in how many parts the range of every action is cut, and the actions that have none."""
    for ranges in PARTS:
        kind = action * ranges + _ranges(action, risk, ranges)
        found = inverse_probability_weights(known, kind, groups=subject)
        if found.weights is not None:
            return found.weights, ranges, found.without
    return None, 1, found.without


def _ranges(action: Indices, risk: Array, ranges: int) -> Indices:
    """Part of the range of its own action that every row lies in, of equally many rows."""
    order = np.lexsort((risk, action))
    count = np.bincount(action)
    start = np.cumsum(count) - count
    place: Indices = np.empty(len(action), dtype=np.intp)
    place[order] = (np.arange(len(action)) - start[action[order]]) * ranges // count[action[order]]
    return place


def _weighted(part: Predictions, known: Flags, weights: Array, subject: Indices, ranges: int) -> WeightedPerformance:
    seen = part.part(known)
    sample = SampleDesign.of(weights[known], np.unique(subject[known], return_inverse=True)[1])
    shown = [1] if len(part.classes) == 2 else np.unique(seen.labels)[:20].tolist()
    return WeightedPerformance(
        rows=int(known.sum()),
        of=len(known),
        ranges=ranges,
        log_loss=loss_performance(seen.log_probs, seen.labels, sample),
        classes={part.classes[k]: class_performance(seen, k, sample) for k in shown},
    )
