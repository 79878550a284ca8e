"""Prevalence of unlabelled rows: whether it can be estimated, what it is, and whether it differs from the source."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from service.bundle.record import Record
from service.bundle.reference_sample import restore_sample
from service.core import prior
from service.core.label_shift import Projection, Sample, Shares, measure, project
from service.core.numerics import Array, Flags
from service.core.pipeline import Posterior
from service.errors import EstimateUnavailable
from service.fitting.prevalence_estimation import NOT_RETURNED, UNKNOWN_SOURCE
from service.runtime.model import Model

LEVEL: Final = 0.95
FALSE_ALARM: Final = 0.01
PLANNED: Final = 0.5  # of the false alarms; the rest is left to what approximations for few rows may miss
EXCESSIVE: Final = 0.001  # so improbable a number of flags is no chance
COMPARISONS: Final = 4  # two methods, with and without flagged rows
ITERATION_CELLS: Final = 200_000_000  # rows times classes times iterations: a second or two
PRIOR_ROWS: Final = 10.0  # at the source: the likelihood of a few rows has its maximum where classes vanish

NOT_RETURNED_ALL_THE_SAME: Final = (
    "EM on the calibration rows does not return their own prevalence, although the calibrator has an intercept for "
    "every class: estimates need another model, or more calibration rows"
)

ALL_FLAGGED: Final = "every row is flagged"
CLASS_FLAGGED: Final = (
    "the gate flags so many calibration rows of some class that unflagged rows do not determine its share"
)


@dataclass(frozen=True, slots=True)
class Share:
    """Estimated share of one class.

    Attributes
    ----------
    share : float
        Of the population that the rows come from, flagged rows included.
    low, high : float
        95 % interval: the noise of these rows and of the calibration rows.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MethodEstimate:
    """The estimate of one method.

    Attributes
    ----------
    prevalence : dict of str to Share
        By class.
    differs : bool
        Whether it differs from the source beyond noise.
    settled : bool
        Whether iterations converged; if not, nothing is concluded.
    """

    prevalence: dict[str, Share]
    differs: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class RowsEstimate:
    """Estimates from some of the rows, of the population that all of them come from.

    Attributes
    ----------
    rows : int
        Rows behind the estimates.
    em : MethodEstimate
        By expectation maximisation.
    bbse : MethodEstimate
        By black-box shift estimation.
    """

    rows: int
    em: MethodEstimate
    bbse: MethodEstimate

    @property
    def differs(self) -> bool:
        """Whether either method differs from the source."""
        return self.em.differs or self.bbse.differs


@dataclass(frozen=True, slots=True)
class PrevalenceEstimate:
    """What `:estimate` answers; `dataclasses.asdict` of it is its JSON.

    Attributes
    ----------
    alarm : bool
        Whether any estimate differs from the source. If the prevalence is the source's, the alarm is raised with
        probability 0.01 at most.
    condition : float
        Of the confusion matrix: how much an error of the mean prediction is magnified.
    level : float
        Of the intervals.
    flagged : int
        Rows that the gate flags.
    all_rows : RowsEstimate
        From all rows: right if none is out of distribution.
    unflagged_rows : RowsEstimate or None
        From unflagged rows, of the same population, if flags are as frequent in every class as at calibration; flagged
        out-of-distribution rows do not move it. None where unflagged rows are not enough.
    obstacle : str or None
        Why there is no estimate from unflagged rows.
    """

    alarm: bool
    condition: float
    level: float
    flagged: int
    all_rows: RowsEstimate
    unflagged_rows: RowsEstimate | None
    obstacle: str | None


def estimate(model: Model, posterior: Posterior) -> PrevalenceEstimate:
    """Prevalence of the population that rows come from, by EM and BBSE.

    Parameters
    ----------
    model : Model
    posterior : Posterior

    Raises
    ------
    EstimateUnavailable
        Where the estimate would mislead: its text says why and what to do.
    """
    known = _known(model, _checked_record(model))
    flagged = np.zeros(len(posterior.logits), dtype=np.bool_) if posterior.flagged is None else posterior.flagged
    _refuse_excess_flags(posterior.log_probs, flagged, known)
    everything = _estimate_rows(posterior.log_probs, known.everything, known)
    obstacle = ALL_FLAGGED if flagged.all() else None if known.gated is not None else CLASS_FLAGGED
    without = None
    if known.gated is not None and obstacle is None:
        without = _estimate_rows(posterior.log_probs[~flagged], known.gated, known)
    alarm = everything.differs or (without is not None and without.differs)
    return PrevalenceEstimate(alarm, known.condition, LEVEL, int(flagged.sum()), everything, without, obstacle)


@dataclass(frozen=True, slots=True)
class _Reference:
    # A sample, and the functions whose means are the black-box estimate.
    sample: Sample
    black_box: Projection


