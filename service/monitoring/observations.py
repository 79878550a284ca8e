"""Answers of a window beside what turned out to be true of them, as arrays.

Tested in tests/monitoring/test_performance.py.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Policy

UNKNOWN: Final = -1
ASCERTAINMENTS: Final = ("routine", "action", "audit")
ACTION: Final = 1


@dataclass(frozen=True, slots=True)
class AnsweredRows:
    """Every answered row of a window, whether or not its outcome is known.

    Attributes
    ----------
    requests : int
    created : ndarray of shape (N,)
        Microseconds since 1970.
    subject : ndarray of shape (N,)
        0..S-1: rows of one subject depend on each other; a row without a subject is a subject of its own.
    keys : dict of str to list of str
        By what rows can be grouped, the group of every row.
    flagged : ndarray of shape (N,)
        1, 0, or `UNKNOWN` of an uncalibrated version.
    ascertainment : ndarray of shape (N,)
        Place in `ASCERTAINMENTS`; `UNKNOWN` without an outcome. ``action`` where no outcome became known otherwise.
    observed, received : ndarray of shape (N,)
        When the outcome in force was observed, and when it arrived; `UNKNOWN` without one.
    contradictions : ndarray of shape (N,)
        Outcomes that contradicted an earlier one.
    """

    requests: int
    created: Indices
    subject: Indices
    keys: dict[str, list[str]]
    flagged: Indices
    ascertainment: Indices
    observed: Indices
    received: Indices
    contradictions: Indices

    def __len__(self) -> int:
        """Rows."""
        return len(self.created)

    @property
    def known(self) -> Flags:
        """Rows with an outcome, shape (N,)."""
        known: Flags = self.ascertainment != UNKNOWN
        return known


@dataclass(frozen=True, slots=True)
class Decided:
    """Decisions with the same costs.

    Attributes
    ----------
    policy : Policy
    places : ndarray of shape (M,)
        Which predictions they are of.
    action : ndarray of shape (M,)
        As it was answered.
    """

    policy: Policy
    places: Indices
    action: Indices

    def part(self, kept: Flags, new: Indices) -> "Decided":
        """Those of predictions that are kept, at their new places."""
        own = kept[self.places]
        return Decided(self.policy, new[self.places[own]], self.action[own])


@dataclass(frozen=True, slots=True)
class LabelSets:
    """Label sets that were answered at one coverage.

    Attributes
    ----------
    coverage : float
    places : ndarray of shape (M,)
    member : ndarray of shape (M, K)
    """

    coverage: float
    places: Indices
    member: Flags

    def part(self, kept: Flags, new: Indices) -> "LabelSets":
        """Those of predictions that are kept, at their new places."""
        own = kept[self.places]
        return LabelSets(self.coverage, new[self.places[own]], self.member[own])


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one class each: of rows, of one label, or of positions.

    Attributes
    ----------
    classes : tuple of str
    row : ndarray of shape (P,)
        The answered row that each is of.
    log_probs : ndarray of shape (P, K)
        As served.
    labels : ndarray of shape (P,)
        True classes; `UNKNOWN` without an outcome.
    decided : tuple of Decided
    sets : tuple of LabelSets
    """

    classes: tuple[str, ...]
    row: Indices
    log_probs: Array
    labels: Indices
    decided: tuple[Decided, ...] = ()
    sets: tuple[LabelSets, ...] = ()

    def part(self, kept: Flags) -> "Predictions":
        """Some of them."""
        new = np.cumsum(kept) - 1
        return Predictions(
            self.classes,
            self.row[kept],
            self.log_probs[kept],
            self.labels[kept],
            tuple(d.part(kept, new) for d in self.decided if kept[d.places].any()),
            tuple(s.part(kept, new) for s in self.sets if kept[s.places].any()),
        )


@dataclass(frozen=True, slots=True)
class Observations:
    """What a window of the store holds of one model.

    Attributes
    ----------
    model, task : str
    versions : tuple of int
    calibrations : dict of str to str
        Method and status by version.
    false_alarm : float or None
        Declared rate of flags; None where versions differ, or flag by rules alone.
    rows : AnsweredRows
    parts : dict of str to Predictions
        "rows" of a multiclass model; every label of a multilabel model; "positions" of a sequence model.
    more : int
        Older answers of the window that were not read.
    left_out : dict of str to int
        Rows that no statistic counts, by why.
    """

    model: str
    task: str
    versions: tuple[int, ...]
    calibrations: dict[str, str]
    false_alarm: float | None
    rows: AnsweredRows
    parts: dict[str, Predictions]
    more: int
    left_out: dict[str, int]
