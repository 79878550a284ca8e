"""Prevalence of unlabelled rows: whether a version can tell it, what it is, and whether it differs from the source."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from service.bundle.record import EstimationRecord, PrevalenceRecord, Record, State
from service.core import prior
from service.core.numerics import Array, Indices
from service.core.pipeline import Posterior
from service.errors import EstimateUnavailable
from service.evaluation.dataset import Dataset
from service.runtime.model import Model

CONFUSION: Final = "prevalence:confusion"
MOST_CLASSES: Final = 100
MOST_CELLS: Final = 1_000_000  # of rows times classes in the self-check of a fit
LEVEL: Final = 0.95
FALSE_ALARM: Final = 0.01
STRANGE: Final = 0.001  # so improbable a number of flags is no chance
COMPARISONS: Final = 4  # two methods, with and without flagged rows
ITERATION_CELLS: Final = 200_000_000  # rows times classes times iterations: a second or two
UNKNOWN_SOURCE: Final = (
    "nobody knows which prevalence its probabilities speak of: declare [training] prevalence in the manifest, or fit a "
    "calibration with a bias (--calibrator auto or bcts)"
)

NOT_RETURNED: Final = (
    "EM on the calibration rows does not return their own prevalence, so the model is not calibrated well enough; fit "
    "with --calibrator auto or bcts"
)
NOT_RETURNED_ALL_THE_SAME: Final = (
    "EM on the calibration rows does not return their own prevalence, although the calibrator has an intercept for "
    "every class: estimates need another model, or more calibration rows"
)


@dataclass(frozen=True, slots=True)
class MethodEstimate:
    """What one method makes of some rows.

    Attributes
    ----------
    prevalence, low, high : ndarray of shape (K,)
        With the ends of its interval: the noise of these rows, of the calibration rows, and how far the method was off
        on the calibration rows.
    differs : bool
        Whether it differs from the source beyond noise.
    settled : bool
        Whether iterations came to rest; if not, nothing is concluded.
    """

    prevalence: Array
    low: Array
    high: Array
    differs: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class RowsEstimate:
    """What every method makes of some rows."""

    rows: int
    methods: dict[str, MethodEstimate]


@dataclass(frozen=True, slots=True)
class PrevalenceEstimate:
    """Answer of `:estimate`.

    Attributes
    ----------
    flagged : int
    condition : float
        Of the confusion matrix: how much an error of the mean prediction is magnified.
    alarm : bool
        Whether any estimate differs from the source; where none does, it is true with probability 0.01 at most.
    all_rows : RowsEstimate
    unflagged_rows : RowsEstimate or None
        None if every row is flagged.
    """

    flagged: int
    condition: float
    alarm: bool
    all_rows: RowsEstimate
    unflagged_rows: RowsEstimate | None


def check_estimation(
    log_probs: Array, data: Dataset, source: PrevalenceRecord, classes: tuple[str, ...]
) -> tuple[EstimationRecord, State]:
    """Whether estimates of other rows can be believed: on calibration rows they must return what is known.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Out of fold, under the source prevalence.
    data : Dataset
    source : PrevalenceRecord
    classes : tuple of str
    """
    missing = np.setdiff1d(np.arange(len(classes)), data.labels)
    if source.prevalence is None:
        return EstimationRecord(obstacle=UNKNOWN_SOURCE), {}
    if len(missing):
        return EstimationRecord(obstacle=f"no calibration row is of class {classes[missing[0]]!r}"), {}
    if len(classes) > MOST_CLASSES:
        return EstimationRecord(obstacle=f"estimates are made for {MOST_CLASSES} classes at most"), {}
    matrix = prior.confusion(log_probs, data.labels)
    shares = np.array([source.prevalence[c] for c in classes])
    few = _some_rows(data.labels, every=math.ceil(log_probs.size / MOST_CELLS))
    try:
        record = _self_check(log_probs[few], data.labels[few], shares, matrix)
    except ValueError as error:
        return EstimationRecord(obstacle=str(error)), {}
    return record, {CONFUSION: matrix}


def _some_rows(labels: Indices, *, every: int) -> Indices:
    # The first of every class too: a rare one must not be missed.
    return np.union1d(np.arange(0, len(labels), every), np.unique(labels, return_index=True)[1])


def _self_check(log_probs: Array, labels: Indices, source: Array, matrix: Array) -> EstimationRecord:
    counts = np.bincount(labels, minlength=len(source))
    observed = counts / counts.sum()
    found = {
        "em": _maximise(log_probs, source, matrix),
        "bbse": prior.black_box_shift(log_probs, confusion=matrix),
    }
    # Under their own prevalence: a declared source need not be that of the calibration rows.
    own = prior.shift(log_probs, source=source, target=observed)
    returned = prior.returns_source(own, labels, source=observed)
    scale = math.sqrt(len(labels))
    return EstimationRecord(
        obstacle=None if returned else NOT_RETURNED,
        condition=found["em"].condition,
        deviation={name: tuple((scale * e.standard_error).tolist()) for name, e in found.items()},
        miss={name: tuple(np.abs(e.prevalence - observed).tolist()) for name, e in found.items()},
    )


def estimate(model: Model, posterior: Posterior) -> PrevalenceEstimate:
    """Prevalence of the rows that a posterior is about, by EM and BBSE.

    Parameters
    ----------
    model : Model
    posterior : Posterior

    Raises
    ------
    EstimateUnavailable
        Where the estimate would mislead: its text says why and what to do.
    """
    record = _checked_record(model)
    known = _known(model, record)
    flagged = np.zeros(len(posterior.logits), dtype=np.bool_) if posterior.flagged is None else posterior.flagged
    _refuse_strangers(model, record, flags=int(flagged.sum()), rows=len(flagged))
    everything = _estimate_rows(posterior.log_probs, known)
    without = None if flagged.all() else _estimate_rows(posterior.log_probs[~flagged], known)
    alarm = any(method.differs for part in (everything, without) if part for method in part.methods.values())
    return PrevalenceEstimate(int(flagged.sum()), known.condition, alarm, everything, without)


@dataclass(frozen=True, slots=True)
class _Known:
    source: Array
    confusion: Array
    condition: float
    deviation: dict[str, Array]
    miss: dict[str, Array]
    rows_per_class: Array


def _known(model: Model, record: Record) -> _Known:
    source, matrix, found = model.source, model.bundle.state.get(CONFUSION), record.estimation
    if found is None or source is None or matrix is None or found.condition is None:
        raise EstimateUnavailable(f"{model.bundle.title} was not prepared for estimates; fit it again")
    counts = np.array([record.provenance.class_counts[c] for c in model.classes], dtype=np.float64)
    groups = record.provenance.groups
    return _Known(
        source,
        np.asarray(matrix, dtype=np.float64),
        found.condition,
        {name: np.array(values) for name, values in (found.deviation or {}).items()},
        {name: np.array(values) for name, values in (found.miss or {}).items()},
        counts if groups is None else counts * groups / record.provenance.rows,
    )


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


def _refuse_strangers(model: Model, record: Record, *, flags: int, rows: int) -> None:
    ood = model.manifest.ood
    promised = ood.false_alarm if ood.gate_scores else 0.0
    if "range" in ood.gate_members:
        promised += record.provenance.range_rate
    calibrated_on = min((record.scores[name].rows for name in ood.gate_scores), default=record.provenance.rows)
    if chance_of_flags(flags, rows=rows, rate=promised, calibrated_on=calibrated_on) < STRANGE:
        raise EstimateUnavailable(
            f"{flags} of {rows} rows are flagged, and the rate promised for rows of the calibrated population is "
            f"{promised:g}: these rows differ in more than the proportions of the classes, which estimates rest on"
        )


def chance_of_flags(flags: int, *, rows: int, rate: float, calibrated_on: int) -> float:
    r"""Probability of so many flags or more among rows of the calibrated population.

    The rate that a threshold really has varies with the rows that gave it, as a Beta law; the number of flags is
    then beta-binomial.

    .. math:: F \sim \mathrm{Bin}(N, q), \quad q \sim \mathrm{Beta}(l, m + 1 - l), \quad l = (m + 1) \alpha

    Parameters
    ----------
    flags, rows : int
    rate : float
        Promised false-alarm rate.
    calibrated_on : int
        m, rows that the threshold rests on.

    Examples
    --------
    >>> round(chance_of_flags(1, rows=1, rate=0.05, calibrated_on=999), 6)
    0.05
    """
    share = min(max(rate * (calibrated_on + 1), 1.0), calibrated_on)
    rest = calibrated_on + 1 - share
    constant = math.lgamma(rows + 1) - _log_beta(share, rest)
    terms = (
        math.exp(constant - math.lgamma(j + 1) - math.lgamma(rows - j + 1) + _log_beta(j + share, rows - j + rest))
        for j in range(flags, rows + 1)
    )
    return min(math.fsum(terms), 1.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _estimate_rows(log_probs: Array, known: _Known) -> RowsEstimate:
    found = {
        "em": _maximise(log_probs, known.source, known.confusion),
        "bbse": prior.black_box_shift(log_probs, confusion=known.confusion),
    }
    return RowsEstimate(
        len(log_probs), {name: _judged(name, one, known, len(log_probs)) for name, one in found.items()}
    )


def _maximise(log_probs: Array, source: Array, matrix: Array) -> prior.Estimate:
    affordable = max(200, min(5000, ITERATION_CELLS // log_probs.size))
    return prior.expectation_maximisation(
        log_probs, source=source, confusion=matrix, tolerance=1e-9, iterations=affordable
    )


def _judged(name: str, found: prior.Estimate, known: _Known, rows: int) -> MethodEstimate:
    noise, miss = _noise(found, known, known.deviation[name], rows), known.miss[name]
    half = NormalDist().inv_cdf(0.5 + 0.5 * LEVEL) * noise + miss
    limit = NormalDist().inv_cdf(1.0 - 0.5 * FALSE_ALARM / (COMPARISONS * len(known.source))) * noise + miss
    differs = found.settled and bool(np.any(np.abs(found.prevalence - known.source) > limit + 1e-9))
    low, high = np.maximum(found.prevalence - half, 0.0), np.minimum(found.prevalence + half, 1.0)
    return MethodEstimate(found.prevalence, low, high, differs, found.settled)


def _noise(found: prior.Estimate, known: _Known, deviation: Array, rows: int) -> Array:
    # Few rows can happen to agree with each other; the calibration rows tell how much rows really differ.
    of_rows = np.maximum(found.standard_error, deviation / math.sqrt(rows))
    # A column of the confusion matrix is a mean over its class' rows, and weighs as much as the class is prevalent.
    shares = np.maximum(found.prevalence, known.source) / known.rows_per_class
    noise: Array = of_rows * math.sqrt(1.0 + rows * float(shares.max()))
    return noise