@dataclass(frozen=True, slots=True)
class _Known:
    classes: tuple[str, ...]
    source: Array
    variance: Array
    condition: float
    everything: _Reference
    gated: _Reference | None


def _known(model: Model, record: Record) -> _Known:
    source, samples, found = model.source, restore_sample(model.bundle.state), record.estimation
    if found is None or source is None or samples is None or found.condition is None or found.source_error is None:
        raise EstimateUnavailable(f"{model.bundle.title} was not prepared for estimates; fit it again")
    everything = _reference(samples[0], source)
    if everything is None:
        raise EstimateUnavailable(f"{model.bundle.title} does not separate its classes well enough; fit it again")
    gated = None if samples[1] is None else _reference(samples[1], source)
    return _Known(model.classes, source, np.array(found.source_error) ** 2, found.condition, everything, gated)


def _reference(sample: Sample, source: Array) -> _Reference | None:
    try:
        return _Reference(sample, project(sample, source=source, target=source))
    except ValueError:
        return None


def _checked_record(model: Model) -> Record:
    record, title = model.bundle.record, model.bundle.title
    if model.task != "multiclass":
        raise EstimateUnavailable(f"{title} is a {model.task} model; estimates are of classes that exclude each other")
    if record is None:
        raise EstimateUnavailable(f"{title} is uncalibrated; calibrate it with `temperance fit`")
    if model.source is None:
        raise EstimateUnavailable(f"{title}: {UNKNOWN_SOURCE}")
    if record.estimation is not None and record.estimation.obstacle is not None:
        obstacle = record.estimation.obstacle
        followed = obstacle == NOT_RETURNED and model.method not in {"temperature", "identity"}
        raise EstimateUnavailable(f"{title}: {NOT_RETURNED_ALL_THE_SAME if followed else obstacle}")
    return record


def _refuse_excess_flags(log_probs: Array, flagged: Flags, known: _Known) -> None:
    if known.gated is None or not flagged.any():
        return
    rates, z = 1.0 - known.gated.sample.unflagged_rates, NormalDist().inv_cdf(1.0 - EXCESSIVE)
    means, prevalence = np.zeros_like(rates), np.eye(len(rates))[rates.argmax()]
    if not flagged.all():
        found = measure(log_probs[~flagged], known.gated.black_box)
        means, prevalence = found.means, found.crowded(int(rates.argmax()), z=z)
    flags, rows = int(flagged.sum()), len(flagged)
    if known.gated.black_box.excess_flags(means, prevalence, rows=rows, flagged=flags, z=z):
        raise EstimateUnavailable(
            f"{flags} of {rows} rows are flagged, and of calibration rows {rates.min():.3g} to {rates.max():.3g}, "
            "depending on the class: these rows differ in more than the proportions of the classes, which estimates "
            "rest on"
        )


def _estimate_rows(log_probs: Array, reference: _Reference, known: _Known) -> RowsEstimate:
    likeliest, settled = _maximise(log_probs, reference.sample, known.source)
    target = (len(log_probs) * likeliest + PRIOR_ROWS * known.source) / (len(log_probs) + PRIOR_ROWS)
    try:
        efficient = project(reference.sample, source=known.source, target=target)
    except ValueError as error:
        raise EstimateUnavailable(f"at the prevalence of these rows, {error}") from None
    return RowsEstimate(
        rows=len(log_probs),
        em=_concluded(measure(log_probs, efficient), known, settled=settled),
        bbse=_concluded(measure(log_probs, reference.black_box), known, settled=True),
    )


def _maximise(log_probs: Array, sample: Sample, source: Array) -> tuple[Array, bool]:
    # Of unflagged rows, whose source is another where flags are more frequent in some classes; then of all.
    affordable = max(200, min(5000, ITERATION_CELLS // log_probs.size))
    among = source * sample.unflagged_rates
    found = prior.expectation_maximisation(
        log_probs, source=among, confusion=sample.confusion, tolerance=1e-9, iterations=affordable
    )
    prevalence: Array = found.prevalence / sample.unflagged_rates
    return prevalence / prevalence.sum(), found.settled


def _concluded(found: Shares, known: _Known, *, settled: bool) -> MethodEstimate:
    level = PLANNED * FALSE_ALARM / (COMPARISONS * len(known.source))
    differs = found.differs(known.source, z=NormalDist().inv_cdf(1.0 - 0.5 * level), variance=known.variance)
    low, high = found.interval(z=NormalDist().inv_cdf(0.5 + 0.5 * LEVEL))
    columns = (column.tolist() for column in (found.prevalence, low, high))
    shares = {name: Share(*row) for name, *row in zip(known.classes, *columns, strict=True)}
    return MethodEstimate(shares, settled and bool(differs.any()), settled)
