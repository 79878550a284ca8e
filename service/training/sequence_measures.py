"""What a tagger's probabilities are worth: as trained, calibrated, and smoothed over neighbours.

Tested in tests/training/test_sequence_measures.py.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from service.core.assessment.metrics import accuracy_score, log_loss
from service.core.assessment.segment_overlap import segment_overlap_score
from service.core.calibration.temperature import Temperature
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices, log_softmax
from service.core.sequence import flat, padded, smooth
from service.core.smoothing import fit_transitions, segments
from service.training.example_sets import Examples

AS_TRAINED: Final = "as trained"
CALIBRATED: Final = "calibrated"
SMOOTHED: Final = "hmm"


def log_probs_by_serving(outputs: Mapping[str, Array], calibration: Examples, test: Examples) -> dict[str, Array]:
    """Log-probabilities of the test rows by how they are served, shape (N, L, K) each.

    ``as trained``, ``calibrated`` with a temperature, and ``hmm``: then smoothed by `forward_backward`. Temperature and
    transitions are those of the calibration rows.

    Parameters
    ----------
    outputs : mapping of str to ndarray of shape (N, L, K)
        Logits of the parts ``calibration`` and ``test``.
    calibration, test : Examples
    """
    lengths, known = _lengths(test.labels), calibration.labels[calibration.labels != PADDING]
    classes = outputs["test"].shape[2]
    calibrator = Temperature.fit(flat(outputs["calibration"], _lengths(calibration.labels)), known)
    raw = flat(outputs["test"], lengths)
    served = padded(calibrator.apply(raw), lengths, length=test.labels.shape[1])
    chain = fit_transitions(calibration.labels, classes=classes)
    prevalence = np.bincount(known, minlength=classes) / len(known)
    return {
        AS_TRAINED: padded(log_softmax(raw), lengths, length=test.labels.shape[1]),
        CALIBRATED: served,
        SMOOTHED: smooth("hmm", served, lengths=lengths, prevalence=prevalence, transitions=chain),
    }


def sequence_measures(log_probs: Array, labels: Indices) -> dict[str, float]:
    """Accuracy, segment overlap (SOV'99), changes of the predicted class per position, and log loss.

    Parameters
    ----------
    log_probs : ndarray of shape (N, L, K)
    labels : ndarray of shape (N, L)
        -1 behind the end of a sequence.
    """
    known, predicted = flat(log_probs, _lengths(labels)), log_probs.argmax(axis=2)
    return {
        "accuracy": accuracy_score(known, labels[labels != PADDING]),
        "overlap": segment_overlap_score(labels, predicted),
        "switches": switches(predicted, labels),
        "log_loss": log_loss(known, labels[labels != PADDING]),
    }


def switches(predicted: Indices, labels: Indices) -> float:
    """Changes of class from one position to the next, per position.

    Examples
    --------
    >>> round(switches(np.array([[0, 1, 1, 0]]), np.array([[0, 0, 0, -1]])), 3)
    0.333
    """
    lengths = _lengths(labels)
    return float((segments(predicted, lengths=lengths).counts - 1).sum() / lengths.sum())


def _lengths(labels: Indices) -> Indices:
    found: Indices = (labels != PADDING).sum(axis=1)
    return found
