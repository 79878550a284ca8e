"""Members of an answer's rows, whatever stands for their values: each is written down once.

`answers` fills them with values, `templates` with places for values, `columns` with the values of all rows, so that no
two ways of answering can differ.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from service.core.pipeline import Policy

Json = dict[str, Any]


def belief(label: Any, probabilities: Mapping[str, Any]) -> Json:
    """What is believed of a row."""
    return {"label": label, "probabilities": probabilities}


def trust(flagged: Any, p_value: Any, evidence: Any, scores: Mapping[str, Any]) -> Json:
    """How far a row lies within what the model knows."""
    return {"flagged": flagged, "p_value": p_value, "evidence": evidence, "scores": scores}


def score(value: Any, threshold: Any, p_value: Any, flagged: Any) -> Json:
    """One OOD score."""
    return {"score": value, "threshold": threshold, "p_value": p_value, "flagged": flagged}


def decision(
    policy: Policy,
    action: int,
    least_cost: int,
    reason: str,
    *,
    risks: Sequence[Any],
    margin: Any,
    information: Any,
    deferral: Any | None,
) -> Json:
    """What to do about a row, and what costs alone would do where that is something else."""
    said: Json = {
        "policy": {"name": policy.name, "source": policy.source},
        "action": policy.actions[action],
        "risk": risks[action],
        "risks": dict(zip(policy.actions, risks, strict=True)),
        "margin": margin,
        "value_of_information": information,
    }
    if deferral is not None:
        said["value_of_deferring"] = deferral
    said["reason"] = reason
    if action != least_cost:
        said["overridden"] = {"action": policy.actions[least_cost], "risk": risks[least_cost]}
    return said
