"""Predictions of rows by column, `layout = "columns"`: `classes` once and an array per field.

Numbers go from NumPy to text without becoming Python's. They are the numbers of the rows layout, to the last digit:
what was computed in single precision is widened first, for the shortest text of a single is another number.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from service.api.v1 import answers, shapes
from service.core.decision import REASONS
from service.core.detector import Detector
from service.core.numerics import Array, Flags, Indices, largest
from service.core.pipeline import Posterior
from service.prediction.answer import Decided, Prediction, RowSets

Json = dict[str, Any]

WIDE: Final = np.float64
INDEX: Final = np.int64


def predict_columns(prediction: Prediction, ids: Sequence[str] | None, top_k: int | None) -> bytes:
    """Answer of `:predict`."""
    return _encode(prediction, {**_identified(prediction, ids), **_beliefs(prediction, top_k)})


def detect_columns(prediction: Prediction, ids: Sequence[str] | None) -> bytes:
    """Answer of `:detect`."""
    return _encode(prediction, {**_identified(prediction, ids), "ood": _ood(prediction)})


def decide_columns(prediction: Prediction, ids: Sequence[str] | None, top_k: int | None) -> bytes:
    """Answer of `:decide`."""
    judged = {"ood": _ood(prediction), "decisions": [_decisions(part) for part in prediction.decided]}
    return _encode(prediction, {**_identified(prediction, ids), **_beliefs(prediction, top_k), **judged})


def _encode(prediction: Prediction, columns: Json) -> bytes:
    said = {
        **answers.header(prediction),
        "classes": prediction.model.classes,
        "columns": columns,
        **answers.session_member(prediction),
    }
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)


def _identified(prediction: Prediction, ids: Sequence[str] | None) -> Json:
    request_id = prediction.call.request_id
    named: Json = {"prediction_id": [f"{request_id}.{i}" for i in range(len(prediction.log_probs))]}
    return named if ids is None else {**named, "id": ids}


def _beliefs(prediction: Prediction, top_k: int | None) -> Json:
    classes = prediction.model.classes
    probabilities = prediction.probabilities
    said: Json = {"label": [classes[k] for k in prediction.log_probs.argmax(axis=1).tolist()]}
    if top_k is None:
        said["probabilities"] = _wide(probabilities)
    else:
        said["top"] = _top(probabilities, top_k)
    return said if prediction.sets is None else {**said, "set": _sets(prediction.sets)}


def _top(probabilities: Array, top_k: int) -> Json:
    order = largest(probabilities, top_k)
    values = np.take_along_axis(probabilities, order, axis=1)
    return {"index": _whole(order), "probability": _wide(values)}


def _sets(sets: RowSets) -> Json:
    said = {"coverage": sets.coverage, "method": sets.method}
    return {"members": _plain(sets.members), **said, "valid": _plain(sets.valid)}


def _ood(prediction: Prediction) -> Json:
    posterior, detectors = prediction.posterior, prediction.model.chain.detectors
    scores = {detector.name: _score(posterior, i, detector) for i, detector in enumerate(detectors)}
    said = shapes.trust(_plain(posterior.flagged), _wide(posterior.p_value), _evidence(prediction), scores)
    return said if prediction.fdr is None else {**said, "discovered": _plain(prediction.discovered)}


def _score(posterior: Posterior, place: int, detector: Detector) -> Json:
    return shapes.score(
        _wide(posterior.scores[:, place]),
        _wide(detector.thresholds(posterior.logits)),
        None if posterior.p_values is None else _wide(posterior.p_values[:, place]),
        None if posterior.flags is None else _plain(posterior.flags[:, place]),
    )


def _evidence(prediction: Prediction) -> list[Json]:
    found = sorted(answers.evidence_of(prediction).items())
    return [{"row": row, **one} for row, evidence in found for one in evidence]


def _decisions(part: Decided) -> Json:
    policy, taken = part.policy, part.decisions
    deferring = {} if taken.deferral is None else {"value_of_deferring": _wide(taken.deferral)}
    return {
        "policy": {"name": policy.name, "source": policy.source},
        "actions": policy.actions,
        "rows": _whole(part.rows),
        "action": [policy.actions[a] for a in taken.action.tolist()],
        "risk": _wide(np.take_along_axis(taken.risks, taken.action[:, None], axis=1)[:, 0]),
        "risks": _wide(taken.risks),
        "margin": _wide(taken.margin),
        "value_of_information": _wide(taken.information),
        **deferring,
        "reason": [REASONS[r] for r in taken.reason.tolist()],
        "overridden": _overridden(part),
    }


def _overridden(part: Decided) -> Json:
    taken = part.decisions
    where = np.flatnonzero(taken.action != taken.least_cost)
    least = taken.least_cost[where]
    return {
        "rows": _whole(part.rows[where]),
        "action": [part.policy.actions[a] for a in least.tolist()],
        "risk": _wide(taken.risks[where, least]),
    }


def _wide(numbers: Array | None) -> Array | None:
    return None if numbers is None else np.ascontiguousarray(numbers, dtype=WIDE)


def _plain(flags: Flags | None) -> Flags | None:
    return None if flags is None else np.ascontiguousarray(flags)


def _whole(numbers: Indices) -> Indices:
    return np.ascontiguousarray(numbers, dtype=INDEX)
