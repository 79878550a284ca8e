"""Actions of a recorded answer, computed again from its logits and its basis: what `temperance audit show` compares.

Nothing but the record is used: the version may be retired, and its files gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from service.bundle.record import CalibratorRecord, InverseRecord, LabelRecord, Record, SequenceRecord, restore_inverse
from service.core import multilabel
from service.core.calibration import Map
from service.core.calibration.identity import Identity
from service.core.multilabel import LabelChain, PerLabel
from service.core.numerics import Array, Flags
from service.core.pipeline import Chain, Policy, Posterior, at_prevalence, choose, postprocess
from service.core.sequence import STRENGTH, decide_positions, flat, lengths_of, padded, postprocess_sequences, smooth
from service.prediction.record_layout import Values
from service.prediction.record_reader import Recorded

Json = Mapping[str, Any]
Actions = dict[str, list[str]]
NO_DECISION: Final = "the answer has no decision"
BY_ROW: Final = "costs or policies vary by row, and the basis holds those of all rows alone"
KEPT: Final = "the record keeps the most probable classes alone"
PREVALENCE: Final = "the prevalence varies by row"


@dataclass(frozen=True, slots=True)
class Recomputation:
    """Actions by their path in the answer, or why there are none.

    Attributes
    ----------
    actions : dict of str to list of str
        As ``decision.action``: one action for every row, or for every position of all rows.
    reason : str or None
        Why nothing was computed.
    """

    actions: Actions
    reason: str | None = None


def recomputed(recorded: Recorded, basis: Json) -> Recomputation:
    """Stages B to E on the recorded logits; flags are as recorded.

    Parameters
    ----------
    recorded : Recorded
        Of one record.
    basis : mapping
        The JSON of its context's basis.
    """
    reason = _obstacle(recorded, basis)
    if reason is not None:
        return Recomputation({}, reason)
    posterior = _posterior(recorded, basis)
    moved = _SHIFTS[basis["task"]](posterior, basis)
    flags = recorded.get("ood.flagged")
    flagged = None if flags is None or (flags < 0).any() else flags == 1
    return Recomputation(_DECISIONS[basis["task"]](moved, posterior, basis, flagged))


def differences(recorded: Recorded, found: Recomputation) -> list[str]:
    """Paths whose recorded actions are others."""
    return [path for path, actions in found.actions.items() if recorded.texts(path) != actions]


def _obstacle(recorded: Recorded, basis: Json) -> str | None:
    policies = basis["policies"]
    if not policies:
        return NO_DECISION
    if any(policy["costs"] is None for policy in policies) or (basis["task"] != "multilabel" and len(policies) > 1):
        return BY_ROW
    if recorded.layout.kept is not None:
        return KEPT
    prevalence = basis["prevalence"]
    return PREVALENCE if prevalence["moved"] and prevalence["target"] is None else None


def _posterior(recorded: Recorded, basis: Json) -> Posterior:
    logits, chain = recorded.values("logits"), _chain(basis)
    if recorded.lengths is None:
        return postprocess(chain, logits, _no_columns(logits))
    lengths = recorded.lengths
    rows = padded(logits, lengths, length=int(lengths.max()))
    return postprocess_sequences(chain, rows, _no_columns(rows), lengths=lengths)


def _no_columns(logits: Values) -> Array:
    return np.empty((len(logits), 0))


def _chain(basis: Json) -> Chain:
    stored, none = basis["calibration"], np.empty(0)
    if stored is None:
        each = PerLabel((LabelChain(None, Identity()),) * len(basis["classes"]))
        calibrator: Map = each if basis["task"] == "multilabel" else Identity()
        return Chain((), none, none, range_gated=False, calibrator=calibrator, calibrated=False)
    record = _record(stored)
    inverse = None if record.inverse is None else restore_inverse(record.inverse)
    own = record.restored_calibrator()
    return Chain((), none, none, range_gated=False, calibrator=own, calibrated=True, inverse=inverse)


def _record(stored: Json) -> Record:
    inverse, labels = stored.get("inverse"), stored.get("labels", {})
    sections: dict[str, Any] = {
        "status": stored["status"],
        "support": stored.get("support"),
        "calibrator": CalibratorRecord.model_validate_json(orjson.dumps(stored["calibrator"])),
        "inverse": None if inverse is None else InverseRecord.model_validate_json(orjson.dumps(inverse)),
        "labels": {name: LabelRecord.model_validate_json(orjson.dumps(one)) for name, one in labels.items()},
    }
    return Record.model_construct(**sections)  # the sections that a chain is made of


def _prevalence(basis: Json, which: str) -> Array | None:
    values = basis["prevalence"][which]
    return None if values is None else np.asarray(values, dtype=np.float64)


def _target(basis: Json) -> Array | None:
    return _prevalence(basis, "target") if basis["prevalence"]["moved"] else None


def _shifted(posterior: Posterior, basis: Json) -> Array:
    return at_prevalence(posterior.log_probs, source=_prevalence(basis, "source"), target=_target(basis))


def _shifted_labels(posterior: Posterior, basis: Json) -> Array:
    source, target = _prevalence(basis, "source"), _target(basis)
    return multilabel.at_prevalence(posterior.log_probs, source=source, target=target)


def _shifted_positions(posterior: Posterior, basis: Json) -> Array:
    lengths, smoother = lengths_of(posterior), basis["smoother"]
    source, target = _prevalence(basis, "source"), _target(basis)
    if target is not None:
        moved = at_prevalence(flat(posterior.log_probs, lengths), source=source, target=target)
        return padded(moved, lengths, length=posterior.log_probs.shape[1])
    if smoother is None:
        return posterior.log_probs
    stored = (basis["calibration"] or {}).get("sequence")
    transitions = None if stored is None else SequenceRecord.model_validate_json(orjson.dumps(stored)).restored()
    return smooth(
        smoother["name"],
        posterior.log_probs,
        lengths=lengths,
        prevalence=source,
        transitions=transitions,
        strength=smoother["strength"] or STRENGTH,
    )


def _policy(stored: Json) -> Policy:
    actions = tuple(stored["actions"])
    on_ood = None if stored["on_ood"] is None else actions.index(stored["on_ood"])
    cost = np.asarray(stored["costs"], dtype=np.float64)
    return Policy(stored["name"], stored["source"], actions, cost, on_ood, stored["switch"])


def _decided(log_probs: Array, posterior: Posterior, basis: Json, flagged: Flags | None) -> Actions:
    del posterior
    policy = _policy(basis["policies"][0])
    return {"decision.action": _names(policy, choose(log_probs, policy, flagged=flagged).action)}


def _decided_labels(log_probs: Array, posterior: Posterior, basis: Json, flagged: Flags | None) -> Actions:
    del posterior
    found = {}
    for stored in basis["policies"]:
        policy, label = _policy(stored), stored["label"]
        taken = choose(log_probs[:, basis["classes"].index(label)], policy, flagged=flagged)
        found[f"decisions.{label}.action"] = _names(policy, taken.action)
    return found


def _decided_positions(log_probs: Array, posterior: Posterior, basis: Json, flagged: Flags | None) -> Actions:
    policy = _policy(basis["policies"][0])
    plan = decide_positions(log_probs, policy, lengths=lengths_of(posterior), flagged=flagged)
    return {"decision.action": _names(policy, plan.decisions.action)}


def _names(policy: Policy, actions: Values) -> list[str]:
    return [policy.actions[place] for place in actions.tolist()]


_SHIFTS: Final = {"multiclass": _shifted, "multilabel": _shifted_labels, "sequence": _shifted_positions}
_DECISIONS: Final = {"multiclass": _decided, "multilabel": _decided_labels, "sequence": _decided_positions}
