"""Label sets in `state.npz`: nonconformities of calibration rows, within classes and of all together."""

from typing import Final, Literal, get_args

import numpy as np

from service.bundle.state import State
from service.core.label_sets import Conformity, LabelSets
from service.core.state_checks import check_counts, check_number, edges_of

Kind = Literal["class_conditional", "marginal"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
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
    """Sets that `fit` ranked; None where the version has none of that kind.

    Raises
    ------
    ValueError
        Naming the array that cannot be right.
    """
    if not {f"sets.{kind}:{part}" for part in PARTS} <= set(state):
        return None
    names = {part: f"sets.{kind}:{part}" for part in PARTS}
    scores, ranks, caps, reach = (np.asarray(state[names[part]], dtype=np.float64) for part in PARTS[:4])
    n = check_counts(names["n"], state[names["n"]])
    edges = edges_of(names["stored"], state[names["stored"]], groups=len(n), total=len(scores))
    parts = zip(*(np.split(part, edges) for part in (scores, ranks, caps, reach)), n.tolist(), strict=True)
    check_number(names["tie"], state[names["tie"]], least=0.0)
    try:
        conformities = tuple(Conformity(s, r, int(units), c, e) for s, r, c, e, units in parts)
    except ValueError as error:
        raise ValueError(f"sets.{kind}:{error}") from None
    return LabelSets(method, conformities, float(state[names["tie"]]))
