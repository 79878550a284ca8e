"""Fitted OOD scores in `state.npz`: what they learned, and the calibration scores behind thresholds and p-values."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.record import ScoreRecord
from service.bundle.state import State
from service.core.conformal import Reference
from service.core.mondrian import ByClass, with_fallback
from service.core.numerics import Array, Indices
from service.core.ood import SCORES, Score
from service.core.score_ties import UNMEASURED, caps
from service.core.state_checks import check_array, check_ascending, check_counts, edges_of

REFERENCE_PARTS: Final = ("scores", "ranks", "n")
CLASS_PARTS: Final = ("class_scores", "class_ranks", "class_stored", "class_n")
CAPS: Final = "caps"
"""Younger than schema 1: without them references make their own."""


def pack_score(name: str, score: Score, calibration: Reference, by_class: ByClass | None = None) -> State:
    """Arrays of `state.npz` that bring one fitted score back.

    `restore_score`, `restore_reference` and `restore_by_class` read them.
    """
    fields = {field: np.asarray(getattr(score, field)) for field in fields_of(name)}
    unset = {field for field, value in _defaults(name).items() if np.array_equal(fields[field], value)}
    return {
        **{f"{name}.{field}": array for field, array in fields.items() if field not in unset},
        f"{name}:scores": calibration.scores,
        f"{name}:ranks": calibration.ranks,
        f"{name}:n": np.array(calibration.n),
        f"{name}:{CAPS}": calibration.caps,
        **({} if by_class is None else _pack_classes(name, by_class)),
    }


def restore_score(name: str, state: State) -> Score:
    """A score with the state that `fit` learned.

    Raises
    ------
    ValueError
        Naming the array that cannot be right.
    """
    fields = {field: state[f"{name}.{field}"] for field in fields_of(name) if f"{name}.{field}" in state}
    try:
        return SCORES[name](**fields)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


def restore_reference(name: str, state: State) -> Reference:
    """The calibration scores that thresholds and p-values rest on.

    Raises
    ------
    ValueError
        Naming the array that cannot be right.
    """
    scores = np.asarray(check_ascending(f"{name}:scores", state[f"{name}:scores"], None), dtype=np.float64)
    ranks = check_counts(f"{name}:ranks", state[f"{name}:ranks"], least=1)
    (n,) = check_counts(f"{name}:n", np.atleast_1d(state[f"{name}:n"]), least=1)
    return _reference(f"{name}:", scores, ranks, n, state.get(f"{name}:{CAPS}"))


def restore_by_class(name: str, state: State, record: ScoreRecord, classes: tuple[str, ...]) -> ByClass | None:
    """References and thresholds of every predicted class; None where the score has one threshold for all."""
    if record.by_class is None:
        return None
    groups, recorded = _class_references(name, state), [record.by_class[c].threshold for c in classes]
    thresholds = [np.nan if t is None else group.covering(t) for t, group in zip(recorded, groups, strict=True)]
    among = restore_reference(name, state)
    return with_fallback(groups, np.array(thresholds), among=among, usual=among.covering(record.threshold))


def state_names(score: str, record: ScoreRecord | None = None) -> set[str]:
    """Names of the arrays without which a score cannot be restored."""
    parts = REFERENCE_PARTS if record is None or record.by_class is None else (*REFERENCE_PARTS, *CLASS_PARTS)
    fields = set(fields_of(score)) - set(_defaults(score))
    return {*(f"{score}.{field}" for field in fields), *(f"{score}:{part}" for part in parts)}


def state_bytes(state: State, scores: Iterable[str]) -> dict[str, int]:
    """What each score takes in `state.npz`, in bytes."""
    return {s: sum(a.nbytes for key, a in state.items() if key.startswith((f"{s}.", f"{s}:"))) for s in scores}


def fields_of(score: str) -> tuple[str, ...]:
    """Names of the arrays that a score's dataclass holds."""
    return tuple(field.name for field in _fields(score))


def _defaults(score: str) -> dict[str, Any]:
    """Fields younger than schema 1, with the value that stands for their absence."""
    return {f.name: f.default_factory() for f in _fields(score) if f.default_factory is not dataclasses.MISSING}


def _class_references(name: str, state: State) -> list[Reference]:
    scores = np.asarray(check_array(f"{name}:class_scores", state[f"{name}:class_scores"], None), dtype=np.float64)
    ranks, n = (check_counts(f"{name}:class_{part}", state[f"{name}:class_{part}"]) for part in ("ranks", "n"))
    stored, caps_of_all = f"{name}:class_stored", state.get(f"{name}:class_{CAPS}")
    ends = edges_of(stored, state[stored], groups=len(n), total=len(scores))
    edges = [None] * len(n) if caps_of_all is None else np.split(caps_of_all, ends)
    parts = zip(np.split(scores, ends), np.split(ranks, ends), n.tolist(), edges, strict=True)
    return [_reference(f"{name}:class_", *part) for part in parts]


def _reference(prefix: str, scores: Array, ranks: Indices, n: int, stored: npt.NDArray[Any] | None) -> Reference:
    try:
        return Reference(scores, ranks, int(n), _caps(scores, stored))
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def _caps(scores: Array, stored: npt.NDArray[Any] | None) -> Array:
    # A version fitted before caps were stored has them from its scores, for an output of unmeasured noise.
    return caps(scores, UNMEASURED) if stored is None else np.asarray(stored, dtype=np.float64)


def _fields(score: str) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(SCORES[score])  # type: ignore[arg-type]  # all are dataclasses


def _pack_classes(name: str, by_class: ByClass) -> State:
    # A class without a threshold of its own shares the reference of all rows, which is stored already.
    own = zip(by_class.references, by_class.own, strict=True)
    nothing = Reference(np.empty(0), np.empty(0, np.intp), 0, np.empty(0))
    parts = [reference if is_own else nothing for reference, is_own in own]
    return {
        f"{name}:class_scores": np.concatenate([part.scores for part in parts]),
        f"{name}:class_ranks": np.concatenate([part.ranks for part in parts]),
        f"{name}:class_stored": np.array([len(part.scores) for part in parts]),
        f"{name}:class_n": np.array([part.n for part in parts]),
        f"{name}:class_{CAPS}": np.concatenate([part.caps for part in parts]),
    }
