"""Synthetic rows and their answers in `state.npz`: what a version must still answer wherever it is loaded.

Tested in `tests/fitting/test_self_test.py`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.state import State
from service.core.numerics import Array, Indices

PREFIX: Final = "self_test."
FEED: Final = f"{PREFIX}feed."
TOLERANCE: Final = 1e-3
"""Of a probability, and of a logit relative to its size: other processors round otherwise, by 1e-5 at most, and other
arithmetic for the same numbers (int8, float16) by some 1e-4."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """N rows as the graph took them, and its outputs for them.

    Attributes
    ----------
    columns : ndarray of shape (N, F)
    feeds : dict of str to ndarray
        By graph input. Rows are kept as they went into the graph: what a feature may be, and what stands in for a
        missing one, may change without a new calibration.
    lengths : ndarray of shape (N,) or None
    logits, log_probs : ndarray of shape (N, …)
        Raw, and calibrated.
    """

    columns: Array
    feeds: State
    lengths: Indices | None
    logits: Array
    log_probs: Array

    def departure(self, logits: Array, log_probs: Array) -> str | None:
        """How far other answers for the same rows are off, in words; None within tolerance."""
        if logits.shape != self.logits.shape or log_probs.shape != self.log_probs.shape:
            return f"answers of another shape, {logits.shape} for {self.logits.shape}"
        with np.errstate(all="ignore"):  # a changed number may overflow, and is then refused
            off = float(np.max(np.abs(logits - self.logits) / (1.0 + np.abs(self.logits))))
            shifted = float(np.max(np.abs(np.exp(log_probs) - np.exp(self.log_probs))))
        if off <= TOLERANCE and shifted <= TOLERANCE:
            return None
        return f"logits off by {off:.2g} of their size and probabilities by {shifted:.2g}; {TOLERANCE:g} is allowed"


def pack_self_test(test: SelfTest) -> State:
    """Arrays of `state.npz`; text as fixed-width strings, for no object is ever unpickled."""
    feeds = {FEED + name: feed.astype(str) if feed.dtype.kind == "O" else feed for name, feed in test.feeds.items()}
    lengths = {} if test.lengths is None else {f"{PREFIX}lengths": test.lengths}
    answers = {f"{PREFIX}logits": test.logits, f"{PREFIX}log_probs": test.log_probs}
    return {f"{PREFIX}columns": test.columns, **feeds, **lengths, **answers}


def restore_self_test(state: State) -> SelfTest | None:
    """The test that `fit` stored; None in a version that is older than that."""
    if f"{PREFIX}logits" not in state:
        return None
    feeds = {name.removeprefix(FEED): feed for name, feed in state.items() if name.startswith(FEED)}
    lengths = state.get(f"{PREFIX}lengths")
    return SelfTest(
        np.asarray(state[f"{PREFIX}columns"], dtype=np.float64),
        {name: feed.astype(object) if feed.dtype.kind == "U" else feed for name, feed in feeds.items()},
        None if lengths is None else np.asarray(lengths, dtype=np.intp),
        np.asarray(state[f"{PREFIX}logits"], dtype=np.float64),
        np.asarray(state[f"{PREFIX}log_probs"], dtype=np.float64),
    )
