"""Label sets in `state.npz`: nonconformities of calibration rows, within classes and of all together."""

from typing import Final, Literal

import numpy as np

from service.bundle.state import State
from service.core.label_sets import Conformity, LabelSets

Kind = Literal["class_conditional", "marginal"]

PARTS: Final = ("scores", "ranks", "caps", "reach", "stored", "n", "tie")


def pack_sets(kind: Kind, sets: LabelSets) -> State:
    """Arrays of `state.npz` that bring fitted sets back, classes one after the other; `restore_sets` reads them."""
    parts = sets.conformities
    return {
        f"sets.{kind}:scores": np.concatenate([part.scores for part in parts]),
        f"sets.{kind}:ranks": np.concatenate([part.ranks for part in parts]),
        f"sets.{kind}:caps": np.concatenate([part.caps for part in parts]),
        f"sets.{kind}:reach": np.concatenate([part.reach for part in parts]),
        f"sets.{kind}:stored": np.array([len(part.scores) for part in parts]),
        f"sets.{kind}:n": np.array([part.n for part in parts]),
        f"sets.{kind}:tie": np.array(sets.tie),
    }


def restore_sets(kind: Kind, state: State, *, method: str) -> LabelSets | None:
    """Sets that `fit` ranked; None where the version has none of that kind."""
    if not {f"sets.{kind}:{part}" for part in PARTS} <= set(state):
        return None
    scores, ranks, caps, reach, stored, n, tie = (
        np.asarray(state[f"sets.{kind}:{part}"], dtype=np.float64) for part in PARTS
    )
    edges = np.cumsum(stored).astype(np.intp)[:-1]
    parts = zip(*(np.split(part, edges) for part in (scores, ranks, caps, reach)), n.tolist(), strict=True)
    conformities = tuple(Conformity(s, r, int(units), c, e) for s, r, c, e, units in parts)
    return LabelSets(method, conformities, float(tie))
