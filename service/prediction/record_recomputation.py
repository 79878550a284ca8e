"""Actions of a recorded answer, computed again from its logits and its basis: what `temperance audit show` compares.

Nothing but the record is used: the version may be retired, and its files gone. Out-of-distribution flags are taken as
recorded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import orjson

from service.bundle.record import (
    CalibratorRecord,
    InverseRecord,
    LabelRecord,
    SequenceRecord,
    restore_calibrator,
    restore_inverse,
)
from service.core import multilabel
from service.core.calibration import Map
from service.core.calibration.identity import Identity
from service.core.calibration.mixture import Mixed
from service.core.multilabel import LabelChain, PerLabel, decide_labels
from service.core.numerics import Array, Flags, Indices, log_softmax, width
from service.core.pipeline import Policy, at_prevalence, choose
from service.core.sequence import decide_positions, flat, padded, smooth
from service.prediction.answer_member import Json
from service.prediction.record_by_row import COSTS, POLICY, PREVALENCE
from service.prediction.record_layout import Values
from service.prediction.record_reader import Recorded
from service.record_errors import StoreDamaged

Actions = dict[str, list[str]]
NO_DECISION: Final = "the answer has no decision"
KEPT: Final = "the record keeps the most probable classes alone"


@dataclass(frozen=True, slots=True)
class Recomputation:
    """What was computed again, or why nothing was.

    Attributes
    ----------
    actions : dict of str to list of str
        As ``decision.action``: one action for every row, or for every position of all rows.
    reason : str or None
        Why there are no actions.
    log_probs : ndarray or None
        As `Answer.log_probs`; of a sequence (P, K), of all positions of all rows. None without all logits.
    """

    actions: Actions
    reason: str | None = None
    log_probs: Array | None = None


def recomputed(recorded: Recorded, basis: Json) -> Recomputation:
    """Stages B to E on the recorded logits; flags are as recorded.

    Parameters
    ----------
    recorded : Recorded
    basis : dict
        The JSON of the basis of their context.

    Raises
    ------
    StoreDamaged
        If the basis is none of this record.
    """
    if recorded.layout.kept is not None:
        return Recomputation({}, KEPT)
    try:
        return TASKS[basis["task"]](recorded, basis)
    except (LookupError, ValueError, TypeError) as error:
        raise StoreDamaged(f"the basis of a record cannot be read: {type(error).__name__}") from None


def differences(recorded: Recorded, found: Recomputation) -> list[str]:
    """Paths whose recorded actions are others."""
    return [path for path, actions in found.actions.items() if recorded.texts(path) != actions]


def _found(actions: Actions, log_probs: Array) -> Recomputation:
    return Recomputation(actions, None if actions else NO_DECISION, log_probs)


def _multiclass(recorded: Recorded, basis: Json) -> Recomputation:
    log_probs = at_prevalence(
        _calibrated(recorded.values("logits"), basis), source=_array(basis, "source"), target=_target(recorded, basis)
    )
    flagged, names = _flagged(recorded), _texts(recorded, POLICY)
    actions: list[str] = [""] * len(recorded)
    for policy in _policies(recorded, basis):
        rows = [row for row, name in enumerate(names) if name in (None, policy.name)]
        own = None if flagged is None else flagged[rows]
        taken = choose(log_probs[rows], _of_rows(policy, rows), flagged=own)
        for row, action in zip(rows, taken.action.tolist(), strict=True):
            actions[row] = policy.actions[action]
    return _found({"decision.action": actions} if basis["policies"] else {}, log_probs)


def _multilabel(recorded: Recorded, basis: Json) -> Recomputation:
    source, target = _array(basis, "source"), _target(recorded, basis)
    log_probs = multilabel.at_prevalence(_calibrated(recorded.values("logits"), basis), source=source, target=target)
    labels = [policy["label"] for policy in basis["policies"]]
    policies = {
        basis["classes"].index(label): _policy(policy) for label, policy in zip(labels, basis["policies"], strict=True)
    }
    made = decide_labels(log_probs, policies, flagged=_flagged(recorded))
    found = {f"decisions.{basis['classes'][m]}.action": _named(policies[m], taken.action) for m, taken in made.items()}
    return _found(found, log_probs)


def _sequence(recorded: Recorded, basis: Json) -> Recomputation:
    lengths = recorded.lengths
    if lengths is None:
        raise ValueError("sequences have lengths")
    calibrated, longest = _calibrated(recorded.values("logits"), basis), int(lengths.max())
    target = _target(recorded, basis)
    if target is None:
        log_probs = _smoothed(padded(calibrated, lengths, length=longest), lengths, basis)
    else:
        moved = at_prevalence(calibrated, source=_array(basis, "source"), target=target)
        log_probs = padded(moved, lengths, length=longest)
    actions = {}
    for policy in map(_policy, basis["policies"]):
        plan = decide_positions(log_probs, policy, lengths=lengths, flagged=_flagged(recorded))
        actions["decision.action"] = _named(policy, plan.decisions.action)
    return _found(actions, flat(log_probs, lengths))


def _smoothed(log_probs: Array, lengths: Indices, basis: Json) -> Array:
    chain = (basis["calibration"] or {}).get("sequence")
    return smooth(
        basis["smoother"]["name"],
        log_probs,
        lengths=lengths,
        prevalence=_array(basis, "source"),
        transitions=None if chain is None else SequenceRecord.model_validate_json(orjson.dumps(chain)).restored(),
        strength=basis["smoother"]["strength"],
    )


def _calibrated(logits: Values, basis: Json) -> Array:
    """Stages B and C."""
    raw = logits.astype(width(logits.shape[1]))
    calibration = basis["calibration"]
    if calibration is None:
        chains = (LabelChain(None, Identity()),) * logits.shape[1]
        return PerLabel(chains).apply(raw) if basis["task"] == "multilabel" else Identity().apply(raw)
    if calibration["labels"]:
        chains = tuple(_label(label, calibration["support"]) for label in calibration["labels"].values())
        return PerLabel(chains).apply(raw)
    inverse, calibrator = calibration["inverse"], _calibrator(calibration, calibration["support"])
    undone = raw if inverse is None else restore_inverse(InverseRecord(**inverse)).apply(log_softmax(raw))
    return calibrator.apply(undone)


def _label(label: Json, support: float | None) -> LabelChain:
    record = LabelRecord.model_validate_json(orjson.dumps(label))
    inverse = None if record.inverse is None else restore_inverse(record.inverse)
    return LabelChain(inverse, _calibrator(label, support))


def _calibrator(calibration: Json, support: float | None) -> Map:
    restored = restore_calibrator(CalibratorRecord.model_validate_json(orjson.dumps(calibration["calibrator"])))
    mixed = calibration["status"] == "separable" and support is not None
    return Mixed(restored, support) if mixed and support is not None else restored


def _array(basis: Json, name: str) -> Array | None:
    found = basis["prevalence"][name]
    return None if found is None else np.array(found)


def _target(recorded: Recorded, basis: Json) -> Array | None:
    if not basis["prevalence"]["moved"]:
        return None
    by_row = recorded.get(PREVALENCE)
    return _array(basis, "target") if by_row is None else by_row


def _flagged(recorded: Recorded) -> Flags | None:
    """Rows that a policy's action for flagged rows takes; None where no row has a flag."""
    flags = recorded.values("ood.flagged")
    alarm = recorded.get("session.alarm")
    if (flags < 0).all():
        return None
    found: Flags = (flags > 0) if alarm is None else (flags > 0) | (alarm > 0)
    return found


