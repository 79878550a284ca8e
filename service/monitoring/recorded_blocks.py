"""Records of one context as arrays: what was predicted and decided of every row, label or position.

Tested in tests/monitoring/test_observed.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Policy
from service.monitoring.observations import UNKNOWN
from service.prediction.record_reader import Recorded

Json = dict[str, Any]
ROWS, POSITIONS = "rows", "positions"
FLOOR: Final = -745.0  # log of the smallest double: a probability that was answered as 0


@dataclass(frozen=True, slots=True)
class DecidedBlock:
    """Decisions of one policy.

    Attributes
    ----------
    policy : Policy
    places : ndarray of shape (M,)
    action : ndarray of shape (M,)
    """

    policy: Policy
    places: Indices
    action: Indices


@dataclass(frozen=True, slots=True)
class PartBlock:
    """Predictions of one class each.

    Attributes
    ----------
    classes : tuple of str
    row : ndarray of shape (P,)
    log_probs : ndarray of shape (P, K)
    labels : ndarray of shape (P,)
    decided : list of DecidedBlock
    coverage : ndarray of shape (P,), or None
        Of label sets.
    member : ndarray of shape (P, K), or None
    """

    classes: tuple[str, ...]
    row: Indices
    log_probs: Array
    labels: Indices
    decided: list[DecidedBlock]
    coverage: Array | None = None
    member: Flags | None = None


def part_blocks(recorded: Recorded, basis: Json, truths: Sequence[Any]) -> dict[str, PartBlock]:
    """What was predicted of the rows of records, by part; empty where they hold no probabilities.

    Parameters
    ----------
    recorded : Recorded
    basis : dict
        Of their context.
    truths : sequence
        Of every row, parsed; None without an outcome.
    """
    if "probabilities" not in recorded:
        return {}
    return TASKS[basis["task"]](recorded, basis, truths)


def policies_of(basis: Json, *, label: str | None = None) -> list[Policy]:
    """Policies with costs that are the same for all rows; of a label.

    Parameters
    ----------
    basis : dict
    label : str, optional
    """
    own = (entry for entry in basis["policies"] if entry["costs"] is not None and entry["label"] == label)
    return [
        Policy(
            entry["name"],
            entry["source"],
            tuple(entry["actions"]),
            np.array(entry["costs"], dtype=np.float64),
            None if entry["on_ood"] is None else entry["actions"].index(entry["on_ood"]),
            entry["switch"],
            entry.get("ties", 1.0),
        )
        for entry in own
    ]


def _multiclass(recorded: Recorded, basis: Json, truths: Sequence[Any]) -> dict[str, PartBlock]:
    classes = tuple(basis["classes"])
    labels = _places(truths, classes)
    coverage, member = recorded.get("set.coverage"), recorded.get("set.labels")
    return {
        ROWS: PartBlock(
            classes,
            np.arange(len(truths)),
            _logs(recorded.values("probabilities")),
            labels,
            list(_decided(recorded, policies_of(basis), "decision")),
            coverage,
            None if member is None else member == 1,
        )
    }


def _multilabel(recorded: Recorded, basis: Json, truths: Sequence[Any]) -> dict[str, PartBlock]:
    found, probabilities = {}, recorded.values("probabilities")
    for m, label in enumerate(basis["classes"]):
        states = [None if truth is None else truth.get(label) for truth in truths]
        labels = np.array([UNKNOWN if state is None else state for state in states], dtype=np.intp)
        p = probabilities[:, m]
        decided = list(_decided(recorded, policies_of(basis, label=label), f"decisions.{label}"))
        log_probs = _logs(np.stack([1.0 - p, p], axis=1))
        found[label] = PartBlock(("absent", "present"), np.arange(len(truths)), log_probs, labels, decided)
    return found


def _sequence(recorded: Recorded, basis: Json, truths: Sequence[Any]) -> dict[str, PartBlock]:
    classes, lengths = tuple(basis["classes"]), recorded.lengths
    if lengths is None:
        return {}
    states: list[Any] = []
    for truth, length in zip(truths, lengths.tolist(), strict=True):
        known = [] if truth is None else list(truth[:length])
        states += known + [None] * (length - len(known))
    decided = list(_decided(recorded, policies_of(basis), "decision"))
    row = np.repeat(np.arange(len(truths)), lengths)
    return {
        POSITIONS: PartBlock(classes, row, _logs(recorded.values("probabilities")), _places(states, classes), decided)
    }


def _logs(probabilities: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probabilities.astype(np.float64)), FLOOR)


def _places(truths: Sequence[Any], classes: tuple[str, ...]) -> Indices:
    place = {name: k for k, name in enumerate(classes)}
    return np.array([UNKNOWN if truth is None else place.get(truth, UNKNOWN) for truth in truths], dtype=np.intp)


def _decided(recorded: Recorded, policies: list[Policy], path: str) -> Iterator[DecidedBlock]:
    if f"{path}.action" not in recorded:
        return
    names = recorded.block(f"{path}.action").names or ()
    action, by_row = recorded.values(f"{path}.action"), f"{path}.policy" in recorded
    chosen = recorded.texts(f"{path}.policy") if by_row else None
    for policy in policies:
        place = np.array([policy.actions.index(name) if name in policy.actions else UNKNOWN for name in names])
        own = np.full(len(action), True) if chosen is None else np.array([name == policy.name for name in chosen])
        own &= action >= 0
        if own.any():
            yield DecidedBlock(policy, np.flatnonzero(own), place[action[own]])


TASKS: Final[dict[str, Callable[[Recorded, Json, Sequence[Any]], dict[str, PartBlock]]]] = {
    "multiclass": _multiclass,
    "multilabel": _multilabel,
    "sequence": _sequence,
}
