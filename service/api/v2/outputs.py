"""What a client may ask `/v2` for, and the tensors that answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.api.v2.tensors import Output
from service.core.numerics import Array, largest
from service.prediction.answer import Prediction
from service.runtime.model import Model

DECIDED: Final = frozenset({"risk", "action"})
FLAGGED: Final = frozenset({"p_value", "ood"})
RANKED: Final = frozenset({"logits", "probabilities"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output asked for: as bytes or not, whole or the classes of its largest values."""

    name: str
    binary: bool
    top: int | None = None


def output_names(model: Model, *, policy: str | None = None) -> list[str]:
    """Outputs that a model has: decisions only with a policy, flags only when calibrated."""
    names = list(_OUTPUTS)
    if policy is None and model.manifest.default_policy is None:
        names = [name for name in names if name not in DECIDED]
    if not model.chain.calibrated:
        names = [name for name in names if name not in FLAGGED]
    if not model.chain.gate:
        names = [name for name in names if name not in {"ood_score", "p_value"}]
    return names


def datatype(name: str) -> str:
    """Type of an output's values."""
    return _OUTPUTS[name][0]


def answer_output(prediction: Prediction, wanted: Wanted) -> Output:
    """The tensor that was asked for."""
    datatype, values_of = _OUTPUTS[wanted.name]
    values = values_of(prediction)
    if wanted.top is not None:
        values = _classification(values, prediction.model.classes, wanted.top)
        n = len(prediction.log_probs)
        return Output(wanted.name, "BYTES", (n, len(values) // n), values, wanted.binary)
    shape = values.shape if isinstance(values, np.ndarray) else (len(values),)
    return Output(wanted.name, datatype, shape, values, wanted.binary)


def _classification(values: Array, classes: Sequence[str], count: int) -> list[str]:
    order = largest(values, count)
    return [f"{row[k]:f}:{k}:{classes[k]}" for row, places in zip(values, order.tolist(), strict=True) for k in places]


def _labels(prediction: Prediction) -> list[str]:
    classes = prediction.model.classes
    return [classes[k] for k in prediction.log_probs.argmax(axis=1).tolist()]


def _first_gate_score(prediction: Prediction) -> Array:
    return prediction.posterior.scores[:, prediction.model.chain.gate[0]]


def _actions_taken(prediction: Prediction) -> list[str]:
    (decided,) = prediction.decided
    actions = decided.policy.actions
    return [actions[a] for a in decided.decisions.action.tolist()]


def _risks(prediction: Prediction) -> Array:
    (decided,) = prediction.decided
    return decided.decisions.risks


def _ids(prediction: Prediction) -> list[str]:
    return [f"{prediction.call.request_id}.{i}" for i in range(len(prediction.log_probs))]


_OUTPUTS: Final[dict[str, tuple[str, Callable[[Prediction], Any]]]] = {
    "logits": ("FP32", lambda prediction: prediction.posterior.logits.astype(np.float32)),
    "probabilities": ("FP64", lambda prediction: prediction.probabilities.astype(np.float64)),
    "label": ("BYTES", _labels),
    "ood_score": ("FP64", _first_gate_score),
    "p_value": ("FP64", lambda prediction: prediction.posterior.p_value),
    "ood": ("BOOL", lambda prediction: prediction.posterior.flagged),
    "risk": ("FP64", _risks),
    "action": ("BYTES", _actions_taken),
    "prediction_id": ("BYTES", _ids),
}
