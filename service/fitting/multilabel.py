"""Stages B and C of a multilabel model: every label is a binary problem with candidates and a winner of its own.

Tested in tests/tasks/test_labels.py.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np

from service.bundle.declared_inverse import label_inverse_record
from service.bundle.manifest import Manifest
from service.bundle.record import (
    PER_LABEL,
    CalibratorRecord,
    LabelRecord,
    PrevalenceRecord,
    restore_inverse,
)
from service.bundle.tasks import ABSENT, PRESENT
from service.core.assessment.metrics import mean_metrics
from service.core.calibration.mixture import support
from service.core.multilabel import LabelChain, PerLabel, shares_of, undo
from service.core.numerics import Array, two_column
from service.data.dataset import Dataset
from service.errors import FitError, NoSignal
from service.fitting.calibrate import TOO_FEW, Calibration, fit_best
from service.fitting.calibration_warnings import FEW_PER_CLASS, FEW_ROWS, SEPARABLE, mixture_words
from service.fitting.candidate_chains import DEFAULT, METHODS, SHRINKING, CandidateChain
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.ood_detectors import Detectors, Terms, fit_detectors
from service.fitting.source_prevalence import frequencies, log_ratio
from service.fitting.splits import independent_units

STATES: Final = (ABSENT, PRESENT)
MANY_OF_A_STATE = 1000  # from here on isotonic regression may compete


def calibrate_labels(manifest: Manifest, outputs: LabelledOutputs, *, method: str | None, seed: int) -> Calibration:
    """Calibrate every label by itself.

    Parameters
    ----------
    manifest : Manifest
    outputs : LabelledOutputs
        Raw log-odds of shape (N, M), labels of shape (N, M).
    method : str, optional
        In `candidate_chains.METHODS`, for every label; ``auto`` lets several compete for each. Without it a label gets
        Platt scaling with Firth's penalty, whose mean probability is the label's frequency.
    seed : int

    Raises
    ------
    NoSignal
        If a label's log-odds are no larger where it is present.
    FitError
        If there are too few rows.
    """
    if method is not None and method not in METHODS:
        raise FitError(f"--calibrator is one of {', '.join(METHODS)}. Nothing was published")
    if independent_units(outputs.data) < 2:
        raise FitError(TOO_FEW)
    found = {
        label: _calibrate_label(manifest, m, outputs.logits[:, m], _rows_of(outputs.data, m), method=method, seed=seed)
        for m, label in enumerate(manifest.graph.classes)
    }
    return _together(found, outputs.data)


def detect_labels(
    manifest: Manifest, outputs: LabelledOutputs, train: LabelledOutputs | None, terms: Terms
) -> Detectors:
    """OOD scores of multilabel rows. Scores of features see one class, because no row is of one class alone."""
    return fit_detectors(manifest, _unlabelled(outputs), None if train is None else _unlabelled(train), terms)


def count_labels(data: Dataset, labels: tuple[str, ...]) -> dict[str, int]:
    """In how many rows every label is present."""
    return {label: int(count) for label, count in zip(labels, data.labels.sum(axis=0), strict=True)}


def _unlabelled(outputs: LabelledOutputs) -> LabelledOutputs:
    one_class = np.zeros(len(outputs.data), dtype=np.intp)
    return dataclasses.replace(outputs, data=dataclasses.replace(outputs.data, labels=one_class))


def _rows_of(data: Dataset, m: int) -> Dataset:
    return dataclasses.replace(data, labels=data.labels[:, m])


def _calibrate_label(
    manifest: Manifest, m: int, log_odds: Array, data: Dataset, *, method: str | None, seed: int
) -> Calibration:
    label = manifest.graph.classes[m]
    counts = np.bincount(data.labels, weights=data.weights, minlength=2)
    rows = np.bincount(data.labels, minlength=2)
    if (counts[rows > 0] == 0.0).any():
        raise FitError(f"label {label!r} has rows of a state, but none with a weight: leave them out, or weigh them")
    if rows.min() > 0:
        _refuse_no_signal(label, log_odds, data)
    methods, shrunk = _methods(method, int(rows.min())), method in (None, DEFAULT) and rows.min() > 0
    chains = list(_candidate_chains(manifest, label, log_odds, data, methods, shrunk=shrunk))
    return fit_best(chains, data, classes=STATES, seed=seed, signal=True)


def _methods(method: str | None, rarer: int) -> Sequence[str]:
    if rarer == 0:
        return ("identity",)  # rows of one state have no signal about the other
    if method is None:
        return ("platt",)  # however rare a label is: a temperature cannot move its mean probability
    if method != "auto":
        return SHRINKING if method == DEFAULT else (method,)
    many: tuple[str, ...] = ("isotonic",) if rarer >= MANY_OF_A_STATE else ()
    return ("identity", "temperature", "platt", *many)


def _refuse_no_signal(label: str, log_odds: Array, data: Dataset) -> None:
    w = np.ones(len(data.labels)) if data.weights is None else data.weights
    means = np.bincount(data.labels, w * log_odds) / np.bincount(data.labels, w)
    if min(np.bincount(data.labels)) >= FEW_PER_CLASS and means[1] <= means[0]:
        raise NoSignal(
            f"label {label!r}: its logit is on average no larger where it is present: labels and columns are in "
            "another order, or the model learned nothing of it. Nothing was published"
        )


def _candidate_chains(
    manifest: Manifest, label: str, log_odds: Array, data: Dataset, methods: Sequence[str], *, shrunk: bool
) -> Iterator[CandidateChain]:
    inverse, observed = label_inverse_record(manifest, label), frequencies(data, 2)
    for undone in (None,) if inverse is None else (inverse, None):
        seen = two_column(undo(None if undone is None else restore_inverse(undone), log_odds))
        declared = _declared(manifest, label, weighted=undone is None)
        offset = None if declared is None or observed.min() == 0.0 else log_ratio(observed, declared)
        for method in methods:
            yield CandidateChain(undone, method, seen, declared, offset, shrunk=shrunk)


def _declared(manifest: Manifest, label: str, *, weighted: bool) -> Array | None:
    training = manifest.training
    if training.prevalence is None:
        return None
    shares = shares_of(np.array([training.prevalence[label]]))[0]
    if weighted and training.class_weights is not None:
        shares = shares * np.array([1.0, training.class_weights[label]])
    normalised: Array = shares / shares.sum()
    return normalised


def _together(found: dict[str, Calibration], data: Dataset) -> Calibration:
    status: Literal["ok", "separable"] = "separable" if any(c.status == "separable" for c in found.values()) else "ok"
    counts = count_labels(data, tuple(found))
    return Calibration(
        inverse=None,
        calibrator=PerLabel(tuple(LabelChain(c.inverse, c.calibrator) for c in found.values())),
        status=status,
        support=support(independent_units(data)),
        units=independent_units(data),
        steps=(PER_LABEL,),
        inverse_record=None,
        record=CalibratorRecord(method=PER_LABEL, params={}),
        candidates={},
        source=_source(found),
        before=mean_metrics([c.before for c in found.values()]),
        after=mean_metrics([c.after for c in found.values()]),
        warnings=tuple(_warnings(found, data)),
        labels={label: _label_record(c, counts[label]) for label, c in found.items()},
    )


def _label_record(found: Calibration, present: int) -> LabelRecord:
    return LabelRecord(
        status=found.status,
        chain=found.steps,
        inverse=found.inverse_record,
        calibrator=found.record,
        candidates=found.candidates,
        source=found.source,
        present=present,
        before=found.before,
        after_out_of_fold=found.after,
    )


def _source(found: dict[str, Calibration]) -> PrevalenceRecord:
    known = {label: c.source.prevalence[PRESENT] for label, c in found.items() if c.source.prevalence is not None}
    bases = {c.source.basis for c in found.values()}
    if len(known) < len(found):
        return PrevalenceRecord(basis="unknown", prevalence=None)
    return PrevalenceRecord(basis="declared" if bases == {"declared"} else "calibration_rows", prevalence=known)


def _warnings(found: dict[str, Calibration], data: Dataset) -> Iterator[str]:
    if len(data) < FEW_ROWS:
        yield f"only {len(data)} rows: what was fitted is uncertain"
    present = count_labels(data, tuple(found))
    rarer = {label: min(count, len(data) - count) for label, count in present.items()}
    texts = {
        "of one state only, and so left as the model gave it": [n for n, few in rarer.items() if few == 0],
        f"fewer than {FEW_PER_CLASS} rows of one state": [n for n, few in rarer.items() if 0 < few < FEW_PER_CLASS],
        "out of fold, calibration did not lower the log loss": [n for n, c in found.items() if _is_no_better(c)],
        "the source prevalence is unknown: requests for another one will be refused": [
            n for n, c in found.items() if c.source.basis == "unknown"
        ],
        f"{SEPARABLE}: {mixture_words(support(independent_units(data)))}": [
            n for n, c in found.items() if c.status == "separable"
        ],
    }
    for text, names in texts.items():
        if names:
            yield f"{', '.join(names)}: {text}"


def _is_no_better(found: Calibration) -> bool:
    return found.steps != ("identity",) and found.after["log_loss"] >= found.before["log_loss"]
