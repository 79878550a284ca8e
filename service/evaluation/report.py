"""The report of an evaluation: one typed structure for all tasks. Its JSON is `EvaluationReport.as_json`.

Tested in tests/evaluation/test_evaluate.py.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.evaluation.horizon import Horizon
from service.evaluation.ood_report import OodReport
from service.evaluation.policy_report import PolicyReport
from service.evaluation.prequential import PrequentialReport
from service.evaluation.probability_report import ProbabilityReport
from service.evaluation.tasks import Structure

Mood = Literal["good", "caution", "note"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A conclusion, its weight for the reader, and the sentences that give its numbers.

    Attributes
    ----------
    part : str or None
        The part of the report that it is about; None for flags.
    about : str
        "calibration", "confidence", "balance", "improvement", "flags"; "worth" and "cost" of a policy.
    policy : str or None
        The policy concerned; None where it is none.
    mood : {"good", "caution", "note"}
        How good or bad it is.
    title : str
        The verdict in a few words.
    text : str
        The verdict in a sentence or more.
    """

    part: str | None
    about: str
    policy: str | None
    mood: Mood
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class PartReport:
    """Rows with one true class each: all rows, those of one label, or all positions.

    Attributes
    ----------
    rows : int
        Rows of the part.
    class_counts : dict of str to int
        Of which by class.
    calibrator : str
        Method by its registry name, or "uncalibrated".
    probabilities : ProbabilityReport
    policies : dict of str to PolicyReport
        Policies by name.
    """

    rows: int
    class_counts: dict[str, int]
    calibrator: str
    probabilities: ProbabilityReport
    policies: dict[str, PolicyReport]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What `evaluate` finds.

    Attributes
    ----------
    task : str
        `multiclass`, `multilabel` or `sequence`.
    rows : int
        Labelled rows, or sequences.
    metrics, uncalibrated_metrics : dict of str to float
        Means over the parts for which a metric is defined; with a single part its own.
    verdicts : tuple of Verdict
        Conclusions from all of it.
    ood : OodReport
    parts : dict of str to PartReport
        "rows" of a multiclass model; every label of a multilabel model by its name; "positions" of a sequence model.
    structure : LabelStructure or SequenceStructure, or None
        What concerns several labels of a row, or neighbouring positions; None for multiclass.
    losses : dict of str to float
        Mean training losses by name.
    horizon : Horizon or None
        Errors over a horizon of decisions; None where there is none.
    prequential : PrequentialReport or None
        Calibrators compared by prequential code length; None where there is none.
    notes : tuple of str
        What the numbers rest on, and what they leave out.
    """

    task: str
    rows: int
    metrics: dict[str, float]
    uncalibrated_metrics: dict[str, float]
    verdicts: tuple[Verdict, ...]
    ood: OodReport
    parts: dict[str, PartReport]
    structure: Structure | None
    losses: dict[str, float]
    horizon: Horizon | None
    prequential: PrequentialReport | None
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, all of them finite."""
        return asdict(self)
