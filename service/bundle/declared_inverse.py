"""The inverse that `[training]` declares, as `calibration.json` keeps it, and whether a version applies it."""

from dataclasses import dataclass
from typing import Any

from service.bundle.manifest import Manifest
from service.bundle.record import InverseRecord, Record


@dataclass(frozen=True, slots=True)
class InverseUse:
    """The inverse of a training loss, and whether a version applies it.

    Attributes
    ----------
    name : str
        Its key in `core.inverse.INVERSES`.
    applied : bool
        Whether the record applies it; of labels, to any.
    labels : tuple of str or None
        Of a multilabel model: those whose log-odds it is applied to.
    """

    name: str
    applied: bool
    labels: tuple[str, ...] | None = None


def inverse_use(manifest: Manifest, record: Record | None) -> InverseUse | None:
    """The declared inverse and whether the record applies it; None where the loss leaves the posterior as it is.

    Parameters
    ----------
    manifest : Manifest
    record : Record or None
        None of an uncalibrated version, which applies none.
    """
    if manifest.graph.rules.by_label:
        return _use_by_label(manifest, record)
    declared = inverse_record(manifest)
    applied = record is not None and record.inverse is not None
    return None if declared is None else InverseUse(declared.loss, applied)


def _use_by_label(manifest: Manifest, record: Record | None) -> InverseUse | None:
    declared = label_inverse_record(manifest, manifest.graph.classes[0])
    own = {} if record is None else record.labels
    labels = tuple(name for name, label in own.items() if label.inverse is not None)
    return None if declared is None else InverseUse(declared.loss, bool(labels), labels)


def inverse_record(manifest: Manifest) -> InverseRecord | None:
    """The inverse that `[training]` declares; None where the loss leaves the posterior as it is, or has no inverse."""
    training, classes = manifest.training, manifest.graph.classes
    declared: dict[str, dict[str, Any]] = {
        "weighted": {"class_weights": _in_order(training.class_weights, classes)},
        "focal": {"gamma": training.gamma, "alpha": _in_order(training.alpha, classes)},
        "label_smoothing": {"epsilon": training.epsilon, "floor": manifest.graph.probability_floor},
    }
    if training.loss not in declared:
        return None
    params = {name: value for name, value in declared[training.loss].items() if value is not None}
    return InverseRecord(loss=training.loss, params=params)


def label_inverse_record(manifest: Manifest, label: str) -> InverseRecord | None:
    """The inverse on one label's log-odds that `[training]` declares; None where the loss leaves them as they are."""
    training = manifest.training
    declared: dict[str, tuple[str, dict[str, float | None]]] = {
        "weighted": ("multilabel_cross_entropy", {"positive_weight": (training.class_weights or {}).get(label)}),
        "focal": ("sigmoid_focal", {"gamma": training.gamma, "alpha": (training.alpha or {}).get(label)}),
    }
    if training.loss not in declared:
        return None
    loss, params = declared[training.loss]
    return InverseRecord(loss=loss, params={name: value for name, value in params.items() if value is not None})


def _in_order(values: dict[str, float] | None, classes: tuple[str, ...]) -> tuple[float, ...] | None:
    return None if values is None else tuple(values[c] for c in classes)
