"""Checks between manifest, record and graph before a bundle is loaded.

Tested in `tests/runtime/test_model.py`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from service.bundle.conformity import KINDS, restore_sets
from service.bundle.manifest import Manifest
from service.bundle.record import RECORD_FILE, EstimationRecord, LabelSetsRecord, Record, restore_inverse
from service.bundle.reference_sample import restore_sample
from service.bundle.repository import Bundle
from service.bundle.scores import restore_reference, state_names
from service.bundle.self_test import FEED
from service.bundle.state import STATE_FILE
from service.core.label_shift import Sample
from service.core.numerics import log_softmax
from service.core.ood import SCORES
from service.core.prior import checked_condition
from service.core.state_checks import check_array
from service.errors import BundleDamaged, ManifestInvalid
from service.runtime.inputs import Inputs
from service.runtime.session import SCORE_TYPES, Session

CONDITION_TOLERANCE: Final = 1e-6
"""Relative; libraries round a matrix' condition otherwise."""


def check_output(name: str, session: Session) -> None:
    """Refuse a manifest whose output is none of the graph's, or holds no scores."""
    types = {tensor.name: tensor.type for tensor in session.outputs}
    if name not in types:
        raise ManifestInvalid(f"graph.output: {name!r} is not one of {', '.join(types)}")
    if types[name] not in SCORE_TYPES:
        raise ManifestInvalid(f"graph.output: {name!r} is {types[name]}; scores are {', '.join(SCORE_TYPES)}")


def check_space(manifest: Manifest, session: Session) -> None:
    """Refuse a manifest whose feature scores look at what is no floating-point output of the graph."""
    types = {tensor.name: tensor.type for tensor in session.outputs}
    space = manifest.ood.space
    if manifest.ood.looks_at_tensor and types.get(space) not in SCORE_TYPES:
        known = ", ".join(name for name, kind in types.items() if kind in SCORE_TYPES)
        raise ManifestInvalid(
            f"ood.space: {space!r} is no floating-point output of the graph (those are {known}); import the model "
            f"again with `--expose-features {space}` to make it one"
        )


def check_scores(manifest: Manifest, session: Session, inputs: Inputs) -> None:
    """Refuse a manifest with an OOD score that the model cannot have."""
    for name in manifest.ood.scores:
        if (reason := why_unfit(name, manifest, session, inputs)) is not None:
            raise ManifestInvalid(f"ood.scores: {reason}")


def why_unfit(score: str, manifest: Manifest, session: Session, inputs: Inputs) -> str | None:
    """Why a model cannot have an OOD score, in words; None where it can."""
    if (reason := manifest.why_unfit(score)) is not None or SCORES[score].needs != "logits":
        return reason
    if manifest.graph.output_kind != "logits":
        return (
            f"{score!r} needs logits, and the output is {manifest.graph.output_kind}: the logarithm of a probability "
            "has lost what it looks at (its energy is always 0)"
        )
    raw = session.run(manifest.graph.output, inputs.admit(inputs.synthetic())[1])
    if raw.ndim < 2 or raw.shape[manifest.graph.class_axis] == 1:
        return (
            f"{score!r} needs a logit of every class, and the output is one column: the other class' logit would be a "
            "convention of ours"
        )
    return None


def check_binding(bundle: Bundle, record: Record) -> None:
    """Refuse a record of another graph, manifest, task or number of classes, or one whose state is incomplete."""
    if record.graph_sha256 != bundle.graph_sha256:
        raise BundleDamaged(f"{bundle.path}: calibration.json was fitted on another graph; fit this one")
    for section, fingerprint in bundle.manifest.fingerprints().items():
        if bundle.version is not None and record.sections.get(section) != fingerprint:
            raise BundleDamaged(f"{bundle.path}: calibration.json was fitted with another [{section}]; fit again")
    _check_scored(bundle, record)
    _check_size(bundle, record)
    _check_task(bundle, record)


@contextmanager
def restoring(bundle: Bundle) -> Iterator[None]:
    """Whatever the arithmetic of a calibrated version raises is damage to its files, in one line."""
    if bundle.record is None:
        yield
        return
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleDamaged(f"{bundle.path / STATE_FILE}: {first}; restore the version, or fit again") from None


