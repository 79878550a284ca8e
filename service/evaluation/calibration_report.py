"""How one probability compares with the frequency of its event: calibration errors against chance, slope, parts."""

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from service.core.assessment.decomposition import Loss, binned_decomposition, corp_decomposition
from service.core.assessment.miscalibration import equal_width, favourite, smooth_gap
from service.core.assessment.recalibration import calibration_in_the_large, class_log_odds, cox
from service.core.assessment.reliability import class_event, debiased_interval, null_test, reliability_curve
from service.core.numerics import Array, Flags, Indices
from service.evaluation.classification_problem import ClassificationProblem, SampleDesign, finite

PREDICTED: Final = "the predicted class"
LEVEL = 0.95
NORMAL = 1.96
LOSSES: Final[tuple[Loss, ...]] = ("brier", "log_loss")
DIAGRAM_BINS: Final = 10  # fewer than the calibration error's, so that most hold enough rows to see anything


@dataclass(frozen=True, slots=True)
class Event:
    """The event whose probability is checked: the second class of two, or the predicted class of many.

    Attributes
    ----------
    of : str
    probabilities, log_odds : ndarray of shape (N,)
    occurred : ndarray of shape (N,)
    """

    of: str
    probabilities: Array
    log_odds: Array
    occurred: Flags


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """Logistic regression of the event on the log-odds: slope 1 and intercept 0 when calibrated.

    Attributes
    ----------
    slope, intercept : float or None
        A slope below 1 is over-confident. None where the rows do not determine them.
    slope_low, slope_high, intercept_low, intercept_high : float or None
        95 % intervals.
    undetermined : str or None
        Why there is no slope: "separable" (a threshold on the probabilities separates the rows without error) or
        "one_outcome" (all rows have the same outcome or the same probability).
    reason : str or None
        Why slope and intercept have no interval: as ``undetermined``, or "one_group".
    """

    slope: float | None
    slope_low: float | None
    slope_high: float | None
    intercept: float | None
    intercept_low: float | None
    intercept_high: float | None
    undetermined: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SquaredErrorParts:
    """CORP parts of the squared error: miscalibration - discrimination + uncertainty is the error itself.

    Attributes
    ----------
    miscalibration : float
        What recalibration could remove.
    discrimination : float
        What the probabilities explain.
    uncertainty : float
        What is in the classes themselves.
    squared_error : float
        Mean squared error of the probabilities.
    """

    miscalibration: float
    discrimination: float
    uncertainty: float
    squared_error: float


@dataclass(frozen=True, slots=True)
class BinnedParts:
    """Murphy's parts of a mean loss, in 15 bins; None where infinite.

    Attributes
    ----------
    score : float or None
        ``reliability - resolution + uncertainty + within``.
    reliability, resolution, uncertainty : float or None
        Loss of the mean predicted probabilities against the bins' frequencies; what these save over the base rate; the
        base rate's own.
    within : float or None
        Variation within the bins.
    """

    score: float | None
    reliability: float | None
    resolution: float | None
    uncertainty: float | None
    within: float | None


@dataclass(frozen=True, slots=True)
class ClassCalibration:
    """Calibration in the large of one class.

    Attributes
    ----------
    mean_predicted_probability : float
        Mean predicted probability of the class.
    observed_frequency : float
        Observed frequency of the class.
    gap : float
        The first minus the second.
    noise : float
        How far the gap may lie from 0, either way, in 19 of 20 samples, by chance.
    shifted : bool
        Whether the gap is more than chance makes of any class in 1 of 20 samples: a bias, which no temperature mends.
    """

    mean_predicted_probability: float
    observed_frequency: float
    gap: float
    noise: float
    shifted: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """95 % interval of the root-mean-square gap, corrected for noise.

    Attributes
    ----------
    low : float or None
        Lower end of its interval.
    high : float or None
        Upper end of its interval.
    reason : str or None
        Why it is None: "weights" or "groups".
    """

    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ReliabilityDiagram:
    """A bin of rows per entry.

    Attributes
    ----------
    mean_predicted_probability : list of float
        Mean predicted probability of every bin.
    observed_frequency : list of float
        Observed frequency of every bin.
    low, high : list of float
        Where 95 % of the observed frequencies would lie if the probabilities were right.
    count : list of int
        Rows of every bin.
    beyond_chance : int
        Bins whose frequency lies outside that interval.
    """

    mean_predicted_probability: list[float]
    observed_frequency: list[float]
    low: list[float]
    high: list[float]
    count: list[int]
    beyond_chance: int


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """How one probability compares with the frequency of its event.

    Attributes
    ----------
    of : str
        The second class of two, or `PREDICTED`.
    rows : int
        Rows that were evaluated.
    mean_predicted_probability, observed_frequency : float
        Of the event.
    error, chance, p_value : float
        Calibration error (15 bins), the 95 % quantile that exact probabilities would show on as many rows, and the
        share of such samples with a larger error.
    smooth_error : float
        The same without bins (smECE).
    rms_gap : Gap
    line : CalibrationLine
    parts, uncalibrated_parts : SquaredErrorParts
        Of the served probability and of the model's own; for two classes the squared error is the Brier score.
    binned : dict of str to BinnedParts
        Of "brier" and "log_loss".
    classes : dict of str to ClassCalibration
        Calibration of every class, by name.
    diagram : ReliabilityDiagram
    """

    of: str
    rows: int
    mean_predicted_probability: float
    observed_frequency: float
    error: float
    chance: float
    p_value: float
    smooth_error: float
    rms_gap: Gap
    line: CalibrationLine
    parts: SquaredErrorParts
    uncalibrated_parts: SquaredErrorParts
    binned: dict[str, BinnedParts]
    classes: dict[str, ClassCalibration]
    diagram: ReliabilityDiagram

    @property
    def event(self) -> str:
        """How sentences call the probability."""
        return f"the probability of {self.of}" if self.of == PREDICTED else f"the probability of “{self.of}”"


