"""Training losses of labelled rows, by name."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from service.bundle.manifest import Manifest, Training
from service.bundle.record import inverse_record
from service.core.losses import LOSSES
from service.core.numerics import Array, Indices
from service.errors import Fault, InvalidParameters

NAMES: Final = tuple(
    name
    for name, loss in LOSSES.items()
    if loss.task == "multiclass" and loss.targets == "labels" and loss.required <= Training.model_fields.keys()
)
"""Losses of labelled rows whose parameters `[training]` can hold."""


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
    labels : ndarray of shape (N,)
    manifest : Manifest
    weights : ndarray of shape (N,), optional

    Raises
    ------
    InvalidParameters
        For a name that is no loss of labelled rows, or one whose parameters nobody declared.
    """
    check_names(names, manifest)
    rowwise = {name: LOSSES[name](log_probs, labels, **_parameters(name, manifest))[0] for name in names}
    return {name: float(np.average(losses, weights=weights)) for name, losses in rowwise.items()}


def check_names(names: Sequence[str], manifest: Manifest) -> None:
    """Raise InvalidParameters for the first name that `named_losses` could not report."""
    for i, name in enumerate(names):
        _check(i, name, manifest)


def _check(i: int, name: str, manifest: Manifest) -> None:
    if name not in NAMES:
        raise _refusal(i, "unknown-loss", f"is none of {', '.join(NAMES)}")
    missing = LOSSES[name].required - _parameters(name, manifest).keys()
    if missing:
        raise _refusal(i, "undeclared-loss", f"needs {min(missing)}, which [training] of the manifest can declare")


def _parameters(name: str, manifest: Manifest) -> dict[str, float | Array]:
    declared = inverse_record(manifest)
    if declared is None or declared.loss != name:
        return {}
    known = LOSSES[name].parameters
    return {key: np.asarray(value) for key, value in declared.params.items() if key in known}


def _refusal(i: int, code: str, detail: str) -> InvalidParameters:
    return InvalidParameters(f"losses: number {i + 1} {detail}", [Fault(("parameters", "losses", i), code, detail)])
