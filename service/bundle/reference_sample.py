"""Calibration rows in `state.npz` that prevalence estimates are compared with: outputs, labels and flags, no inputs."""

import dataclasses
from typing import Final

import numpy as np

from service.bundle.state import State
from service.core.label_shift import Sample
from service.core.numerics import Array, Indices
from service.core.state_checks import SUM_TOLERANCE, check_array, check_counts

STORED_ROWS: Final = 10_000
STORED_CELLS: Final = 200_000  # rows times classes
PREFIX: Final = "prevalence:"
UNKNOWN: Final = -1
"""Gate of a row that the gate's scores learned from: its flag is no evidence about new rows."""


def pack_sample(sample: Sample, gate: Indices) -> State:
    """Arrays of `state.npz`; where there are too many rows, every class gives as many as it can of an equal share.

    Parameters
    ----------
    sample : Sample
        All calibration rows, each unflagged.
    gate : ndarray of shape (n,)
        1 where the gate lets a row through, 0 where it flags it, or `UNKNOWN`.
    """
    rows = _stored_rows(sample.labels, classes=sample.log_probs.shape[1])
    state: State = {
        "log_probs": sample.log_probs[rows].astype(np.float32),
        "labels": sample.labels[rows].astype(np.int16),
        "gate": gate[rows].astype(np.int8),
    }
    if sample.weights is not None:
        state["weights"] = sample.weights[rows]
    if sample.groups is not None:
        state["groups"] = np.unique(sample.groups[rows], return_inverse=True)[1].astype(np.int32)
    return {f"{PREFIX}{name}": array for name, array in state.items()}


def as_stored(sample: Sample) -> Sample:
    """The sample as it comes back where all of its rows are stored."""
    return dataclasses.replace(sample, log_probs=sample.log_probs.astype(np.float32).astype(np.float64))


def restore_sample(state: State) -> tuple[Sample, Sample | None] | None:
    """All rows, and those with a known flag; None where the version has none.

    The second is None where the gate lets no row of some class through.

    Raises
    ------
    ValueError
        Naming the array that cannot be right.
    """
    if f"{PREFIX}gate" not in state:
        return None
    log_probs, labels, gate = _checked(state)
    weights, groups = state.get(f"{PREFIX}weights"), state.get(f"{PREFIX}groups")

    def part(rows: Indices, unflagged: Indices) -> Sample:
        return Sample(
            log_probs[rows],
            labels[rows],
            unflagged.astype(np.bool_),
            None if weights is None else np.asarray(weights, dtype=np.float64)[rows],
            None if groups is None else np.asarray(groups, dtype=np.intp)[rows],
        )

    known = np.flatnonzero(gate != UNKNOWN)
    complete = len(np.unique(labels[gate == 1])) == log_probs.shape[1]
    everything = part(np.arange(len(labels)), np.ones(len(labels), dtype=np.intp))
    return everything, part(known, gate[known]) if complete else None


def _checked(state: State) -> tuple[Array, Indices, Indices]:
    log_probs = np.asarray(check_array(f"{PREFIX}log_probs", state[f"{PREFIX}log_probs"], None, None), np.float64)
    rows, classes = log_probs.shape
    labels = check_counts(f"{PREFIX}labels", check_array(f"{PREFIX}labels", state[f"{PREFIX}labels"], rows))
    gate = check_counts(f"{PREFIX}gate", check_array(f"{PREFIX}gate", state[f"{PREFIX}gate"], rows), least=UNKNOWN)
    if gate.max(initial=1) > 1 or len(np.unique(labels)) != classes or labels.max(initial=0) >= classes:
        raise ValueError(f"{PREFIX}labels must name each of the {classes} classes, and {PREFIX}gate be -1, 0 or 1")
    if log_probs.max(initial=0.0) > SUM_TOLERANCE:
        raise ValueError(f"{PREFIX}log_probs must be logarithms of probabilities")
    if f"{PREFIX}weights" in state and (check_array("weights", state[f"{PREFIX}weights"], rows) < 0.0).any():
        raise ValueError(f"{PREFIX}weights must not be negative")
    if f"{PREFIX}groups" in state:
        check_counts(f"{PREFIX}groups", check_array(f"{PREFIX}groups", state[f"{PREFIX}groups"], rows))
    return log_probs, labels, gate


def _stored_rows(labels: Indices, *, classes: int) -> Indices:
    limit, counts = min(STORED_ROWS, STORED_CELLS // classes), np.bincount(labels, minlength=classes)
    share = limit // classes
    while np.minimum(counts, share + 1).sum() <= limit and share < counts.max():
        share += 1
    kept = [_spread(np.flatnonzero(labels == k), share) for k in range(classes)]
    return np.concatenate(kept)


def _spread(rows: Indices, most: int) -> Indices:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]