def check_state(bundle: Bundle, record: Record) -> None:
    """Refuse arrays that hold no numbers, or do not agree with the record and the number of classes.

    Raises
    ------
    ValueError, BundleDamaged
    """
    for name, array in bundle.state.items():
        if array.dtype.kind not in "fiub" and not name.startswith(FEED):
            raise ValueError(f"{name} must hold numbers")
    for name, score in record.scores.items():
        if restore_reference(name, bundle.state).n != score.rows:
            raise ValueError(f"{name}:n must be the {score.rows} rows of {RECORD_FILE}")
    classes = len(bundle.manifest.graph.classes)
    sample = restore_sample(bundle.state)
    if sample is not None:
        check_array("prevalence:log_probs", sample[0].log_probs, None, classes)
    if record.estimation is not None and record.content_sha256 is not None:
        _check_estimation(record.estimation, None if sample is None else sample[0], rows=record.provenance.rows)
    if record.label_sets is not None and record.label_sets.scored is not None:
        _check_sets(bundle, record.label_sets)


def _check_estimation(estimation: EstimationRecord, sample: Sample | None, *, rows: int) -> None:
    if estimation.condition is None:
        return
    if sample is None:
        raise ValueError("prevalence:gate, log_probs and labels must be there: estimates are compared with them")
    if len(sample.labels) == rows:  # else some rows were left out, and the others have another condition
        expected = checked_condition(sample.confusion)
        if not math.isclose(estimation.condition, expected, rel_tol=CONDITION_TOLERANCE):
            raise ValueError(f"estimation.condition of {RECORD_FILE} must be that of the stored rows")


def _check_sets(bundle: Bundle, record: LabelSetsRecord) -> None:
    classes = bundle.manifest.graph.classes
    counts = None if record.class_rows is None else [record.class_rows.get(name) for name in classes]
    for kind, expected in zip(KINDS, (counts, [record.rows]), strict=True):
        sets = restore_sets(kind, bundle.state, method=record.method)
        found = None if sets is None else [part.n for part in sets.conformities]
        if expected is not None and found != expected:
            raise ValueError(f"sets.{kind}:n must be the rows of {RECORD_FILE}")


def _check_scored(bundle: Bundle, record: Record) -> None:
    for score, entry in record.scores.items():
        if score not in SCORES or not state_names(score, entry) <= set(bundle.state):
            raise BundleDamaged(f"{bundle.path}: state.npz lacks what score {score!r} needs")
        if entry.by_class is not None and set(entry.by_class) != set(bundle.manifest.graph.classes):
            raise BundleDamaged(f"{bundle.path}: calibration.json: scores.{score}.by_class does not name the classes")
    if bundle.version is not None and set(record.scores) != set(bundle.manifest.ood.scores):
        raise BundleDamaged(f"{bundle.path}: calibration.json and [ood] scores do not name the same scores; fit again")


def _check_task(bundle: Bundle, record: Record) -> None:
    shares, graph = record.source.prevalence, bundle.manifest.graph
    if shares is not None and set(shares) != set(graph.classes):
        raise BundleDamaged(f"{bundle.path}: calibration.json: source.prevalence does not name the classes")
    if graph.rules.by_label and tuple(record.labels) != graph.classes:
        raise BundleDamaged(f"{bundle.path}: calibration.json: labels are not the manifest's, in its order; fit again")
    if (graph.task != "sequence") != (record.sequence is None):
        raise BundleDamaged(f"{bundle.path}: calibration.json is of another task; fit again")
    errors = None if record.estimation is None else record.estimation.source_error
    if errors is not None and len(errors) != len(graph.classes):
        raise BundleDamaged(f"{bundle.path}: calibration.json: estimation.source_error must have a number per class")


def _check_size(bundle: Bundle, record: Record) -> None:
    zero = np.zeros((1, len(bundle.manifest.graph.classes)))
    _check_chain(bundle, record, classes=zero.shape[1])
    shape = (*zero.shape, 2) if bundle.manifest.graph.rules.by_label else zero.shape
    try:
        undone = zero if record.inverse is None else restore_inverse(record.inverse).apply(log_softmax(zero))
        fits = record.restored_calibrator().apply(undone).shape == shape
    except (ValueError, IndexError):
        fits = False
    if not fits:
        raise BundleDamaged(f"{bundle.path}: calibration.json does not fit {zero.shape[1]} classes")


def _check_chain(bundle: Bundle, record: Record, *, classes: int) -> None:
    if record.sequence is None:
        return
    try:
        fits = len(record.sequence.restored().initial) == classes
    except ValueError as error:
        raise BundleDamaged(f"{bundle.path / RECORD_FILE}: sequence.{error}") from None
    if not fits:
        raise BundleDamaged(f"{bundle.path / RECORD_FILE}: sequence does not fit {classes} classes")
