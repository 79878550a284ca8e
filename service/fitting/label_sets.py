"""Label sets fitted to the model's own output, and the out-of-fold probabilities that prevalence estimates rest on."""

from typing import Final

import numpy as np

from service.bundle.conformity import pack_sets
from service.bundle.manifest import Manifest
from service.bundle.record import LabelSetsRecord
from service.bundle.state import State
from service.core.calibration import CALIBRATORS
from service.core.calibration.mixture import fit_mixed
from service.core.calibration.shrinkage import SHRUNK
from service.core.label_sets import METHODS, fit, own_log_probs
from service.core.numerics import Array, log_softmax
from service.core.score_ties import UNMEASURED, Band
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.calibrate import Calibration
from service.fitting.source_prevalence import frequencies, log_ratio
from service.fitting.splits import folds_of

MOST_CONDITIONAL: Final = 20
"""With more classes, sets that hold within every class are too large to help."""


def held_out(manifest: Manifest, calibration: Calibration, logits: Array, data: Dataset, *, seed: int) -> Array:
    """Calibrated log-probabilities of every row by the fit on the other folds, shape (N, K).

    They are under the source prevalence, as those of a request are. Those that candidates are compared by are not.

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
    logits: Array, data: Dataset, classes: tuple[str, ...], *, method: str, band: Band | Array = UNMEASURED
) -> tuple[LabelSetsRecord, State]:
    """Rank the true labels of calibration rows, all together and, for up to 20 classes, within every class.

    The model's own probabilities rank them. Those of stage C have learned from these rows, fold by fold or all at once.
    A new row is then not exchangeable with them, and no coverage could be proved.

    The coverage of a request decides which of the two it gets. With groups a row counts one over the rows of its
    group. Weights are not used.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
        Raw.
    data : Dataset
    classes : tuple of str
    method : str
        In `service.core.label_sets.METHODS`.
    band : Band, or ndarray of shape (N,)
        How far two computations of each row's nonconformity may lie apart, as `Noise.of_labels` has it.

    Raises
    ------
    FitError
        If the method does not exist.
    """
    if method not in METHODS:
        raise FitError(f"label sets are made by one of {', '.join(METHODS)}. Nothing was published")
    log_probs = own_log_probs(logits)
    marginal = fit(log_probs, data.labels, method=method, conditional=False, groups=data.groups, band=band)
    state, class_rows = pack_sets("marginal", marginal), None
    if len(classes) <= MOST_CONDITIONAL:
        by_class = fit(log_probs, data.labels, method=method, conditional=True, groups=data.groups, band=band)
        state |= pack_sets("class_conditional", by_class)
        class_rows = {name: part.n for name, part in zip(classes, by_class.conformities, strict=True)}
    record = LabelSetsRecord(
        method=method, rows=marginal.conformities[0].n, class_rows=class_rows, scored="model_output"
    )
    return record, state


def _offset(manifest: Manifest, calibration: Calibration, data: Dataset) -> Array | None:
    source, classes = calibration.source, manifest.graph.classes
    if source.basis != "declared" or source.prevalence is None:
        return None
    return log_ratio(frequencies(data, len(classes)), np.array([source.prevalence[c] for c in classes]))
