"""Whether a version can estimate the prevalence of unlabelled rows: checked on its calibration rows.

Tested in tests/evaluation/test_prevalence.py.
"""

import math
from typing import Final

import numpy as np

from service.bundle.record import EstimationRecord, PrevalenceRecord
from service.bundle.reference_sample import as_stored, pack_sample
from service.bundle.state import State
from service.core import prior
from service.core.label_shift import Sample
from service.core.numerics import Array, Indices
from service.data.dataset import Dataset

MOST_CLASSES: Final = 100
MOST_CELLS: Final = 1_000_000  # of rows times classes in the self-check of a fit
UNKNOWN_SOURCE: Final = (
    "the source prevalence of its probabilities is unknown: declare [training] prevalence in the manifest, or fit "
    "a calibration with a bias (--calibrator auto or bcts)"
)
NOT_RETURNED: Final = (
    "EM on the calibration rows does not return their own prevalence, so the model is not calibrated well enough; fit "
    "with --calibrator auto or bcts"
)


def check_estimation(
    log_probs: Array, data: Dataset, source: PrevalenceRecord, classes: tuple[str, ...], *, gate: Indices
) -> tuple[EstimationRecord, State]:
    """Whether estimates are reliable: on the calibration rows they must return the known prevalence.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Out of fold, under the source prevalence.
    data : Dataset
    source : PrevalenceRecord
    classes : tuple of str
    gate : ndarray of shape (N,)
        Of every row, as `service.bundle.reference_sample.pack_sample` takes it.
    """
    missing = np.setdiff1d(np.arange(len(classes)), data.labels)
    if source.prevalence is None:
        return EstimationRecord(obstacle=UNKNOWN_SOURCE), {}
    if len(missing):
        return EstimationRecord(obstacle=f"no calibration row is of class {classes[missing[0]]!r}"), {}
    if len(classes) > MOST_CLASSES:
        return EstimationRecord(obstacle=f"estimates are made for {MOST_CLASSES} classes at most"), {}
    sample = Sample(log_probs, data.labels, np.ones(len(data), dtype=np.bool_), data.weights, data.groups)
    shares = np.array([source.prevalence[c] for c in classes])
    try:
        condition, returned = _self_check(sample, shares)
    except ValueError as error:
        return EstimationRecord(obstacle=str(error)), {}
    if not returned:
        return EstimationRecord(obstacle=NOT_RETURNED), {}
    declared = source.basis == "declared"
    errors = np.zeros(len(classes)) if declared else _frequency_errors(data, classes=len(classes))
    record = EstimationRecord(obstacle=None, condition=condition, source_error=tuple(errors.tolist()))
    return record, pack_sample(sample, gate)


def _self_check(sample: Sample, source: Array) -> tuple[float, bool]:
    # Of the rows as they are stored, so that a version can be checked against them.
    condition = prior.checked_condition(as_stored(sample).confusion)
    few = _some_rows(sample.labels, every=math.ceil(sample.log_probs.size / MOST_CELLS))
    labels = sample.labels[few]
    weights = None if sample.weights is None else sample.weights[few]
    groups = None if sample.groups is None else sample.groups[few]
    observed = np.bincount(labels, weights, minlength=len(source)) / (len(few) if weights is None else weights.sum())
    # Under their own prevalence: a declared source need not be that of the calibration rows.
    own = prior.shift(sample.log_probs[few], source=source, target=observed)
    return condition, prior.returns_source(own, labels, source=observed, weights=weights, groups=groups)


def _some_rows(labels: Indices, *, every: int) -> Indices:
    # The first of every class too: a rare one must not be missed.
    return np.union1d(np.arange(0, len(labels), every), np.unique(labels, return_index=True)[1])


def _frequency_errors(data: Dataset, *, classes: int) -> Array:
    # Rows of a group count together; of one row each, this is the binomial's standard error.
    weights = np.ones(len(data)) if data.weights is None else data.weights
    own = data.labels[:, None] == np.arange(classes)
    deviation = weights[:, None] * (own - weights @ own / weights.sum()) / weights.sum()
    sums = np.zeros((data.units, classes))
    np.add.at(sums, np.arange(len(data)) if data.groups is None else data.groups, deviation)
    errors: Array = np.sqrt((sums**2).sum(axis=0) * data.units / max(data.units - 1, 1))
    return errors
