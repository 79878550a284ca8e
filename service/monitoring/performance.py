"""What came of a model's answers: one typed report of a window. Its JSON is `PerformanceReport.as_json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from service.core.numerics import Flags, Indices
from service.evaluation.rates import Rate
from service.monitoring.alarms import Alarm
from service.monitoring.ascertained import ActionPerformance, action_performance
from service.monitoring.group_performance import GroupBy, Groups, flag_rate, grouped
from service.monitoring.observations import ACTION, ASCERTAINMENTS, UNKNOWN, AnsweredRows, Observations
from service.monitoring.part_performance import PartPerformance, part_performance
from service.monitoring.shadow_performance import PairedPredictions, ShadowPerformance, shadow_performance
from service.monitoring.window import Window

QUANTILES: Final = {"p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9}
SECOND: Final = 1e6


@dataclass(frozen=True, slots=True)
class Answered:
    """How much was answered, and how much is known of it.

    Attributes
    ----------
    requests, rows, subjects : int
        How many were answered.
    with_outcome : int
        Rows whose outcome is known.
    ascertainment : dict of str to int
        Rows with an outcome, by why it is known; "action" only where it is known for no other reason.
    left_out : dict of str to int
        Rows that no statistic counts: "undelivered", "other_classes", "top_classes" (not all classes are
        recorded), "without_probabilities" (`:detect`).
    more : int
        Older answered rows of the window that were not read.
    contradicting_outcomes, contradicted_rows : int
        Outcomes that contradict an earlier one of their row, and rows with such.
    """

    requests: int
    rows: int
    subjects: int
    with_outcome: int
    ascertainment: dict[str, int]
    left_out: dict[str, int]
    more: int
    contradicting_outcomes: int
    contradicted_rows: int


@dataclass(frozen=True, slots=True)
class Flagging:
    """Flags of all answered rows.

    Attributes
    ----------
    rate : Rate
        Share of flagged rows.
    false_alarm : float or None
        Declared.
    """

    rate: Rate
    false_alarm: float | None


@dataclass(frozen=True, slots=True)
class Delay:
    """Time from answer to outcome, in seconds, of rows with an outcome; those that are still to come are not in it.

    Attributes
    ----------
    to_observation, to_arrival : dict of str to float
        Quantiles until the outcome was observed, and until it reached the service; empty without outcomes.
    """

    to_observation: dict[str, float]
    to_arrival: dict[str, float]


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """What came of a model's answers.

    Attributes
    ----------
    model, task : str
        Name of the model, and `multiclass`, `multilabel` or `sequence`.
    versions : tuple of int
        That answered in the window.
    calibrations : dict of str to str
        By version: method and status.
    window : Window
        Which answers it is of.
    answered : Answered
        How much was answered, and how much is known of it.
    flags : Flagging
        Flags of all answered rows.
    time_to_outcome : Delay
        Time from answer to outcome.
    parts : dict of str to (PartPerformance or None)
        Rows whose outcome is routine or from an audit; None where there are none.
    known_by_action : dict of str to ActionPerformance
        Rows whose outcome is known only because of the action; empty where there are none.
    groups : Groups or None
        None where no grouping was requested.
    shadows : dict of str to list of ShadowPerformance
        By part.
    alarms : list of Alarm
        Alarms of these versions.
    notes : tuple of str
        What the numbers leave out.
    """

    model: str
    task: str
    versions: tuple[int, ...]
    calibrations: dict[str, str]
    window: Window
    answered: Answered
    flags: Flagging
    time_to_outcome: Delay
    parts: dict[str, PartPerformance | None]
    known_by_action: dict[str, ActionPerformance]
    groups: Groups | None
    shadows: dict[str, list[ShadowPerformance]]
    alarms: list[Alarm]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, all of them finite."""
        return asdict(self)


def performance(
    found: Observations,
    window: Window,
    *,
    group_by: GroupBy | None = None,
    shadows: Mapping[str, Sequence[PairedPredictions]] | None = None,
    alarms: Sequence[Alarm] = (),
) -> PerformanceReport:
    """Report on the observations of a window.

    Parameters
    ----------
    found : Observations
    window : Window
    group_by : str, optional
    shadows : dict of str to sequence of PairedPredictions, optional
        By part.
    alarms : sequence of Alarm, optional
    """
    rows = found.rows
    counted = rows.known & (rows.ascertainment != ACTION)
    by_action = {name: action_performance(part, rows) for name, part in found.parts.items()}
    return PerformanceReport(
        model=found.model,
        task=found.task,
        versions=found.versions,
        calibrations=found.calibrations,
        window=window,
        answered=_answered(found),
        flags=Flagging(flag_rate(rows), found.false_alarm),
        time_to_outcome=_delay(rows),
        parts=_parts(found, counted),
        known_by_action={name: own for name, own in by_action.items() if own is not None},
        groups=None if group_by is None else grouped(rows, found.parts, counted, by=group_by),
        shadows={name: [shadow_performance(pairs) for pairs in own] for name, own in (shadows or {}).items()},
        alarms=list(alarms),
        notes=_notes(found),
    )


def _parts(found: Observations, counted: Flags) -> dict[str, PartPerformance | None]:
    rows = found.rows
    known = {name: part.part((part.labels >= 0) & counted[part.row]) for name, part in found.parts.items()}
    return {name: part_performance(part, rows.subject[part.row]) for name, part in known.items()}


def _answered(found: Observations) -> Answered:
    rows = found.rows
    why = np.bincount(rows.ascertainment[rows.known], minlength=len(ASCERTAINMENTS)).tolist()
    return Answered(
        requests=rows.requests,
        rows=len(rows),
        subjects=len(np.unique(rows.subject)),
        with_outcome=int(rows.known.sum()),
        ascertainment=dict(zip(ASCERTAINMENTS, why, strict=True)),
        left_out=found.left_out,
        more=found.more,
        contradicting_outcomes=int(rows.contradictions.sum()),
        contradicted_rows=int((rows.contradictions > 0).sum()),
    )


def _delay(rows: AnsweredRows) -> Delay:
    return Delay(*(_quantiles(when - rows.created, rows.known) for when in (rows.observed, rows.received)))


def _quantiles(waited: Indices, known: Flags) -> dict[str, float]:
    if not known.any():
        return {}
    seconds = np.quantile(waited[known] / SECOND, list(QUANTILES.values())).tolist()
    return dict(zip(QUANTILES, seconds, strict=True))


def _notes(found: Observations) -> tuple[str, ...]:
    notes = []
    rows = found.rows
    if found.more:
        notes.append(f"The window holds {found.more} older rows that were not read; ask for a shorter one.")
    if len(found.versions) > 1:
        notes.append("Several versions answered in this window; `version` asks for one of them.")
    if (rows.flagged == UNKNOWN).any():
        notes.append("Rows of uncalibrated versions have no flag, and do not count in the flag rate.")
    if found.left_out.get("other_classes"):
        notes.append("Rows of versions with other classes than the latest one are left out.")
    return tuple(notes)