def _texts(recorded: Recorded, name: str) -> list[str | None]:
    return recorded.texts(name) if name in recorded else [None] * len(recorded)


def _policies(recorded: Recorded, basis: Json) -> list[Policy]:
    own = recorded.get(COSTS)
    return [_policy(stated, None if own is None else own) for stated in basis["policies"]]


def _policy(stated: Mapping[str, Any], costs: Values | None = None) -> Policy:
    actions = tuple(stated["actions"])
    table = np.array(stated["costs"]) if costs is None else costs.reshape(len(costs), len(actions), -1)
    on_ood = None if stated["on_ood"] is None else actions.index(stated["on_ood"])
    return Policy(stated["name"], stated["source"], actions, table, on_ood, stated["switch"], stated.get("ties", 1.0))


def _of_rows(policy: Policy, rows: list[int]) -> Policy:
    if policy.cost.ndim == 2:  # actions and classes
        return policy
    return replace(policy, cost=policy.cost[rows])


def _named(policy: Policy, action: Indices) -> list[str]:
    return [policy.actions[place] for place in action.tolist()]


TASKS: Final[dict[str, Callable[[Recorded, Json], Recomputation]]] = {
    "multiclass": _multiclass,
    "multilabel": _multilabel,
    "sequence": _sequence,
}
