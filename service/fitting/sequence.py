"""Sequences calibrated: every position is a row; folds, thresholds and p-values are by the sequence.

Tested in tests/tasks/test_sequences.py.
"""

import dataclasses
from typing import Final, Literal

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import SequenceRecord
from service.core.assessment.metrics import log_loss
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices, log_softmax
from service.core.ood import SCORES, Score
from service.core.sequence import flat, padded, row_sums, smooth
from service.core.smoothing import Transitions, fit_transitions
from service.data.dataset import Dataset
from service.errors import DataError
from service.fitting.calibrate import Calibration, calibrate
from service.fitting.candidate_chains import DEFAULT
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.numerical_noise import Plain
from service.fitting.ood_detectors import Detectors, Scoring, Terms, fit_detectors
from service.runtime.model import Raw

CHAIN_UNKNOWN = (
    "the source prevalence is unknown, so the hmm smoother is not available: positions are answered one by one"
)
COUNTED_TWICE = (
    "the hmm smoother does not lower the log loss of the calibration positions ({0:.4f} without, {1:.4f} with it), so "
    "requests that name no smoother have none. It takes every position's output for evidence of its own; a network "
    "that has read the neighbours makes it count them twice"
)


def calibrate_sequences(manifest: Manifest, outputs: LabelledOutputs, *, method: str | None, seed: int) -> Calibration:
    """Calibrate positions, sequences as their groups, and learn how classes follow each other.

    Parameters
    ----------
    manifest : Manifest
    outputs : LabelledOutputs
        Raw logits of shape (N, L, K), labels of shape (N, L).
    method : str, optional
        In `candidate_chains.METHODS`; without it a temperature with a prior.
    seed : int
    """
    _check_positions(outputs)
    positions = positions_of(outputs.data)
    found = calibrate(manifest, flat_logits(outputs), positions, method=method or DEFAULT, seed=seed)
    chain = fit_transitions(outputs.data.labels, classes=len(manifest.graph.classes), weights=outputs.data.weights)
    smoother, warnings = _smoother(found, outputs, positions, chain)
    record = SequenceRecord(
        positions=len(positions),
        initial=tuple(chain.initial.tolist()),
        transitions=tuple(map(tuple, chain.matrix.tolist())),
        smoother=smoother,
    )
    return dataclasses.replace(found, sequence=record, warnings=(*found.warnings, *warnings))


def _smoother(
    found: Calibration, outputs: LabelledOutputs, positions: Dataset, chain: Transitions
) -> tuple[Literal["hmm", "none"], tuple[str, ...]]:
    """The default: `hmm` only where it lowers the log loss of the calibration sequences; and what to warn of."""
    if found.source.prevalence is None:
        return "none", (CHAIN_UNKNOWN,)
    lengths, logits = label_lengths(outputs.data.labels), flat_logits(outputs)
    undone = logits if found.inverse is None else found.inverse.apply(log_softmax(logits))
    alone = found.calibrator.apply(undone)
    whole = padded(alone, lengths, length=outputs.data.labels.shape[1])
    prevalence = np.array(list(found.source.prevalence.values()))
    smoothed = flat(smooth("hmm", whole, lengths=lengths, prevalence=prevalence, transitions=chain), lengths)
    losses = [log_loss(one, positions.labels, weights=positions.weights) for one in (alone, smoothed)]
    return ("hmm", ()) if losses[1] < losses[0] else ("none", (COUNTED_TWICE.format(*losses),))


def positions_of(data: Dataset) -> Dataset:
    """Unpadded positions as rows of one label each, grouped by sequence (or by the sequences' own groups)."""
    lengths = label_lengths(data.labels)
    units = np.arange(len(data)) if data.groups is None else data.groups
    return Dataset(
        rows=np.empty((int(lengths.sum()), 0)),
        labels=data.labels[data.labels != PADDING],
        groups=np.repeat(units, lengths),
        weights=None if data.weights is None else np.repeat(data.weights, lengths),
        digest=data.digest,
    )


def label_lengths(labels: Indices) -> Indices:
    """Unpadded positions of every sequence, shape (N,)."""
    found: Indices = (labels != PADDING).sum(axis=1)
    return found


def check_lengths(labels: Indices, lengths: Indices) -> None:
    """Raise DataError for the first sequence that has another number of labels than positions."""
    found = label_lengths(labels)
    wrong = found != lengths
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"labels: sequence {row} has {found[row]} labels and {lengths[row]} positions (sequences count from 0)"
        )


def flat_logits(outputs: LabelledOutputs) -> Array:
    """Raw logits of unpadded positions, shape (P, K)."""
    return flat(outputs.logits, label_lengths(outputs.data.labels))


def count_positions(data: Dataset, classes: tuple[str, ...]) -> dict[str, int]:
    """How many positions have each class."""
    counts = np.bincount(data.labels[data.labels != PADDING], minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}


def detect_sequences(
    manifest: Manifest, outputs: LabelledOutputs, train: LabelledOutputs | None, terms: Terms
) -> Detectors:
    """OOD scores learned from positions, thresholds on their mean over a sequence; parameters as `fit_detectors`."""
    if train is not None:
        _check_positions(train)
    return fit_detectors(manifest, outputs, train, terms, scoring=BY_SEQUENCE)


def _learn_positions(name: str, outputs: LabelledOutputs, rows: Indices) -> Score:
    labels = outputs.data.labels[rows]
    logits = flat(outputs.logits[rows], label_lengths(labels))
    return SCORES[name].fit(logits, labels[labels != PADDING], logits=logits)


def _means_of(name: str, score: Score) -> Plain:
    del name

    def means(raw: Raw) -> Array:
        lengths = np.full(len(raw.logits), raw.logits.shape[1]) if raw.lengths is None else raw.lengths
        return row_sums(score.score(flat(raw.logits, lengths)), lengths) / lengths

    return means


def _check_positions(outputs: LabelledOutputs) -> None:
    if outputs.raw.lengths is not None:
        check_lengths(outputs.data.labels, outputs.raw.lengths)


BY_SEQUENCE: Final = Scoring(_learn_positions, _means_of)
"""Scores learn from positions; a sequence has their mean."""
