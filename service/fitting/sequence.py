"""Sequences calibrated: positions one by one, folds, thresholds and p-values by the sequence."""

import dataclasses

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import BandRecord, SequenceRecord
from service.core.detector import Detector
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices
from service.core.ood import SCORES, Score
from service.core.sequence import flat, row_sums
from service.core.smoothing import fit_transitions
from service.data.dataset import Dataset
from service.errors import DataError
from service.fitting.calibrate import DEFAULT, Calibration, calibrate
from service.fitting.numerical_noise import Plain
from service.fitting.ood_detectors import (
    Detectors,
    Judged,
    Terms,
    halves,
    one_per_group,
    training_source,
    with_thresholds,
)
from service.runtime.model import Raw

CHAIN_UNKNOWN = (
    "the source prevalence is unknown, so neighbours cannot speak: the hmm smoother is not available, and positions "
    "are answered one by one"
)


def calibrate_sequences(manifest: Manifest, judged: Judged, *, method: str | None, seed: int) -> Calibration:
    """Calibrate positions, sequences as their groups, and learn how classes follow each other.

    Parameters
    ----------
    manifest : Manifest
    judged : Judged
        Raw logits of shape (N, L, K), labels of shape (N, L).
    method : str, optional
        In `calibrate.METHODS`; a temperature without it.
    seed : int
    """
    _check_positions(judged)
    positions = positions_of(judged.data)
    found = calibrate(manifest, flat_logits(judged), positions, method=method or DEFAULT, seed=seed)
    chain = fit_transitions(judged.data.labels, classes=len(manifest.graph.classes), weights=judged.data.weights)
    record = SequenceRecord(
        positions=len(positions),
        initial=tuple(chain.initial.tolist()),
        transitions=tuple(map(tuple, chain.matrix.tolist())),
    )
    unknown = (CHAIN_UNKNOWN,) if found.source.prevalence is None else ()
    return dataclasses.replace(found, sequence=record, warnings=(*found.warnings, *unknown))


def positions_of(data: Dataset) -> Dataset:
    """Unpadded positions as rows of one label each, grouped by sequence (or by the sequences' own groups)."""
    lengths = lengths_of(data.labels)
    units = np.arange(len(data)) if data.groups is None else data.groups
    return Dataset(
        rows=np.empty((int(lengths.sum()), 0)),
        labels=data.labels[data.labels != PADDING],
        groups=np.repeat(units, lengths),
        weights=None if data.weights is None else np.repeat(data.weights, lengths),
        digest=data.digest,
    )


def lengths_of(labels: Indices) -> Indices:
    """Unpadded positions of every sequence, shape (N,)."""
    found: Indices = (labels != PADDING).sum(axis=1)
    return found


def check_lengths(labels: Indices, lengths: Indices) -> None:
    """Raise DataError for the first sequence that has another number of labels than positions."""
    found = lengths_of(labels)
    wrong = found != lengths
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"labels: sequence {row} has {found[row]} labels and {lengths[row]} positions (sequences count from 0)"
        )


def flat_logits(judged: Judged) -> Array:
    """Raw logits of unpadded positions, shape (P, K)."""
    return flat(judged.logits, lengths_of(judged.data.labels))


def count_positions(data: Dataset, classes: tuple[str, ...]) -> dict[str, int]:
    """How many positions have each class."""
    counts = np.bincount(data.labels[data.labels != PADDING], minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}


def detect_sequences(manifest: Manifest, judged: Judged, train: Judged | None, terms: Terms) -> Detectors:
    """OOD scores learned from positions, thresholds on their mean over a sequence; parameters as `fit_detectors`."""
    if train is not None:
        _check_positions(train)
    stateful = any(SCORES[name].stateful for name in manifest.ood.scores)
    everything = np.arange(len(judged.data))
    learning, held = halves(judged.data, terms.seed) if stateful and train is None else (everything, everything)
    held = one_per_group(judged.data, held, terms.seed)
    teacher, seen = (judged, learning) if train is None else (train, np.arange(len(train.data)))
    detectors, bands = list[Detector](), dict[str, BandRecord]()
    for name in manifest.ood.scores:
        bare = Detector(name, _fitted(name, teacher, seen), None, None, name in manifest.ood.gate_members)
        plain = _means_of(bare.score)
        detectors.append(with_thresholds(bare, plain, judged.raw.part(held), manifest, terms, bands=bands))
    sources = {name: training_source(name, train, terms.temperature) for name in manifest.ood.scores}
    nowhere = np.zeros(len(manifest.graph.classes), dtype=np.intp)
    return Detectors(tuple(detectors), sources, held, len(seen), nowhere, bands)


def _fitted(name: str, judged: Judged, rows: Indices) -> Score:
    labels = judged.data.labels[rows]
    logits = flat(judged.logits[rows], lengths_of(labels))
    return SCORES[name].fit(logits, labels[labels != PADDING], logits=logits)


def _means_of(score: Score) -> Plain:
    def means(raw: Raw) -> Array:
        lengths = np.full(len(raw.logits), raw.logits.shape[1]) if raw.lengths is None else raw.lengths
        return row_sums(score.score(flat(raw.logits, lengths)), lengths) / lengths

    return means


def _check_positions(judged: Judged) -> None:
    if judged.raw.lengths is not None:
        check_lengths(judged.data.labels, judged.raw.lengths)
