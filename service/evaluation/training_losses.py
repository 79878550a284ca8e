"""Mean training losses of labelled rows, by name."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from service.bundle.declared_inverse import inverse_record, label_inverse_record
from service.bundle.manifest import Manifest
from service.bundle.sections import Training
from service.core.losses import LOSSES
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices
from service.errors import Fault, InvalidParameters


def _of(task: str) -> tuple[str, ...]:
    return tuple(
        name
        for name, loss in LOSSES.items()
        if loss.task == task and loss.targets == "labels" and loss.required <= Training.model_fields.keys()
    )


NAMES: Final[dict[str, tuple[str, ...]]] = {
    "multiclass": _of("multiclass"),
    "multilabel": _of("multilabel"),
    "sequence": (*_of("multiclass"), *_of("sequence")),
}
"""By task: losses of labelled rows whose parameters `[training]` can hold; those of classes take positions as rows."""


def named_losses(
    names: Sequence[str], log_probs: Array, labels: Indices, manifest: Manifest, *, weights: Array | None = None
) -> dict[str, float]:
    """Mean loss of the rows, for each name.

    A loss takes its parameters from `[training]` when the model was trained with it, and has its usual ones otherwise.

    Parameters
    ----------
    names : sequence of str
        Of `NAMES`.
    log_probs : ndarray of shape (N, K)
        Multilabel (N, M, 2), sequence (N, L, K).
    labels : ndarray of shape (N,)
        Multilabel (N, M); sequence (N, L), -1 for padding.
    manifest : Manifest
    weights : ndarray of shape (N,), optional

    Raises
    ------
    InvalidParameters
        For a name that is no loss of labelled rows, or one whose parameters are not declared.
    """
    check_names(names, manifest)
    rowwise = {name: _rowwise(name, log_probs, labels, manifest) for name in names}
    return {name: float(np.average(losses, weights=_mass(losses, labels, weights))) for name, losses in rowwise.items()}


def _mass(losses: Array, labels: Indices, weights: Array | None) -> Array | None:
    """Weights of the losses: of rows, or of the unpadded positions of a sequence."""
    if weights is None or len(losses) == len(weights):
        return weights
    return np.repeat(weights, (labels != PADDING).sum(axis=1))


def _rowwise(name: str, log_probs: Array, labels: Indices, manifest: Manifest) -> Array:
    log_probs, labels = _inputs(name, log_probs, labels)
    return LOSSES[name].values(log_probs, labels, **_parameters(name, manifest))


def check_names(names: Sequence[str], manifest: Manifest) -> None:
    """Raise InvalidParameters for the first name that `named_losses` could not report."""
    for i, name in enumerate(names):
        _check(i, name, manifest)


def _check(i: int, name: str, manifest: Manifest) -> None:
    known = NAMES[manifest.graph.task]
    if name not in known:
        raise _refusal(i, "unknown-loss", f"is none of {', '.join(known)}")
    missing = LOSSES[name].required - _parameters(name, manifest).keys()
    if missing:
        raise _refusal(i, "undeclared-loss", f"needs {min(missing)}, which [training] of the manifest can declare")


def _inputs(name: str, log_probs: Array, labels: Indices) -> tuple[Array, Indices]:
    """What a loss takes: log-odds (multilabel), padded sequences, or rows with one class each."""
    task = LOSSES[name].task
    if task == "multilabel":
        return log_probs[..., 1] - log_probs[..., 0], labels
    if task == "multiclass" and labels.ndim == 2:
        return log_probs[:, : labels.shape[1]][labels != PADDING], labels[labels != PADDING]
    return log_probs[:, : labels.shape[1]] if task == "sequence" else log_probs, labels


def _parameters(name: str, manifest: Manifest) -> dict[str, float | Array]:
    known = LOSSES[name].parameters
    if manifest.graph.rules.by_label:
        return _label_parameters(name, manifest)
    if "smoothness" in known and manifest.training.smoothness is not None:
        return {"smoothness": manifest.training.smoothness}
    declared = inverse_record(manifest)
    if declared is None or declared.loss != name:
        return {}
    return {key: np.asarray(value) for key, value in declared.params.items() if key in known}


def _label_parameters(name: str, manifest: Manifest) -> dict[str, float | Array]:
    declared = [label_inverse_record(manifest, label) for label in manifest.graph.classes]
    params = [record.params for record in declared if record is not None and record.loss == name]
    return {key: np.array([each[key] for each in params]) for key in (params[0] if params else {})}


def _refusal(i: int, code: str, detail: str) -> InvalidParameters:
    return InvalidParameters(f"losses: number {i + 1} {detail}", [Fault(("parameters", "losses", i), code, detail)])