def calibration_report(problem: ClassificationProblem) -> CalibrationReport:
    """Check the probabilities of a problem against its labels.

    Parameters
    ----------
    problem : ClassificationProblem
    """
    event, sample = event_of(problem.log_probs, problem.labels, problem.classes), problem.sample
    raw = event_of(problem.uncalibrated, problem.labels, problem.classes)
    p, occurred = event.probabilities, event.occurred
    chance = null_test(p, occurred, weights=sample.weights, groups=sample.groups, seed=sample.seed)
    return CalibrationReport(
        of=event.of,
        rows=len(problem.labels),
        mean_predicted_probability=float(np.average(p, weights=sample.weights)),
        observed_frequency=float(np.average(occurred, weights=sample.weights)),
        error=chance.error,
        chance=chance.quantile,
        p_value=chance.p_value,
        smooth_error=smooth_gap(p, occurred, weights=sample.weights),
        rms_gap=_gap(event, sample),
        line=_line(event, sample),
        parts=_parts(event, sample),
        uncalibrated_parts=_parts(raw, sample),
        binned={loss: _binned(event, loss, sample) for loss in LOSSES},
        classes=class_calibration(problem),
        diagram=reliability_diagram(event, sample),
    )


def event_of(log_probs: Array, labels: Indices, classes: tuple[str, ...]) -> Event:
    """The second class of two, the predicted class of more.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    """
    k = len(classes)
    if k == 2:
        p, occurred = class_event(log_probs, labels, 1)
        return Event(classes[1], p, class_log_odds(log_probs, 1), occurred)
    p, occurred = favourite(log_probs, labels)
    return Event(PREDICTED, p, class_log_odds(np.sort(log_probs, axis=1), k - 1), occurred)


def class_calibration(problem: ClassificationProblem) -> dict[str, ClassCalibration]:
    """Mean predicted probability of every class against its frequency, and what chance allows between them.

    Parameters
    ----------
    problem : ClassificationProblem
    """
    weights, groups = problem.sample.weights, problem.sample.groups
    z = NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / (2.0 * len(problem.classes)))  # of any of them
    found = calibration_in_the_large(problem.log_probs, problem.labels, weights=weights, groups=groups)
    widest = calibration_in_the_large(problem.log_probs, problem.labels, weights=weights, groups=groups, z=z).noise
    gap = found.predicted - found.observed
    shifted = np.abs(gap) > widest + 1e-9
    columns = (c.tolist() for c in (found.predicted, found.observed, gap, found.noise, shifted))
    return {name: ClassCalibration(*row) for name, *row in zip(problem.classes, *columns, strict=True)}


def _gap(event: Event, sample: SampleDesign) -> Gap:
    if sample.uneven:
        return Gap(None, None, sample.uneven)
    low, high = debiased_interval(event.probabilities, event.occurred, draws=_draws(len(event.probabilities)))
    return Gap(low, high, None)


def _line(event: Event, sample: SampleDesign) -> CalibrationLine:
    line = cox(event.log_odds, event.occurred, weights=sample.weights, groups=sample.groups)
    slope, intercept = (
        (finite(value), finite(value - NORMAL * error), finite(value + NORMAL * error))
        for value, error in ((line.slope, line.slope_error), (line.intercept, line.intercept_error))
    )
    undetermined = "separable" if math.isinf(line.slope) else "one_outcome" if math.isnan(line.slope) else None
    bounded = slope[1] is not None and intercept[1] is not None
    return CalibrationLine(*slope, *intercept, undetermined, None if bounded else undetermined or "one_group")


def _parts(event: Event, sample: SampleDesign) -> SquaredErrorParts:
    found = corp_decomposition(event.probabilities, event.occurred, weights=sample.weights)
    return SquaredErrorParts(found.miscalibration, found.discrimination, found.uncertainty, found.score)


def _binned(event: Event, loss: Loss, sample: SampleDesign) -> BinnedParts:
    found = binned_decomposition(event.probabilities, event.occurred, loss=loss, weights=sample.weights)
    return BinnedParts(*map(finite, astuple(found)))


def reliability_diagram(event: Event, sample: SampleDesign) -> ReliabilityDiagram:
    """Observed frequencies of an event by its predicted probability, with what chance allows.

    Parameters
    ----------
    event : Event
    sample : SampleDesign
    """
    p = event.probabilities
    curve = reliability_curve(
        p,
        event.occurred,
        index=equal_width(p, bins=DIAGRAM_BINS),
        draws=_draws(len(p)),
        weights=sample.weights,
        groups=sample.groups,
    )
    return ReliabilityDiagram(
        mean_predicted_probability=curve.predicted.tolist(),
        observed_frequency=curve.observed.tolist(),
        low=curve.low.tolist(),
        high=curve.high.tolist(),
        count=curve.count.tolist(),
        beyond_chance=int(((curve.observed < curve.low) | (curve.observed > curve.high)).sum()),
    )


def _draws(rows: int) -> int:
    """Simulations that a report can wait for."""
    return int(np.clip(50_000_000 // max(rows, 1), 200, 1000))
