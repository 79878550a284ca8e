"""How good probabilities are: metrics, discrimination, calibration, code length, and what calibration changed."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.coding import bits_by_part, code_lengths, cumulative_prior_code_length
from service.core.assessment.metrics import all_metrics
from service.core.assessment.miscalibration import favourite
from service.core.assessment.selective import area_under_risk_coverage, coverage_at_risk, excess_area
from service.core.numerics import Array, Indices
from service.evaluation.calibration_report import LEVEL, CalibrationReport, calibration_report
from service.evaluation.classification_problem import ClassificationProblem, Difference, finite
from service.evaluation.rates import ClassReport, Counts, class_reports, label_confusion

RISKS: Final = (0.01, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class CodeLength:
    """Prequential code length: bits of the labels in the order of the rows; None where it is infinite.

    Attributes
    ----------
    bits : float or None
        Of all labels. The model does not learn from them, so its prequential length is the plain sum.
    prior_bits : float
        Of a coder that sees no input and learns the frequencies of the classes as it goes.
    per_label : dict of str to (float or None)
        Bits per label in each consecutive tenth of the rows: where they rise, the model drifts.
    """

    bits: float | None
    prior_bits: float
    per_label: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class GuaranteedCoverage:
    """The most rows that may be answered while their error rate stays below a risk, with 95 % confidence.

    Attributes
    ----------
    threshold : float or None
        Answer where the most probable class has at least this probability; None where no threshold keeps the risk.
    coverage : float
        Share of the rows answered.
    reason : str or None
        "no_threshold" where there is none.
    """

    threshold: float | None
    coverage: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class SelectiveReport:
    """What leaving rows unanswered buys.

    Attributes
    ----------
    area : float
        Under the risk-coverage curve. Every row counts once.
    excess_area : float
        The area beyond that of the best order of the same errors (E-AURC).
    error : float
        Share of the rows whose most probable class is wrong.
    at_risk : dict of str to GuaranteedCoverage, or None
        For error rates of `RISKS`; None where rows are weighted or in groups: the guarantee is of independent rows.
    at_risk_reason : str or None
        Why it is None: "weights" or "groups".
    """

    area: float
    excess_area: float
    error: float
    at_risk: dict[str, GuaranteedCoverage] | None
    at_risk_reason: str | None


@dataclass(frozen=True, slots=True)
class LossChange:
    """Log loss of the served probabilities against that of the model's own.

    Attributes
    ----------
    is_calibrated : bool
        Whether the version has a calibration at all.
    uncalibrated, served : float or None
        None where infinite.
    difference : Difference
        Served minus uncalibrated; ``reason`` may be "infinite_loss".
    """

    is_calibrated: bool
    uncalibrated: float | None
    served: float | None
    difference: Difference


@dataclass(frozen=True, slots=True)
class ProbabilityReport:
    """How good the probabilities of one problem are.

    Attributes
    ----------
    metrics, uncalibrated_metrics : dict of str to float
        Of `METRICS`, of the served probabilities and of the model's own; those that the rows define.
    loss_change : LossChange
    calibration : CalibrationReport
    selective : SelectiveReport
    code_length : CodeLength
    classes : dict of str to ClassReport
        How well each class, or each of the most frequent 20, is discriminated from the others.
    confusion : dict of str to dict of str to float, or None
        Most probable class, then true class, then the weight of the rows; None above 20 classes.
    """

    metrics: dict[str, float]
    uncalibrated_metrics: dict[str, float]
    loss_change: LossChange
    calibration: CalibrationReport
    selective: SelectiveReport
    code_length: CodeLength
    classes: dict[str, ClassReport]
    confusion: Counts | None


def probability_report(problem: ClassificationProblem) -> ProbabilityReport:
    """Compare the probabilities of a problem with its labels.

    Parameters
    ----------
    problem : ClassificationProblem
    """
    log_probs, labels, sample = problem.log_probs, problem.labels, problem.sample
    return ProbabilityReport(
        metrics=all_metrics(log_probs, labels, weights=sample.weights),
        uncalibrated_metrics=all_metrics(problem.uncalibrated, labels, weights=sample.weights),
        loss_change=_loss_change(problem),
        calibration=calibration_report(problem),
        selective=_selective(problem),
        code_length=_code_length(log_probs, labels),
        classes=class_reports(log_probs, labels, problem.classes, weights=sample.weights, groups=sample.groups),
        confusion=label_confusion(log_probs, labels, problem.classes, weights=sample.weights),
    )


def _code_length(log_probs: Array, labels: Indices) -> CodeLength:
    learned = cumulative_prior_code_length(labels, classes=log_probs.shape[1])
    parts = bits_by_part(log_probs, labels)
    return CodeLength(
        finite(code_lengths(log_probs, labels).sum()),
        float(learned[-1]),
        {str(i + 1): finite(bits) for i, bits in enumerate(parts)},
    )


def _selective(problem: ClassificationProblem) -> SelectiveReport:
    confidence, right = favourite(problem.log_probs, problem.labels)
    wrong = (~right).astype(np.float64)
    reason = problem.sample.uneven
    return SelectiveReport(
        # log-probabilities still rank rows whose probabilities have all rounded to one
        area=area_under_risk_coverage(problem.log_probs.max(axis=1), ~right),
        excess_area=excess_area(confidence, wrong),
        error=float(np.average(wrong, weights=problem.sample.weights)),
        at_risk=None if reason else {f"{risk:g}": _guaranteed(confidence, wrong, risk) for risk in RISKS},
        at_risk_reason=reason,
    )


def _guaranteed(confidence: Array, wrong: Array, risk: float) -> GuaranteedCoverage:
    found = coverage_at_risk(confidence, wrong, risk=risk, confidence=LEVEL)
    threshold = finite(found.threshold)
    return GuaranteedCoverage(threshold, found.coverage, "no_threshold" if threshold is None else None)


def _loss_change(problem: ClassificationProblem) -> LossChange:
    raw, served, rows = problem.uncalibrated, problem.log_probs, np.arange(len(problem.labels))
    own = [-log_probs[rows, problem.labels] for log_probs in (raw, served)]
    before, after = (finite(np.average(losses, weights=problem.sample.weights)) for losses in own)
    calibrated = problem.calibrator != "uncalibrated"
    if before is None or after is None:
        return LossChange(calibrated, before, after, Difference(None, None, None, "infinite_loss"))
    change = raw - served
    bounds = change.min(axis=1), change.max(axis=1)
    return LossChange(calibrated, before, after, problem.sample.difference(own[1], own[0], bounds))
