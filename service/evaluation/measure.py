"""A version measured on labelled rows: everything `temperance evaluate` finds, before anybody formats it."""

import dataclasses
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from service.bundle.record import Provenance
from service.core.assessment.metrics import METRICS, WEIGHTED
from service.core.pipeline import Posterior
from service.data.column_roles import DEFAULT_COLUMNS, Columns
from service.data.dataset import Dataset, read_dataset, read_rows
from service.data.overlap import seen_notes
from service.evaluation.checks import Diagnostics, FlagCheck, Verdict
from service.evaluation.diagnostics import check_flags, diagnose
from service.evaluation.horizon import Horizon, look_ahead
from service.evaluation.report import Report, evaluate
from service.evaluation.training_losses import check_names, named_losses
from service.evaluation.verdicts import conclude
from service.prediction.bulk import Track, posterior_of, untracked
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What to measure, on what.

    Attributes
    ----------
    data : Path
        Labelled rows.
    ood_data : Path or None
        Rows of another population, without labels.
    columns : Columns
    losses : tuple of str
        Training losses to report, in `named_losses.NAMES`.
    horizon : int or None
        Steps of a trajectory; None leaves the calculator out.
    recovery : float
        Probability per step of finding back, once off course.
    at : datetime or None
        When the report is made; None leaves its date out.
    """

    data: Path
    ood_data: Path | None = None
    columns: Columns = DEFAULT_COLUMNS
    losses: tuple[str, ...] = ()
    horizon: int | None = None
    recovery: float = 0.0
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
    tool : str
        This program and its version.
    """

    created: str | None = None
    file: str | None = None
    ood_file: str | None = None
    tool: str = f"temperance {version('temperance')}"

    def as_text(self) -> str:
        """The same in a sentence."""
        files = ", ".join(name for name in (self.file, self.ood_file) if name)
        parts = (self.created, f"by {self.tool}", f"from {files}" if files else None)
        return f"evaluated {' '.join(part for part in parts if part)}"

    @classmethod
    def of(cls, request: EvaluateRequest) -> "Origin":
        """That of a request's report."""
        at = None if request.at is None else request.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(at, request.data.name, None if request.ood_data is None else request.ood_data.name)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found.

    Attributes
    ----------
    data : Dataset
        The rows that count.
    posterior, elsewhere : Posterior
        Stages A to C for them, and for rows of another population.
    report : Report
    diagnostics : Diagnostics
    losses : dict of str to float
    horizon : Horizon or None
    notes : tuple of str
        What the numbers leave out of account, or take into it.
    flagged : FlagCheck
    verdicts : tuple of Verdict
        What all of it amounts to: terminal and page show these, and conclude nothing of their own.
    origin : Origin
    """

    data: Dataset
    posterior: Posterior
    elsewhere: Posterior | None
    report: Report
    diagnostics: Diagnostics
    losses: dict[str, float]
    horizon: Horizon | None
    notes: tuple[str, ...]
    flagged: FlagCheck
    verdicts: tuple[Verdict, ...]
    origin: Origin = field(default_factory=Origin)

    def as_json(self) -> dict[str, object]:
        """Plain values, without anything that is not finite."""
        return {
            "report": asdict(self.origin),
            "data": self.data.digest,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "evaluation": self.report.as_json(),
            "diagnostics": asdict(self.diagnostics),
            "flags": asdict(self.flagged),
            "losses": self.losses,
            "horizon": None if self.horizon is None else asdict(self.horizon),
            "notes": self.notes,
        }


def measure(model: Model, request: EvaluateRequest, *, track: Track = untracked) -> Measured:
    """Judge a file of labelled rows by a version, and the version by them.

    Parameters
    ----------
    model : Model
    request : EvaluateRequest
    track : callable
        Progress over the rows.

    Raises
    ------
    DataError
        If the rows do not fit the model.
    InvalidParameters
        For a loss that cannot be reported.
    """
    check_names(request.losses, model.manifest)
    read = read_dataset(request.data, model.manifest, request.columns, inputs=model.inputs)
    data = present(read)
    elsewhere = from_elsewhere(model, request)
    posterior = posterior_of(model, data.rows, track=track, place=data.where)
    found = judge(model, data, posterior, elsewhere=elsewhere)
    return dataclasses.replace(
        found,
        losses=named_losses(request.losses, posterior.log_probs, data.labels, model.manifest, weights=data.weights),
        horizon=_horizon(request, posterior, data),
        notes=(*notes(data, left_out=len(read) - len(data)), *seen_notes(data, provenance_of(model)), *data.notes),
        origin=Origin.of(request),
    )


def provenance_of(model: Model) -> Provenance | None:
    """What a version was fitted on; None of one that was not."""
    return None if model.bundle.record is None else model.bundle.record.provenance


def from_elsewhere(model: Model, request: EvaluateRequest) -> Posterior | None:
    """Stages A to C for the rows of another population; None where the request has none."""
    if request.ood_data is None:
        return None
    return posterior_of(model, read_rows(request.ood_data, model.manifest, inputs=model.inputs))


def judge(model: Model, data: Dataset, posterior: Posterior, *, elsewhere: Posterior | None = None) -> Measured:
    """What a version's answers for some rows are worth, without training losses and horizon.

    Parameters
    ----------
    model : Model
    data : Dataset
        Of positive weights, if any.
    posterior : Posterior
        Stages A to C for them.
    elsewhere : Posterior, optional
        The same for rows of another population.
    """
    report = evaluate(
        model.chain,
        posterior,
        posterior.log_probs,
        data.labels,
        classes=model.classes,
        policies=model.policies,
        elsewhere=elsewhere,
        weights=data.weights,
        groups=data.groups,
    )
    checks = diagnose(
        posterior,
        data.labels,
        classes=model.classes,
        policies=model.policies,
        weights=data.weights,
        groups=data.groups,
    )
    flagged = _flagged(model, data, posterior, elsewhere)
    verdicts = tuple(conclude(report, checks, method=model.method, flagged=flagged))
    return Measured(data, posterior, elsewhere, report, checks, {}, None, notes(data), flagged, verdicts)


def _flagged(model: Model, data: Dataset, posterior: Posterior, elsewhere: Posterior | None) -> FlagCheck:
    ood = model.manifest.ood
    references = [d.calibration.n for d in model.chain.detectors if d.gated and d.calibration is not None]
    return check_flags(
        posterior,
        elsewhere,
        expected=ood.false_alarm if ood.gate_scores else None,
        calibrated_on=min(references, default=0),
        weights=data.weights,
        groups=data.groups,
    )


def notes(data: Dataset, *, left_out: int = 0) -> tuple[str, ...]:
    """What groups and weights do to the numbers, in words.

    Parameters
    ----------
    data : Dataset
    left_out : int
        Rows of weight 0.
    """
    uncounted = ", ".join(name for name in METRICS if name not in WEIGHTED)
    found = {
        f"the rows come in {data.units} group{'s' if data.units > 1 else ''}: a group is one draw in intervals; where "
        "chance is computed, the rows of a group are taken to have one fate, so that it is never underrated": (
            data.groups is not None
        ),
        "row weights count in metrics, calibration checks, costs and rates; the code length and the risk-coverage "
        f"curve count rows; so do {uncounted}, which are left out": data.weights is not None,
        f"rows of weight 0 are left out: {left_out}": left_out > 0,
    }
    return tuple(text for text, holds in found.items() if holds)


def present(data: Dataset) -> Dataset:
    """Without the rows that stand for nobody."""
    if data.weights is None or data.weights.all():
        return data
    return data.part(data.weights > 0.0)


def _horizon(request: EvaluateRequest, posterior: Posterior, data: Dataset) -> Horizon | None:
    if request.horizon is None:
        return None
    return look_ahead(
        posterior.log_probs,
        data.labels,
        steps=request.horizon,
        recovery=request.recovery,
        weights=data.weights,
        groups=data.groups,
    )
