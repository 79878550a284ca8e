"""An evaluation of labels or of sequences from end to end: report, diagnostics, losses, as JSON and as tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from service.core.pipeline import Posterior
from service.data.dataset import Dataset, read_dataset
from service.data.overlap import seen_notes
from service.errors import DataError
from service.evaluation.measure import EvaluateRequest, Origin, from_elsewhere, notes, present, provenance_of
from service.evaluation.multilabel import diagnose_labels, evaluate_labels
from service.evaluation.sequence import diagnose_sequences, evaluate_sequences
from service.evaluation.training_losses import check_names, named_losses
from service.evaluation.verdicts import conclude
from service.prediction.bulk import Track, posterior_of, untracked
from service.reporting.terminal_tasks import render_labels, render_sequences
from service.runtime.model import Model

BY_SEQUENCE = "positions of a sequence belong together: intervals and chance count sequences, not positions"


@dataclass(frozen=True, slots=True)
class TaskEvaluation:
    """What was found, and the tables that a terminal shows of it."""

    digest: str
    found: dict[str, Any]
    parts: tuple[RenderableType, ...]
    losses: dict[str, float]
    notes: tuple[str, ...]
    origin: Origin = field(default_factory=Origin)

    @property
    def tables(self) -> Iterator[RenderableType]:
        """Everything, for a terminal."""
        yield from self.parts
        for name, value in self.losses.items():
            yield Text(f"{name}: {value:.6f}")
        for note in self.notes:
            yield Text(f"note: {note}")

    def as_json(self) -> dict[str, object]:
        """Plain values, without anything that is not finite."""
        return {
            "report": asdict(self.origin),
            "data": self.digest,
            **self.found,
            "losses": self.losses,
            "notes": self.notes,
        }


def measure_task(model: Model, request: EvaluateRequest, *, track: Track = untracked) -> TaskEvaluation:
    """Judge a file of labelled rows by a version of any task in `EVALUATIONS`, and the version by them.

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
    if request.horizon is not None:
        raise DataError(f"--horizon looks ahead from rows of one class each; this is a {model.task} model")
    data = present(read_dataset(request.data, model.manifest, request.columns, inputs=model.inputs))
    elsewhere = from_elsewhere(model, request)
    posterior = posterior_of(model, data.rows, track=track, place=data.where)
    found = evaluate_task(model, data, posterior, losses=request.losses, elsewhere=elsewhere)
    said = (*found.notes, *seen_notes(data, provenance_of(model)), *data.notes)
    return replace(found, notes=said, origin=Origin.of(request))


def evaluate_task(
    model: Model, data: Dataset, posterior: Posterior, *, losses: Sequence[str] = (), elsewhere: Posterior | None = None
) -> TaskEvaluation:
    """Compare a model of any task in `EVALUATIONS` with labelled rows.

    Parameters
    ----------
    model : Model
    data : Dataset
    posterior : Posterior
        Stages A to C for its rows.
    losses : sequence of str
        In `named_losses.NAMES`.
    elsewhere : Posterior, optional
        Rows known to come from another population.
    """
    return EVALUATIONS[model.task](model, data, posterior, losses, elsewhere)


def _labels(
    model: Model, data: Dataset, posterior: Posterior, losses: Sequence[str], elsewhere: Posterior | None
) -> TaskEvaluation:
    log_probs = posterior.log_probs
    report = evaluate_labels(
        model,
        posterior,
        log_probs,
        data.labels,
        policies=model.label_policies,
        elsewhere=elsewhere,
        weights=data.weights,
        groups=data.groups,
    )
    checks = diagnose_labels(posterior, data.labels, model, weights=data.weights, groups=data.groups)
    named = named_losses(losses, log_probs, data.labels, model.manifest, weights=data.weights)
    verdicts = {
        name: conclude(report.labels[name], check, method=_method(model, name)) for name, check in checks.items()
    }
    found = {
        "verdicts": {name: [asdict(verdict) for verdict in own] for name, own in verdicts.items()},
        "evaluation": report.as_json(),
        "diagnostics": {name: asdict(check) for name, check in checks.items()},
    }
    parts = tuple(render_labels(report, checks, verdicts))
    return TaskEvaluation(data.digest, found, parts, named, notes(data))


def _sequences(
    model: Model, data: Dataset, posterior: Posterior, losses: Sequence[str], elsewhere: Posterior | None
) -> TaskEvaluation:
    log_probs = model.smoothed(posterior, model.smoother)
    report = evaluate_sequences(
        model,
        posterior,
        log_probs,
        data.labels,
        smoother=model.smoother,
        policies=model.policies,
        elsewhere=elsewhere,
        weights=data.weights,
        groups=data.groups,
    )
    checks = diagnose_sequences(posterior, log_probs, data.labels, model, weights=data.weights, groups=data.groups)
    named = named_losses(losses, log_probs, data.labels, model.manifest, weights=data.weights)
    verdicts = conclude(report.positions, checks, method=model.method)
    found = {
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "evaluation": report.as_json(),
        "diagnostics": asdict(checks),
    }
    own = notes(data)
    said = (*own, *(() if data.groups is not None else (BY_SEQUENCE,)))
    return TaskEvaluation(data.digest, found, tuple(render_sequences(report, checks, verdicts)), named, said)


def _method(model: Model, label: str) -> str:
    record = model.bundle.record
    own = None if record is None or not record.labels else record.labels.get(label)
    return model.method if own is None else own.chain[-1]


Evaluate = Callable[[Model, Dataset, Posterior, Sequence[str], Posterior | None], TaskEvaluation]
EVALUATIONS: Final[dict[str, Evaluate]] = {"multilabel": _labels, "sequence": _sequences}
