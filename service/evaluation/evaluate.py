"""The one way to evaluate: a version's answers for labelled rows -> a report, whatever the task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from service.bundle.record import Provenance
from service.core.assessment.metrics import METRICS, mean_metrics
from service.core.pipeline import Posterior
from service.data.column_roles import DEFAULT_COLUMNS, Columns
from service.data.dataset import Dataset, read_dataset, read_rows
from service.data.overlap import seen_notes
from service.errors import DataError
from service.evaluation.classification_problem import ClassificationProblem, LabelledAnswer
from service.evaluation.horizon import Horizon, look_ahead
from service.evaluation.multiclass import ROWS
from service.evaluation.ood_report import ood_report
from service.evaluation.policy_report import policy_report
from service.evaluation.prequential import compare_calibrators
from service.evaluation.probability_report import probability_report
from service.evaluation.report import EvaluationReport, PartReport
from service.evaluation.tasks import TASKS
from service.evaluation.training_losses import check_names, named_losses
from service.evaluation.verdicts import conclude
from service.prediction.answer import Answer
from service.prediction.bulk import Track, posterior_of, untracked
from service.prediction.options import Options
from service.prediction.query import Query
from service.runtime.model import Model

BY_SEQUENCE = "positions of a sequence depend on each other: intervals and chance count sequences, not positions"


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What to evaluate, on what.

    Attributes
    ----------
    data : Path
        Labelled rows.
    ood_data : Path or None
        Out-of-distribution data, without labels.
    columns : Columns
    losses : tuple of str
        Training losses to report, in `training_losses.NAMES`.
    horizon : int or None
        Steps of a trajectory; None leaves the calculator out.
    recovery : float
        Probability per step of returning to the expert's course after an error.
    prequential : bool
        Whether calibrators are compared by prequential code length.
    at : datetime or None
        When the report is made; None leaves its date out.
    """

    data: Path
    ood_data: Path | None = None
    columns: Columns = DEFAULT_COLUMNS
    losses: tuple[str, ...] = ()
    horizon: int | None = None
    recovery: float = 0.0
    prequential: bool = False
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a report comes from.

    Attributes
    ----------
    created : str or None
        UTC, to the second.
    file, ood_file : str or None
        Names of the data files, without their folders.
    data : str or None
        Digest of the labelled rows.
    tool : str
        This program and its version.
    """

    created: str | None = None
    file: str | None = None
    ood_file: str | None = None
    data: str | None = None
    tool: str = f"temperance {version('temperance')}"

    def as_text(self) -> str:
        """The same in a sentence."""
        files = ", ".join(name for name in (self.file, self.ood_file) if name)
        source = f"from {files}" if files else None
        parts = (self.created, f"by {self.tool}", source, f"({self.data})" if self.data else None)
        return f"evaluated {' '.join(part for part in parts if part)}"

    @classmethod
    def of(cls, request: EvaluateRequest, digest: str) -> "Origin":
        """That of a request's report."""
        at = None if request.at is None else request.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(at, request.data.name, None if request.ood_data is None else request.ood_data.name, digest)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report, and the rows that it was made of.

    Attributes
    ----------
    labelled : LabelledAnswer
    problems : dict of str to ClassificationProblem
        By the part of the report: charts draw curves of them that no report holds.
    report : EvaluationReport
    origin : Origin
    """

    labelled: LabelledAnswer
    problems: dict[str, ClassificationProblem]
    report: EvaluationReport
    origin: Origin = field(default_factory=Origin)


def evaluate_file(
    model: Model, request: EvaluateRequest, *, track: Track = untracked, comparing: Track = untracked
) -> Evaluation:
    """Evaluate a version on a file of labelled rows.

    Parameters
    ----------
    model : Model
    request : EvaluateRequest
    track : callable
        Progress over the rows.
    comparing : callable
        Progress over the calibrators that are compared.

    Raises
    ------
    DataError
        If the rows do not fit the model.
    InvalidParameters
        For a loss that cannot be reported.
    """
    check_names(request.losses, model.manifest)
    _check_horizon(model, request.horizon)
    whole = read_dataset(request.data, model.manifest, request.columns, inputs=model.inputs)
    data = weighted_rows(whole)
    ood = None if request.ood_data is None else read_rows(request.ood_data, model.manifest, inputs=model.inputs)
    labelled = LabelledAnswer(
        answer=answer_of(model, posterior_of(model, data.rows, track=track, place=data.where)),
        labels=data.labels,
        weights=data.weights,
        groups=data.groups,
        ood_posterior=None if ood is None else posterior_of(model, ood),
    )
    notes = tuple(_notes(data, model, left_out=len(whole) - len(data)))
    ahead = None if request.horizon is None else (request.horizon, request.recovery)
    found = evaluate(
        labelled, losses=request.losses, horizon=ahead, prequential=request.prequential, notes=notes, track=comparing
    )
    return replace(found, origin=Origin.of(request, data.digest))


def evaluate(
    labelled: LabelledAnswer,
    *,
    losses: Sequence[str] = (),
    horizon: tuple[int, float] | None = None,
    prequential: bool = False,
    notes: tuple[str, ...] = (),
    track: Track = untracked,
) -> Evaluation:
    """Compare a model's answers with the labels.

    Parameters
    ----------
    labelled : LabelledAnswer
    losses : sequence of str
        In `training_losses.NAMES`.
    horizon : (int, float), optional
        Steps of a trajectory, and the probability of recovery per step; multiclass.
    prequential : bool
        Whether calibrators are compared by prequential code length.
    notes : tuple of str
        What the numbers rest on.
    track : callable
        Progress over the calibrators that are compared.

    Raises
    ------
    DataError
        If labels and rows do not fit.
    InvalidParameters
        For a loss that cannot be reported.
    """
    answer, manifest = labelled.answer, labelled.answer.model.manifest
    problems, structure = TASKS[answer.model.task](labelled)
    parts = {name: _part(problem) for name, problem in problems.items()}
    ood = ood_report(labelled)
    report = EvaluationReport(
        task=answer.model.task,
        rows=len(labelled.labels),
        metrics=mean_metrics([part.probabilities.metrics for part in parts.values()]),
        uncalibrated_metrics=mean_metrics([part.probabilities.uncalibrated_metrics for part in parts.values()]),
        verdicts=tuple(conclude(parts, ood)),
        ood=ood,
        parts=parts,
        structure=structure,
        losses=named_losses(losses, answer.log_probs, labelled.labels, manifest, weights=labelled.weights),
        horizon=None if horizon is None else _ahead(problems[ROWS], *horizon),
        prequential=compare_calibrators(labelled, track=track) if prequential else None,
        notes=notes,
    )
    return Evaluation(labelled, problems, report)


def answer_of(model: Model, posterior: Posterior) -> Answer:
    """The answer without any option: stages D and E as the version has them by default.

    Parameters
    ----------
    model : Model
    posterior : Posterior
        Stages A to C.
    """
    return Query.of(model, Options("evaluate")).conclude(posterior)


def weighted_rows(data: Dataset) -> Dataset:
    """Without the rows of weight 0."""
    if data.weights is None or data.weights.all():
        return data
    return data.part(data.weights > 0.0)


def _part(problem: ClassificationProblem) -> PartReport:
    counts = np.bincount(problem.labels, minlength=len(problem.classes)).tolist()
    return PartReport(
        rows=len(problem.labels),
        class_counts=dict(zip(problem.classes, counts, strict=True)),
        calibrator=problem.calibrator,
        probabilities=probability_report(problem),
        policies={name: policy_report(problem, name) for name in problem.policies},
    )


def _ahead(problem: ClassificationProblem, steps: int, recovery: float) -> Horizon:
    weights, groups = problem.sample.weights, problem.sample.groups
    return look_ahead(problem.log_probs, problem.labels, steps=steps, recovery=recovery, weights=weights, groups=groups)


def _check_horizon(model: Model, horizon: int | None) -> None:
    if horizon is not None and model.task != "multiclass":
        raise DataError(f"--horizon looks ahead from rows of one class each; this is a {model.task} model")


def _notes(data: Dataset, model: Model, *, left_out: int) -> Iterator[str]:
    """What groups, weights and rows seen before do to the numbers."""
    if data.groups is not None:
        yield (
            f"the rows come in {data.units} group{'s' if data.units > 1 else ''}: a group is one draw in intervals; "
            "chance is computed as if all rows of a group depended on each other fully, so that it is never underrated"
        )
    elif model.task == "sequence":
        yield BY_SEQUENCE
    if data.weights is not None:
        yield (
            "row weights count in metrics, calibration checks, costs and rates; the code length and the risk-coverage "
            f"curve count rows; so do {_unweighted()}, which are left out"
        )
    if left_out:
        yield f"rows of weight 0 are left out: {left_out}"
    yield from seen_notes(data, _provenance(model))
    yield from data.notes


def _unweighted() -> str:
    return ", ".join(name for name, metric in METRICS.items() if not metric.weighted)


def _provenance(model: Model) -> Provenance | None:
    return None if model.bundle.record is None else model.bundle.record.provenance
