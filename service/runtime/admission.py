"""Checks between manifest, record and graph before a bundle is loaded.

Tested in `tests/runtime/test_model.py`.
"""

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import Record, restore_inverse
from service.bundle.repository import Bundle
from service.bundle.scores import state_names
from service.core.numerics import log_softmax
from service.core.ood import SCORES
from service.errors import BundleDamaged, ManifestInvalid
from service.runtime.inputs import Inputs
from service.runtime.session import SCORE_TYPES, Session


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


def _check_size(bundle: Bundle, record: Record) -> None:
    zero = np.zeros((1, len(bundle.manifest.graph.classes)))
    shape = (*zero.shape, 2) if bundle.manifest.graph.rules.by_label else zero.shape
    try:
        undone = zero if record.inverse is None else restore_inverse(record.inverse).apply(log_softmax(zero))
        fits = record.restored_calibrator().apply(undone).shape == shape
    except (ValueError, IndexError):
        fits = False
    if not fits:
        raise BundleDamaged(f"{bundle.path}: calibration.json does not fit {zero.shape[1]} classes")
