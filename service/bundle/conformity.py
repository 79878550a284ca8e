"""Label sets in `state.npz`: nonconformities of calibration rows, within classes and of all together."""

from typing import Final, Literal

import numpy as np

from service.bundle.record import State
from service.core.label_sets import Conformity, LabelSets

Kind = Literal["class_conditional", "marginal"]

PARTS: Final = ("scores", "ranks", "stored", "n")


def pack_sets(kind: Kind, sets: LabelSets) -> State:
    """Arrays of `state.npz` that bring fitted sets back, classes one after the other; `restore_sets` reads them."""
    parts = sets.conformities
    return {
        f"sets.{kind}:scores": np.concatenate([part.scores for part in parts]),
        f"sets.{kind}:ranks": np.concatenate([part.ranks for part in parts]),
        f"sets.{kind}:stored": np.array([len(part.scores) for part in parts]),
        f"sets.{kind}:n": np.array([part.n for part in parts]),
    }


def restore_sets(kind: Kind, state: State, *, method: str) -> LabelSets | None:
    """Sets that `fit` ranked; None where the version has none of that kind."""
    if not {f"sets.{kind}:{part}" for part in PARTS} <= set(state):
        return None
    scores, ranks, stored, n = (np.asarray(state[f"sets.{kind}:{part}"], dtype=np.float64) for part in PARTS)
    edges = np.cumsum(stored).astype(np.intp)[:-1]
    parts = zip(np.split(scores, edges), np.split(ranks, edges), n.tolist(), strict=True)
    return LabelSets(method, tuple(Conformity(s, r, int(units)) for s, r, units in parts))
