"""Tensors that a model answers, by task.

Rows of one class of several, and rows of labels, have as many values as there are classes. Sequences are padded to the
longest of the request: behind a sequence's end numbers are NaN (null in JSON), names are empty; `length` says where it
ends. Where a label has fewer actions than another, or none, its risks are padded in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.api.v2.responses import Output
from service.api.v2.tensors import Json, Values
from service.core.numerics import Array, largest
from service.core.sequence import lengths_of, present
from service.prediction.answer import Answer
from service.runtime.model import Model

DECIDED: Final = frozenset({"risk", "action"})
FLAGGED: Final = frozenset({"p_value", "ood"})
SCORED: Final = frozenset({"ood_score", "p_value"})
RANKED: Final = frozenset({"logits", "probabilities"})


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One tensor that a request asks for.

    Attributes
    ----------
    name : str
    binary : bool
    classification : int or None
        How many of the largest values, with their classes, stand in for all (the classification extension).
    """

    name: str
    binary: bool
    classification: int | None = None


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One tensor that models of a task answer.

    Attributes
    ----------
    datatype : str
    row : callable
        Shape of one row, for a model; -1 where it depends on the request.
    values : callable
        An array, or for BYTES nested lists of texts, of an answer; the id of its request comes second.
    """

    datatype: str
    row: Callable[[Model], tuple[int, ...]]
    values: Callable[[Answer, str], Any]


def output_names(model: Model, *, policy: str | None = None) -> list[str]:
    """Outputs that a model has: decisions only with a policy, flags only when calibrated."""
    absent: frozenset[str] = frozenset()
    if policy is None and model.manifest.default_policy is None:
        absent |= DECIDED
    if not model.chain.calibrated:
        absent |= FLAGGED
    if not model.chain.gate:
        absent |= SCORED
    return [name for name in OUTPUTS[model.task] if name not in absent]


def described(model: Model) -> list[Json]:
    """Outputs of a model as its metadata lists them."""
    own = OUTPUTS[model.task]
    return [
        {"name": name, "datatype": own[name].datatype, "shape": [-1, *own[name].row(model)]}
        for name in output_names(model)
    ]


def output_of(answer: Answer, request_id: str, requested: RequestedOutput) -> Output:
    """The tensor that was requested."""
    tensor = OUTPUTS[answer.model.task][requested.name]
    values = tensor.values(answer, request_id)
    datatype = tensor.datatype
    if requested.classification is not None:
        values, datatype = _classification(values, answer.model.classes, requested.classification), "BYTES"
    if datatype != "BYTES":
        return Output(requested.name, datatype, values.shape, values, requested.binary)
    cells = np.asarray(values, dtype=object)
    return Output(requested.name, datatype, cells.shape, cells.ravel().tolist(), requested.binary)


def actions_of(model: Model) -> Json:
    """Names of the actions of every policy, in the order of their risks; of labels by label."""
    if not model.label_policies:
        return {name: policy.actions for name, policy in model.policies.items()}
    return {
        name: {model.classes[m]: policy.actions for m, policy in own.items()}
        for name, own in model.label_policies.items()
    }


def _classification(values: Array, classes: Sequence[str], count: int) -> Values:
    """Texts ``value:index:class`` of the largest values along the last axis."""
    rows = values.reshape(-1, values.shape[-1])
    found = [
        ["" if np.isnan(row[k]) else f"{row[k]:f}:{k}:{classes[k]}" for k in places]
        for row, places in zip(rows, largest(rows, count).tolist(), strict=True)
    ]
    return np.array(found, dtype=object).reshape(*values.shape[:-1], -1)


def _by_class(model: Model) -> tuple[int, ...]:
    return (len(model.classes),)


def _by_position(model: Model) -> tuple[int, ...]:
    return (-1, len(model.classes))


def _alone(model: Model) -> tuple[int, ...]:
    del model
    return ()


def _positions(model: Model) -> tuple[int, ...]:
    del model
    return (-1,)


def _by_action(model: Model) -> tuple[int, ...]:
    default = model.manifest.default_policy
    return (-1,) if default is None else (len(model.policies[default].actions),)


def _by_label_and_action(model: Model) -> tuple[int, ...]:
    default = model.manifest.default_policy
    own = [] if default is None else [len(policy.actions) for policy in model.label_policies[default].values()]
    return (len(model.classes), max(own, default=-1))


def _by_position_and_action(model: Model) -> tuple[int, ...]:
    return (-1, *_by_action(model))


def _named(names: Sequence[str], places: Values) -> Values:
    found: Values = np.array(names, dtype=object)[places]
    return found


def _padded(flat: Values, answer: Answer, *, fill: object) -> Values:
    """Values of unpadded positions as a rectangle, shape (N, L, …)."""
    lengths = lengths_of(answer.posterior)
    whole = np.full((len(lengths), int(lengths.max()), *flat.shape[1:]), fill, dtype=flat.dtype)
    whole[present(lengths, whole.shape[1])] = flat
    return whole


def _unpadded(values: Array, answer: Answer) -> Array:
    return values[present(lengths_of(answer.posterior), values.shape[1])]


def _logits(answer: Answer, request_id: str) -> Values:
    del request_id
    return answer.posterior.logits.astype(np.float32)


def _position_logits(answer: Answer, request_id: str) -> Values:
    del request_id
    return _padded(_unpadded(answer.posterior.logits, answer), answer, fill=np.nan).astype(np.float32)


def _probabilities(answer: Answer, request_id: str) -> Values:
    del request_id
    return answer.probabilities.astype(np.float64)


def _present_probabilities(answer: Answer, request_id: str) -> Values:
    del request_id
    return np.exp(answer.log_probs[..., 1]).astype(np.float64)


def _position_probabilities(answer: Answer, request_id: str) -> Values:
    del request_id
    return np.exp(_padded(_unpadded(answer.log_probs, answer), answer, fill=np.nan)).astype(np.float64)


def _label(answer: Answer, request_id: str) -> Values:
    del request_id
    return _named(answer.model.classes, answer.log_probs.argmax(axis=1))


def _labels(answer: Answer, request_id: str) -> Values:
    del request_id
    found: Values = answer.log_probs[..., 1] >= answer.log_probs[..., 0]
    return found


def _position_label(answer: Answer, request_id: str) -> Values:
    del request_id
    best = _unpadded(answer.log_probs, answer).argmax(axis=1)
    return _padded(_named(answer.model.classes, best), answer, fill="")


def _length(answer: Answer, request_id: str) -> Values:
    del request_id
    return lengths_of(answer.posterior).astype(np.int64)


def _ood_score(answer: Answer, request_id: str) -> Values:
    del request_id
    return answer.posterior.scores[:, answer.model.chain.gate[0]]


def _p_value(answer: Answer, request_id: str) -> Any:
    del request_id
    return answer.posterior.p_value


def _flag(answer: Answer, request_id: str) -> Any:
    del request_id
    return answer.posterior.flagged


def _action(answer: Answer, request_id: str) -> Values:
    del request_id
    (decided,) = answer.decided
    return _named(decided.policy.actions, decided.decisions.action)


def _risk(answer: Answer, request_id: str) -> Values:
    del request_id
    (decided,) = answer.decided
    return decided.decisions.risks


def _position_action(answer: Answer, request_id: str) -> Values:
    return _padded(_action(answer, request_id), answer, fill="")


def _position_risk(answer: Answer, request_id: str) -> Values:
    return _padded(_risk(answer, request_id), answer, fill=np.nan)


def _label_action(answer: Answer, request_id: str) -> Values:
    del request_id
    taken = np.full((len(answer.log_probs), len(answer.model.classes)), "", dtype=object)
    for decided in answer.decided:
        taken[:, answer.model.classes.index(decided.label or "")] = _named(
            decided.policy.actions, decided.decisions.action
        )
    return taken


def _label_risk(answer: Answer, request_id: str) -> Values:
    del request_id
    most = max(len(decided.policy.actions) for decided in answer.decided)
    risks = np.full((len(answer.log_probs), len(answer.model.classes), most), np.nan)
    for decided in answer.decided:
        own = decided.decisions.risks
        risks[:, answer.model.classes.index(decided.label or ""), : own.shape[1]] = own
    return risks


def _prediction_id(answer: Answer, request_id: str) -> Values:
    found: Values = np.array([f"{request_id}.{i}" for i in range(len(answer.log_probs))], dtype=object)
    return found


_OF_ROWS: Final = {
    "ood_score": OutputTensor("FP64", _alone, _ood_score),
    "p_value": OutputTensor("FP64", _alone, _p_value),
    "ood": OutputTensor("BOOL", _alone, _flag),
}
_PREDICTION_ID: Final = {"prediction_id": OutputTensor("BYTES", _alone, _prediction_id)}

OUTPUTS: Final[dict[str, dict[str, OutputTensor]]] = {
    "multiclass": {
        "logits": OutputTensor("FP32", _by_class, _logits),
        "probabilities": OutputTensor("FP64", _by_class, _probabilities),
        "label": OutputTensor("BYTES", _alone, _label),
        **_OF_ROWS,
        "risk": OutputTensor("FP64", _by_action, _risk),
        "action": OutputTensor("BYTES", _alone, _action),
        **_PREDICTION_ID,
    },
    "multilabel": {
        "logits": OutputTensor("FP32", _by_class, _logits),
        "probabilities": OutputTensor("FP64", _by_class, _present_probabilities),
        "labels": OutputTensor("BOOL", _by_class, _labels),
        **_OF_ROWS,
        "risk": OutputTensor("FP64", _by_label_and_action, _label_risk),
        "action": OutputTensor("BYTES", _by_class, _label_action),
        **_PREDICTION_ID,
    },
    "sequence": {
        "logits": OutputTensor("FP32", _by_position, _position_logits),
        "probabilities": OutputTensor("FP64", _by_position, _position_probabilities),
        "label": OutputTensor("BYTES", _positions, _position_label),
        "length": OutputTensor("INT64", _alone, _length),
        **_OF_ROWS,
        "risk": OutputTensor("FP64", _by_position_and_action, _position_risk),
        "action": OutputTensor("BYTES", _positions, _position_action),
        **_PREDICTION_ID,
    },
}
"""By task, in the order in which they are answered."""
