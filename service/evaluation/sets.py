"""What label sets rest on: out-of-fold output of the calibrated chain, and how it ranks the true labels."""

from typing import Final

import numpy as np

from service.bundle.conformity import pack_sets
from service.bundle.manifest import Manifest
from service.bundle.record import LabelSetsRecord, State
from service.core.calibration import CALIBRATORS
from service.core.calibration.mixture import fit_mixed
from service.core.calibration.shrinkage import SHRUNK
from service.core.label_sets import METHODS, fit
from service.core.numerics import Array, log_softmax
from service.errors import FitError
from service.evaluation.calibrate import Calibration, folds_of
from service.evaluation.dataset import Dataset

MOST_CONDITIONAL: Final = 20
"""Classes beyond which sets that hold within each are too large to help."""


def held_out(manifest: Manifest, calibration: Calibration, logits: Array, data: Dataset, *, seed: int) -> Array:
    """Calibrated log-probabilities of every row by the fit on the other folds, shape (N, K).

    Unlike those that candidates are judged by, they speak of the source prevalence, as those of a request do.

    Parameters
    ----------
    manifest : Manifest
    calibration : Calibration
        Its chain is fitted again without each fold.
    logits : ndarray of shape (N, K)
    data : Dataset
    seed : int
        That of the calibration: the folds are the same.
    """
    fits = SHRUNK if calibration.record.prior else CALIBRATORS
    kind = fits[calibration.record.method]
    seen = logits if calibration.inverse is None else calibration.inverse.apply(log_softmax(logits))
    offset = _offset(manifest, calibration, data)
    folds, units, share = folds_of(data, seed), calibration.units, calibration.support
    log_probs = np.empty_like(seen)
    for fold in np.unique(folds):
        held, kept = folds == fold, folds != fold
        weights = None if data.weights is None else data.weights[kept]
        fitted = fit_mixed(
            kind, seen[kept], data.labels[kept], weights=weights, offset=offset, units=units, share=share
        )
        log_probs[held] = fitted.served.apply(seen[held])
    return log_probs


def fit_sets(
    log_probs: Array, data: Dataset, classes: tuple[str, ...], *, method: str
) -> tuple[LabelSetsRecord, State]:
    """Rank the true labels of calibration rows, all together and, for up to 20 classes, within every class.

    Which of the two a request gets depends on the coverage it asks for. With groups a row counts one over the rows of
    its group; weights play no part.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Of `held_out`.
    data : Dataset
    classes : tuple of str
    method : str
        In `service.core.label_sets.METHODS`.

    Raises
    ------
    FitError
        If the method does not exist.
    """
    if method not in METHODS:
        raise FitError(f"label sets are made by one of {', '.join(METHODS)}. Nothing was published")
    marginal = fit(log_probs, data.labels, method=method, conditional=False, groups=data.groups)
    state, class_rows = pack_sets("marginal", marginal), None
    if len(classes) <= MOST_CONDITIONAL:
        by_class = fit(log_probs, data.labels, method=method, conditional=True, groups=data.groups)
        state |= pack_sets("class_conditional", by_class)
        class_rows = {name: part.n for name, part in zip(classes, by_class.conformities, strict=True)}
    return LabelSetsRecord(method=method, rows=marginal.conformities[0].n, class_rows=class_rows), state


def _offset(manifest: Manifest, calibration: Calibration, data: Dataset) -> Array | None:
    source, classes = calibration.source, manifest.graph.classes
    if source.basis != "declared" or source.prevalence is None:
        return None
    counts = np.bincount(data.labels, weights=data.weights, minlength=len(classes))
    declared = np.array([source.prevalence[c] for c in classes])
    with np.errstate(divide="ignore"):  # a class without rows gets probability zero among these rows
        offset: Array = np.log(counts / counts.sum() / declared)
    return offset
