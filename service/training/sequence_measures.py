"""What a tagger's probabilities are worth: as trained, calibrated, and smoothed over neighbours.

Tested in tests/training/test_sequence_measures.py.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from service.core.assessment.discrimination import auroc
from service.core.assessment.metrics import accuracy_score, log_loss
from service.core.assessment.segment_overlap import segment_overlap_score
from service.core.calibration.temperature import Temperature
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices, log_softmax
from service.core.ood import SCORES
from service.core.sequence import flat, padded, row_sums, smooth
from service.core.smoothing import fit_transitions, segments
from service.training.cards import table
from service.training.example_sets import Examples, Values
from service.training.loop import Trained
from service.training.pictures import Event
from service.training.seeds import BETWEEN

AS_TRAINED: Final = "as trained"
CALIBRATED: Final = "calibrated"
SMOOTHED: Final = "hmm"


def log_probs_by_serving(trained: Trained, calibration: Examples, test: Examples) -> dict[str, Array]:
    """Log-probabilities of the test rows by how they are served, shape (N, L, K) each.

    ``as trained``, ``calibrated`` with a temperature, and ``hmm``: then smoothed by `forward_backward`. Temperature and
    transitions are those of the calibration rows; the prevalence that smoothing takes out of every position is the mean
    calibrated probability there, which need not be the frequency of the class.

    Parameters
    ----------
    trained : Trained
        Of the task `sequence`.
    calibration, test : Examples
    """
    lengths, known = lengths_of(test), calibration.labels[calibration.labels != PADDING]
    raw, logits = flat(trained.outputs(calibration.inputs), lengths_of(calibration)), trained.outputs(test.inputs)
    calibrator = Temperature.fit(raw, known)
    served = padded(calibrator.apply(flat(logits, lengths)), lengths, length=logits.shape[1])
    chain = fit_transitions(calibration.labels, classes=logits.shape[2])
    prevalence = np.exp(calibrator.apply(raw)).mean(axis=0)
    return {
        AS_TRAINED: padded(log_softmax(flat(logits, lengths)), lengths, length=logits.shape[1]),
        CALIBRATED: served,
        SMOOTHED: smooth("hmm", served, lengths=lengths, prevalence=prevalence, transitions=chain),
    }


def measures_by_serving(trained: Trained, calibration: Examples, test: Examples) -> dict[str, float]:
    """`sequence_measures` of every entry of `log_probs_by_serving`, by names such as ``calibrated | log_loss``."""
    served = log_probs_by_serving(trained, calibration, test)
    return {
        f"{name}{BETWEEN}{what}": value
        for name, log_probs in served.items()
        for what, value in sequence_measures(log_probs, test.labels).items()
    }


def sequence_measures(log_probs: Array, labels: Indices) -> dict[str, float]:
    """Accuracy, segment overlap (SOV'99), changes of the predicted class per position, and log loss.

    Parameters
    ----------
    log_probs : ndarray of shape (N, L, K)
    labels : ndarray of shape (N, L)
        -1 behind the end of a sequence.
    """
    known, predicted = flat(log_probs, (labels != PADDING).sum(axis=1)), log_probs.argmax(axis=2)
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
    lengths = (labels != PADDING).sum(axis=1)
    return float((segments(predicted, lengths=lengths).counts - 1).sum() / lengths.sum())


def sequence_auroc(score: str, trained: Trained, test: Examples, ood: Values) -> float:
    """Chance that an out-of-distribution sequence has a higher mean score than a test sequence.

    Parameters
    ----------
    score : str
        Of `core.ood.SCORES`, without fitted state.
    trained : Trained
    test : Examples
    ood : ndarray of shape (N, L)
        Inputs as long as those of the test rows, one by one.
    """
    lengths = lengths_of(test)
    logits = (flat(trained.outputs(inputs), lengths) for inputs in (test.inputs, ood))
    scores = [row_sums(SCORES[score]().score(one), lengths) / lengths for one in logits]
    return auroc(np.concatenate(scores), np.repeat([False, True], len(test))).value


def most_probable(log_probs: Array, test: Examples) -> Event:
    """Probability of the most probable class of every position, and whether it is the true one."""
    known = flat(log_probs, lengths_of(test))
    return np.exp(known.max(axis=1)), known.argmax(axis=1) == test.labels[test.labels != PADDING]


def lengths_of(rows: Examples) -> Indices:
    """Positions of every sequence, shape (N,)."""
    found: Indices = (rows.labels != PADDING).sum(axis=1)
    return found


def sequence_split_table(splits: Mapping[str, Examples], classes: Sequence[str]) -> str:
    """Groups, sequences and positions of every part, and its shares of the classes, in Markdown."""
    rows = []
    for name, part in splits.items():
        counts = np.bincount(part.labels[part.labels != PADDING], minlength=len(classes))
        groups = len(part) if part.groups is None else len(np.unique(part.groups))
        shares = [f"{share:.3f}" for share in counts / counts.sum()]
        rows.append([name, str(groups), str(len(part)), str(counts.sum()), *shares])
    return table(["split", "groups", "sequences", "positions", *classes], rows)
