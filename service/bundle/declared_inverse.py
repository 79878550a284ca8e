"""The inverse that `[training]` declares, as `calibration.json` keeps it.

Tested in `tests/fitting/test_candidate_chains.py`.
"""

from typing import Any

from service.bundle.manifest import Manifest
from service.bundle.record import InverseRecord


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
