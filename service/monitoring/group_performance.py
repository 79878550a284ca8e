"""Performance by site, caller, group and more, without groups that are too small to be shown.

Tested in tests/monitoring/test_performance.py.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from service.core.assessment.confusion import proportion
from service.core.numerics import Flags
from service.evaluation.classification_problem import SampleDesign
from service.evaluation.rates import Rate, rate_of
from service.monitoring.observations import UNKNOWN, AnsweredRows, Predictions
from service.monitoring.part_performance import (
    ClassPerformance,
    LossPerformance,
    class_performance,
    loss_performance,
)

LEAST: Final = 20
"""Subjects with an outcome below which a group is withheld."""

FEWER: Final = f"fewer than {LEAST}"

GroupBy = Literal["site", "caller", "group", "policy", "version", "month"]
GROUP_BY: Final[tuple[GroupBy, ...]] = ("site", "caller", "group", "policy", "version", "month")


@dataclass(frozen=True, slots=True)
class PartOfGroup:
    """What is shown of a group's predictions of one part.

    Attributes
    ----------
    rows : int
        With an outcome.
    log_loss : LossPerformance
        Log loss against expectation.
    classes : dict of str to ClassPerformance
        Of two classes the second; of more those that occurred.
    """

    rows: int
    log_loss: LossPerformance
    classes: dict[str, ClassPerformance]


@dataclass(frozen=True, slots=True)
class GroupPerformance:
    """One group.

    Attributes
    ----------
    answered : int
        Rows.
    with_outcome : int
        Rows whose outcome counts.
    flagged : Rate
        Share of flagged rows.
    parts : dict of str to PartOfGroup
        As the parts of the whole, shorter.
    """

    answered: int
    with_outcome: int
    flagged: Rate
    parts: dict[str, PartOfGroup]


@dataclass(frozen=True, slots=True)
class Groups:
    """Performance by group.

    Attributes
    ----------
    by : str
        What rows are grouped by.
    shown : dict of str to GroupPerformance
        Groups that are large enough.
    withheld : dict of str to str
        Groups with fewer than 20 subjects whose outcome is known, and "fewer than 20". Where it would be one group
        alone, the smallest of the others is withheld with it: the difference from the total would show it.
    """

    by: str
    shown: dict[str, GroupPerformance]
    withheld: dict[str, str]


def flag_rate(rows: AnsweredRows, own: Flags | slice = slice(None)) -> Rate:
    """Share of flagged rows among those of calibrated versions, with its interval.

    Parameters
    ----------
    rows : AnsweredRows
    own : ndarray of shape (N,), optional
    """
    flagged, subject = rows.flagged[own], rows.subject[own]
    calibrated = flagged != UNKNOWN
    groups = np.unique(subject[calibrated], return_inverse=True)[1]
    sample = SampleDesign.of(None, groups if len(groups) else None)
    return rate_of(proportion(flagged[calibrated] == 1, groups=sample.groups), sample.groups)


def grouped(rows: AnsweredRows, parts: dict[str, Predictions], counted: Flags, *, by: GroupBy) -> Groups:
    """Performance of every group that is large enough.

    Parameters
    ----------
    rows : AnsweredRows
    parts : dict of str to Predictions
    counted : ndarray of shape (N,)
        Rows whose outcome counts.
    by : str
    """
    names, of_row = np.unique(np.array(rows.keys.get(by, []), dtype=object).astype(str), return_inverse=True)
    size = {g: len(np.unique(rows.subject[counted & (of_row == g)])) for g in range(len(names))}
    withheld = _withheld(size)
    shown = {str(names[g]): _group(rows, parts, counted, of_row == g) for g in size if g not in withheld}
    return Groups(by, shown, {str(names[g]): FEWER if size[g] < LEAST else "withheld with it" for g in withheld})


def _withheld(size: dict[int, int]) -> list[int]:
    small = [g for g, subjects in size.items() if subjects < LEAST]
    others = sorted((subjects, g) for g, subjects in size.items() if subjects >= LEAST)
    if len(small) == 1 and size[small[0]] > 0 and others:
        return [*small, others[0][1]]
    return small


def _group(rows: AnsweredRows, parts: dict[str, Predictions], counted: Flags, own: Flags) -> GroupPerformance:
    found = {name: part.part((part.labels >= 0) & (own & counted)[part.row]) for name, part in parts.items()}
    return GroupPerformance(
        answered=int(own.sum()),
        with_outcome=int((own & counted).sum()),
        flagged=flag_rate(rows, own),
        parts={name: _part(part, rows) for name, part in found.items() if len(part.labels)},
    )


def _part(part: Predictions, rows: AnsweredRows) -> PartOfGroup:
    sample = SampleDesign.of(None, np.unique(rows.subject[part.row], return_inverse=True)[1])
    shown = [1] if len(part.classes) == 2 else np.unique(part.labels)[:20].tolist()
    return PartOfGroup(
        len(part.labels),
        loss_performance(part.log_probs, part.labels, sample),
        {part.classes[k]: class_performance(part, k, sample) for k in shown},
    )
