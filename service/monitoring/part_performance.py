"""How good answered probabilities turned out to be: calibration, discrimination, label sets.

Tested in tests/monitoring/test_performance.py.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from service.core.assessment.calibration_line import calibration_intercept, calibration_slope
from service.core.assessment.confusion import Estimate, proportion
from service.core.assessment.discrimination import auroc
from service.core.assessment.expected_loss import bits, entropies, expected_log_loss
from service.core.assessment.observed_expected import observed_over_expected
from service.core.assessment.recalibration import class_log_odds
from service.core.assessment.reliability import null_test
from service.core.decision import decide
from service.core.numerics import Array, Flags, Indices
from service.evaluation.calibration_report import ReliabilityDiagram, event_of, reliability_diagram
from service.evaluation.classification_problem import ClassificationProblem, Difference, SampleDesign, finite
from service.evaluation.policy_report import PolicyReport, policy_report
from service.evaluation.rates import Rate, rate_of, shown_classes
from service.monitoring.observations import Decided, LabelSets, Predictions


@dataclass(frozen=True, slots=True)
class LossPerformance:
    """Log loss against the log loss that the probabilities themselves expect, per row.

    Attributes
    ----------
    observed, expected : float or None
        In nats; ``expected`` is the mean entropy of the probabilities. None where infinite.
    low, high : float
        Where ``observed`` lies in 19 of 20 samples, at least, if the probabilities are right.
    observed_bits, expected_bits : float or None
        The same as code length.
    excess : Difference
        ``observed`` minus ``expected``, with its 95 % interval.
    beyond_chance : bool
        Whether ``observed`` lies outside ``low`` to ``high``.
    """

    observed: float | None
    expected: float
    low: float
    high: float
    observed_bits: float | None
    expected_bits: float
    excess: Difference
    beyond_chance: bool


@dataclass(frozen=True, slots=True)
class CalibrationPerformance:
    """Calibration error of one probability against that of exact probabilities.

    Attributes
    ----------
    of : str
        The second class of two, or the predicted class of more.
    error, chance, p_value : float
        Calibration error (15 bins), its 95 % quantile if the probabilities are right, and how often a larger one
        occurs then.
    diagram : ReliabilityDiagram
        Predicted probabilities against observed frequencies, in bins.
    """

    of: str
    error: float
    chance: float
    p_value: float
    diagram: ReliabilityDiagram


@dataclass(frozen=True, slots=True)
class ClassPerformance:
    """One class against the others.

    Attributes
    ----------
    observed : int
        Rows of the class.
    expected : float
        Sum of its probabilities.
    observed_over_expected, intercept, slope : Rate
        Calibration in the large as a ratio (1 when right), and as what is missing in the log-odds (0); calibration
        slope (1; below it the probabilities are too sure).
    auroc : Rate
        Discrimination from the other classes.
    """

    observed: int
    expected: float
    observed_over_expected: Rate
    intercept: Rate
    slope: Rate
    auroc: Rate


@dataclass(frozen=True, slots=True)
class SetPerformance:
    """How often label sets held the true class.

    Attributes
    ----------
    coverage : float
        As it was requested.
    covered : Rate
        Share of sets that held the true class.
    mean_size : float
        Classes of a set.
    classes : dict of str to Rate
        Covered rows of each true class.
    """

    coverage: float
    covered: Rate
    mean_size: float
    classes: dict[str, Rate]


@dataclass(frozen=True, slots=True)
class PolicyPerformance:
    """What decisions with the same costs came to.

    Attributes
    ----------
    policy, source : str
        Name; where the costs were declared: "manifest" or "request".
    rows : int
        Decided so, with an outcome.
    costs : dict of str to dict of str to float
        Action, then class.
    report : PolicyReport
        What they cost.
    """

    policy: str
    source: str
    rows: int
    costs: dict[str, dict[str, float]]
    report: PolicyReport


@dataclass(frozen=True, slots=True)
class PartPerformance:
    """Predictions of one class each, all with an outcome.

    Attributes
    ----------
    rows : int
        With an outcome.
    subjects : int
        What they are independent draws of.
    class_counts : dict of str to int
        Of which by class.
    log_loss : LossPerformance
        Log loss against expectation.
    calibration : CalibrationPerformance
        Calibration error against chance.
    classes : dict of str to ClassPerformance
        Of two classes the second; of more the most frequent 20.
    sets : tuple of SetPerformance
        Label sets, by their coverage.
    policies : tuple of PolicyPerformance
        Decisions, by their costs.
    """

    rows: int
    subjects: int
    class_counts: dict[str, int]
    log_loss: LossPerformance
    calibration: CalibrationPerformance
    classes: dict[str, ClassPerformance]
    sets: tuple[SetPerformance, ...]
    policies: tuple[PolicyPerformance, ...]


def part_performance(known: Predictions, subject: Indices, *, weights: Array | None = None) -> PartPerformance | None:
    """Compare predictions with their outcomes; None where there is none.

    Parameters
    ----------
    known : Predictions
        Each with an outcome.
    subject : ndarray of shape (P,)
    weights : ndarray of shape (P,), optional
    """
    if len(known.labels) == 0:
        return None
    groups = np.unique(subject, return_inverse=True)[1]
    sample = SampleDesign.of(weights, groups)
    counts = np.bincount(known.labels, minlength=len(known.classes)).tolist()
    return PartPerformance(
        rows=len(known.labels),
        subjects=int(groups.max()) + 1,
        class_counts=dict(zip(known.classes, counts, strict=True)),
        log_loss=loss_performance(known.log_probs, known.labels, sample),
        calibration=_calibration(known, sample),
        classes={known.classes[k]: class_performance(known, k, sample) for k in _shown(known)},
        sets=tuple(_set_performance(known, sets, groups) for sets in known.sets),
        policies=tuple(_policy(known, decided, sample) for decided in known.decided),
    )


def loss_performance(log_probs: Array, labels: Indices, sample: SampleDesign) -> LossPerformance:
    """Log loss against expectation.

    Parameters
    ----------
    log_probs : ndarray of shape (P, K)
    labels : ndarray of shape (P,)
    sample : SampleDesign
    """
    found = expected_log_loss(log_probs, labels, weights=sample.weights, groups=sample.groups)
    observed = finite(found.observed)
    return LossPerformance(
        observed,
        found.expected,
        found.low,
        found.high,
        None if observed is None else bits(observed),
        bits(found.expected),
        _excess(log_probs, labels, sample),
        found.beyond_chance,
    )


def class_performance(known: Predictions, k: int, sample: SampleDesign) -> ClassPerformance:
    """One class against the others.

    Parameters
    ----------
    known : Predictions
    k : int
    sample : SampleDesign
    """
    p, log_odds, occurred = np.exp(known.log_probs[:, k]), class_log_odds(known.log_probs, k), known.labels == k
    weights, groups = sample.weights, sample.groups
    expected = float(p.sum() if weights is None else weights @ p)
    return ClassPerformance(
        observed=int(np.count_nonzero(occurred)),
        expected=expected,
        observed_over_expected=_rate(observed_over_expected(p, occurred, weights=weights, groups=groups), groups),
        intercept=_rate(calibration_intercept(log_odds, occurred, weights=weights, groups=groups), groups),
        slope=_rate(calibration_slope(log_odds, occurred, weights=weights, groups=groups), groups),
        auroc=_rate(auroc(log_odds, occurred, weights=weights, groups=groups), groups),
    )


def _shown(known: Predictions) -> list[int]:
    """Of two classes the second: the first is its mirror image."""
    return [1] if len(known.classes) == 2 else shown_classes(known.labels, known.classes)


def _rate(found: Estimate, groups: Indices | None) -> Rate:
    value, low, high = (end if np.isfinite(end) else math.nan for end in (found.value, found.low, found.high))
    return rate_of(Estimate(value, low, high, found.rows), groups, area=True)


def _excess(log_probs: Array, labels: Indices, sample: SampleDesign) -> Difference:
    losses, expected = -np.maximum(log_probs, -745.0), entropies(log_probs)
    bounds = losses.min(axis=1) - expected, losses.max(axis=1) - expected
    return sample.difference(losses[np.arange(len(labels)), labels], expected, bounds)


def _calibration(known: Predictions, sample: SampleDesign) -> CalibrationPerformance:
    event = event_of(known.log_probs, known.labels, known.classes)
    found = null_test(event.probabilities, event.occurred, weights=sample.weights, groups=sample.groups)
    return CalibrationPerformance(
        event.of, found.error, found.quantile, found.p_value, reliability_diagram(event, sample)
    )


def _set_performance(known: Predictions, sets: LabelSets, subject: Indices) -> SetPerformance:
    labels, groups = known.labels[sets.places], subject[sets.places]
    hit: Flags = sets.member[np.arange(len(labels)), labels]
    by_class = {
        known.classes[k]: rate_of(proportion(hit[own], groups=groups[own]), groups[own])
        for k in shown_classes(labels, known.classes)
        if (own := labels == k).any()
    }
    covered = rate_of(proportion(hit, groups=groups), groups)
    return SetPerformance(sets.coverage, covered, float(sets.member.sum(axis=1).mean()), by_class)


def _policy(known: Predictions, decided: Decided, sample: SampleDesign) -> PolicyPerformance:
    policy, own = decided.policy, decided.places
    log_probs = known.log_probs[own]
    answered = replace(decide(log_probs, policy.cost), action=decided.action)
    weights = None if sample.weights is None else sample.weights[own]
    groups = None if sample.groups is None else np.unique(sample.groups[own], return_inverse=True)[1]
    problem = ClassificationProblem(
        classes=known.classes,
        log_probs=log_probs,
        uncalibrated=log_probs,  # the model's own say nothing of costs
        labels=known.labels[own],
        sample=SampleDesign.of(weights, groups),
        policies={policy.name: policy},
        decisions={policy.name: answered},
        calibrator="",
    )
    costs = {
        action: dict(zip(known.classes, row, strict=True))
        for action, row in zip(policy.actions, policy.cost.tolist(), strict=True)
    }
    return PolicyPerformance(policy.name, policy.source, len(own), costs, policy_report(problem, policy.name))
