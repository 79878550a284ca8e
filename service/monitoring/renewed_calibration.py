"""`calibration.json` of a refit: what its steps changed, and what it inherits from the version before.

Tested in tests/monitoring/test_refit.py.
"""

import dataclasses
from typing import Any, Final

import numpy as np

from service.bundle.binding import bound
from service.bundle.record import CalibratorRecord, LabelRecord, PrevalenceRecord, Provenance, Record, stored
from service.bundle.refit_record import RefitRecord
from service.bundle.state import State
from service.bundle.tasks import ABSENT, PRESENT
from service.core.assessment.metrics import all_metrics, mean_metrics
from service.core.calibration import CALIBRATORS, Calibrator
from service.core.calibration.mixture import support
from service.core.numerics import Array
from service.data.dataset import Dataset
from service.errors import RefitRefused
from service.fitting.source_prevalence import frequencies
from service.fitting.splits import FOLDS, independent_units
from service.monitoring.labelled_answers import LabelledAnswers
from service.monitoring.ladder import Climbed
from service.monitoring.proposal import WHOLE, Proposal, states_of
from service.monitoring.renewed_state import renewed_scores, renewed_self_tests, renewed_sets
from service.runtime.model import Model, load_model

METHODS: Final[dict[type[Calibrator], str]] = {kind: name for name, kind in CALIBRATORS.items()}
"""Names of calibrators by their classes."""


def calibrated(model: Model, answers: LabelledAnswers, proposal: Proposal, *, seed: int) -> tuple[Record, State]:
    """`calibration.json` and `state.npz` of a proposal.

    Parameters
    ----------
    model : Model
    answers : LabelledAnswers
    proposal : Proposal
    seed : int
    """
    record, state = _learned(model, answers, proposal, seed)
    bundle = dataclasses.replace(model.bundle, version=None, record=record, state=state)
    state |= renewed_self_tests(load_model(bundle), model.bundle.state)
    return bound(record, state), state


def _learned(model: Model, answers: LabelledAnswers, proposal: Proposal, seed: int) -> tuple[Record, State]:
    old = model.bundle.record
    if old is None:
        raise RefitRefused(f"{model.bundle.title} is uncalibrated")
    renew = _of_labels if old.labels else _of_classes
    changes = renew(old, answers, proposal)
    scores, state = renewed_scores(model, old, answers, seed=seed)
    held = proposal.climbed[WHOLE].after if WHOLE in proposal.climbed else None
    sets, estimation, arrays = renewed_sets(model, old, answers, held, source=changes["source"])
    changes |= {"scores": scores, "label_sets": sets, "estimation": estimation, "content_sha256": None}
    changes["support"] = support(independent_units(answers.data()))
    changes["provenance"] = _provenance(model, old, answers, proposal, seed)
    changes["refit"] = _refit_record(model, answers, proposal)
    return old.model_copy(update=changes), state | arrays


def _of_classes(old: Record, answers: LabelledAnswers, proposal: Proposal) -> dict[str, Any]:
    calibrator = _calibrator(proposal.climbed[WHOLE])
    return {
        "calibrator": calibrator,
        "chain": (*old.chain[:-1], calibrator.method),
        "candidates": {},
        "source": _observed(answers.data(), tuple(old.provenance.class_counts)),
    }


def _of_labels(old: Record, answers: LabelledAnswers, proposal: Proposal) -> dict[str, Any]:
    labels = {
        name: _label(label, answers.data(answers.labels[:, m]), proposal.climbed[name])
        for m, (name, label) in enumerate(old.labels.items())
    }
    known = [label.source.prevalence for label in labels.values()]
    shares = {name: own[PRESENT] for name, own in zip(labels, known, strict=True) if own is not None}
    complete = len(shares) == len(labels)
    basis = "calibration_rows" if complete else "unknown"
    return {"labels": labels, "source": PrevalenceRecord(basis=basis, prevalence=shares if complete else None)}


def _label(old: LabelRecord, data: Dataset, climbed: Climbed) -> LabelRecord:
    before, after = (all_metrics(part, data.labels, weights=data.weights) for part in (climbed.before, climbed.after))
    changes: dict[str, Any] = {"present": int(data.labels.sum()), "before": before, "after_out_of_fold": after}
    if climbed.chosen.step != "none":
        calibrator = _calibrator(climbed)
        changes |= {"calibrator": calibrator, "chain": (*old.chain[:-1], calibrator.method), "candidates": {}}
        changes["source"] = _observed(data, (ABSENT, PRESENT))
    return old.model_copy(update=changes)


def _calibrator(climbed: Climbed) -> CalibratorRecord:
    return CalibratorRecord(method=METHODS[type(climbed.calibrator)], params=_params(climbed.calibrator))


def _params(calibrator: Calibrator) -> dict[str, Any]:
    return {name: _frozen(value) for name, value in stored(calibrator).items()}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _observed(data: Dataset, states: tuple[str, ...]) -> PrevalenceRecord:
    # Every step has free intercepts: its mean probabilities are the frequencies of these rows.
    shares = frequencies(data, len(states))
    return PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(states, shares.tolist(), strict=True)))


def _provenance(model: Model, old: Record, answers: LabelledAnswers, proposal: Proposal, seed: int) -> Provenance:
    data = answers.data()
    return old.provenance.model_copy(
        update={
            "rows": len(data),
            "class_counts": _counts(model, answers),
            "groups": None if data.groups is None else data.units,
            "weighted": data.weights is not None,
            "data_digest": answers.digest,
            "seed": seed,
            "folds": FOLDS,
            "before": _metrics(answers, {n: one.before for n, one in proposal.climbed.items()}),
            "after_out_of_fold": _metrics(answers, {n: one.after for n, one in proposal.climbed.items()}),
            "flag_rate": proposal.flag_rate,
            "warnings": (),
        }
    )


def _metrics(answers: LabelledAnswers, log_probs: dict[str, Array]) -> dict[str, float]:
    """Of a multilabel model the mean over labels."""
    columns = answers.labels.reshape(len(answers), -1).T
    pairs = zip(log_probs.values(), columns, strict=True)
    return mean_metrics([all_metrics(own, labels, weights=answers.weights) for own, labels in pairs])


def _counts(model: Model, answers: LabelledAnswers) -> dict[str, int]:
    by_label = answers.labels.ndim == 2
    counts = answers.labels.sum(axis=0) if by_label else np.bincount(answers.labels, minlength=len(model.classes))
    return dict(zip(model.classes, counts.tolist(), strict=True))


def _refit_record(model: Model, answers: LabelledAnswers, proposal: Proposal) -> RefitRecord:
    return RefitRecord(
        version=int(model.version),
        digest=model.bundle.digest or "",
        rows=len(answers),
        events=answers.events(states_of(model)),
        since=answers.since,
        until=answers.until,
        level=model.manifest.change_protocol.level,
        steps=proposal.steps,
        improvement={str(loss): one for loss, one in proposal.improvement.items()},
        flag_rate=proposal.flag_rate,
        coverage=proposal.coverage,
    )
