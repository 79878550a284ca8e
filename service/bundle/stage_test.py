"""Synthetic logits, features and scores with the answers of stages A to E to them, in `state.npz`.

The rows of `service.bundle.self_test` go through the graph, whose processors round differently, and their probabilities
are mostly 0 or 1. These vectors meet the stages alone, in float64: what a fitted number or a declared cost decides is
known to nine digits, on every machine.

Tested in `tests/fitting/test_self_test.py`.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from service.bundle.self_test import PREFIX
from service.bundle.state import State
from service.core.numerics import MANY_CLASSES

Part = Literal["learned", "declared"]
"""Of what `fit` learned, or of what a manifest declares and `publish` may renew: ranges, sites and policies."""

PARTS: Final[tuple[Part, ...]] = ("learned", "declared")
TEXTS: Final = "texts"
"""The answer that stands for what a manifest declares in words."""
EXACT_TOLERANCE: Final = 1e-9
SINGLE_TOLERANCE: Final = 1e-5
"""Of answers relative to 1 + the largest of their column: in float64, and in float32, which many classes have."""


@dataclass(frozen=True, slots=True)
class StageTest:
    """What goes into the stages, and what must come out.

    Attributes
    ----------
    inputs, answers : dict of str to ndarray
        Named as `service.runtime.stage_answers` names them.
    """

    inputs: State
    answers: State

    def departure(self, found: State, *, classes: int) -> str | None:
        """The first answer that is another one now, in words; None where all are within tolerance."""
        tolerance = EXACT_TOLERANCE if classes <= MANY_CLASSES else SINGLE_TOLERANCE
        for name, expected in self.answers.items():
            if name not in found or found[name].shape != expected.shape:
                return f"{name} has another shape"
            if not (off := _distance(found[name], expected)) <= tolerance:
                if name == TEXTS:
                    return "a name of a site, a policy or an action, or what a feature may hold, is another one"
                return f"{name} is off by {off:.2g}; {tolerance:g} is allowed"
        return None


def pack_stage_test(part: Part, test: StageTest) -> State:
    """Arrays of `state.npz`; `restore_stage_test` reads them."""
    inputs = {f"{PREFIX}{part}.{name}": np.asarray(array) for name, array in test.inputs.items()}
    return inputs | {f"{PREFIX}{part}:{name}": np.asarray(array) for name, array in test.answers.items()}


def restore_stage_test(part: Part, state: State) -> StageTest | None:
    """The test that `fit` stored; None in a version that is older than that."""
    inputs, answers = (_under(f"{PREFIX}{part}{mark}", state) for mark in ".:")
    return StageTest(inputs, answers) if answers else None


def is_of_stages(state: State) -> bool:
    """Whether a version has a self-test of its stages."""
    return any(name.startswith(_marks(part)) for name in state for part in PARTS)


def without_stage_test(part: Part, state: State) -> State:
    """The other arrays."""
    return {name: array for name, array in state.items() if not name.startswith(_marks(part))}


def _marks(part: Part) -> tuple[str, str]:
    return f"{PREFIX}{part}.", f"{PREFIX}{part}:"


def _under(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _distance(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    # Relative to the largest of a column: what cancels in one row has the rounding of what it cancelled from.
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    a, b = np.atleast_1d(np.asarray(found, dtype=np.float64)), np.atleast_1d(expected.astype(np.float64))
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    return float(np.max(np.abs(a - b) / (1.0 + np.abs(b).max(axis=0, initial=0.0)), initial=0.0))
