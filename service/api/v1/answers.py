"""Predictions as they go over the wire."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from service.api.v1 import shapes
from service.api.v1.task_answers import label_beliefs, place_label, place_positions, position_beliefs, smoother_member
from service.bundle.sections import Input
from service.core.decision import REASONS, Decisions
from service.core.numerics import Array, largest
from service.core.pipeline import Policy
from service.evaluation.prevalence import LEVEL, MethodEstimate, PrevalenceEstimate, RowsEstimate
from service.prediction.answer import Answer, Decided, Prediction, RowSets
from service.runtime.inputs import ANYTHING
from service.runtime.model import Model
from service.runtime.registry import Served

Json = dict[str, Any]


def header(prediction: Prediction) -> Json:
    """What every answer says first: which request, model, version, calibration and prevalence it is of."""
    created = timestamp(prediction.created)
    said = head(
        prediction.model, prediction.target, prediction.site, request_id=prediction.call.request_id, created=created
    )
    return {**said, **smoother_member(prediction)}


def head(
    model: Model, target: Array | None, site: str | tuple[str, ...] | None, *, request_id: str, created: str
) -> Json:
    """`header` of answers that no smoother had a part in."""
    return {
        "id": request_id,
        "created": created,
        "model": model.name,
        "version": model.version,
        "digest": model.bundle.digest,
        "calibration": model.calibration,
        "prevalence": {"source": _shares(model, model.source), "target": _shares(model, target), "site": site},
    }


def timestamp(moment: datetime) -> str:
    """A moment as answers say it: UTC, to the millisecond."""
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def session_member(prediction: Prediction) -> Json:
    """What an answer adds about its session; nothing where there is none."""
    if prediction.monitored is None:
        return {}
    session, model = prediction.monitored.session, prediction.model
    said = {
        "model": model.name,
        "version": model.version,
        "false_alarms_per_1000_steps": session.per_thousand,
        "statistic": session.state.statistic,
        "steps": session.state.steps,
        "steps_since_in_distribution": session.state.since_inside,
        "alarm": session.state.standing,
    }
    return {"session": said}


def predict_rows(prediction: Prediction, ids: Sequence[str] | None, top_k: int | None) -> list[Json]:
    """Rows of `:predict`."""
    rows = _identified(prediction, ids)
    for row, beliefs in zip(rows, _BELIEFS[prediction.model.task](prediction, top_k), strict=True):
        row.update(beliefs)
    if prediction.sets is not None:
        for row, labels in zip(rows, _sets(prediction.sets, prediction.model.classes), strict=True):
            row["set"] = labels
    return rows


def detect_rows(prediction: Prediction, ids: Sequence[str] | None) -> list[Json]:
    """Rows of `:detect`."""
    rows = _identified(prediction, ids)
    for row, ood in zip(rows, _ood(prediction), strict=True):
        row["ood"] = ood
    return rows


def decide_rows(prediction: Prediction, ids: Sequence[str] | None, top_k: int | None) -> list[Json]:
    """Rows of `:decide`."""
    rows = predict_rows(prediction, ids, top_k)
    for row, ood in zip(rows, _ood(prediction), strict=True):
        row["ood"] = ood
    for part in prediction.decided:
        _PLACES[prediction.model.task](rows, part, _decisions(part.policy, part.decisions), prediction)
    return rows


def estimate_body(found: PrevalenceEstimate, classes: tuple[str, ...]) -> Json:
    """Body of `:estimate`."""
    return {
        "alarm": found.alarm,
        "condition": found.condition,
        "level": LEVEL,
        "flagged": found.flagged,
        "all_rows": _rows_estimate(found.all_rows, classes),
        "unflagged_rows": None if found.unflagged_rows is None else _rows_estimate(found.unflagged_rows, classes),
        **({} if found.obstacle is None else {"obstacle": found.obstacle}),
    }


def description(model: Model, served: Served) -> Json:
    """What a model takes, answers and costs, and how it was calibrated."""
    manifest, record = model.manifest, model.bundle.record
    return {
        "name": model.name,
        "title": manifest.title,
        "ready": True,
        "version": model.version,
        "digest": model.bundle.digest,
        "versions": [str(version) for version in served.published],
        "served": [str(version) for version in served.models],
        "aliases": {label: str(version) for label, version in served.aliases.items()},
        "refusal": served.refusal,
        "task": manifest.graph.task,
        "classes": list(model.classes),
        "inputs": [_input(entry, model) for entry in manifest.inputs],
        "policies": {
            name: section.model_dump(mode="json", exclude_none=True) for name, section in manifest.policies.items()
        },
        "default_policy": manifest.default_policy,
        "sites": {name: section.model_dump(mode="json") for name, section in manifest.sites.items()},
        "ood": {**manifest.ood.model_dump(mode="json"), "gate": list(manifest.ood.gate_members)},
        "calibration": ({} if record is None else record.model_dump(mode="json", exclude={"schema_", "sections"}))
        | model.calibration,
    }


def _identified(prediction: Prediction, ids: Sequence[str] | None) -> list[Json]:
    request_id = prediction.call.request_id
    rows: list[Json] = [{"prediction_id": f"{request_id}.{i}"} for i in range(len(prediction.log_probs))]
    for row, given in zip(rows, ids or [], strict=False):
        row["id"] = given
    return rows


def _beliefs(judgement: Answer, top_k: int | None) -> list[Json]:
    classes = judgement.model.classes
    probabilities = judgement.probabilities
    best = judgement.log_probs.argmax(axis=1).tolist()
    if top_k is not None:
        ranked = _top(probabilities, classes, top_k)
        return [{"label": classes[k], "top": entries} for k, entries in zip(best, ranked, strict=True)]
    rows = zip(best, probabilities.tolist(), strict=True)
    return [shapes.belief(classes[k], dict(zip(classes, row, strict=True))) for k, row in rows]


def _top(probabilities: Array, classes: tuple[str, ...], top_k: int) -> list[list[Json]]:
    order = largest(probabilities, top_k)
    values = np.take_along_axis(probabilities, order, axis=1).tolist()
    return [
        [{"label": classes[k], "probability": p} for k, p in zip(ks, ps, strict=True)]
        for ks, ps in zip(order.tolist(), values, strict=True)
    ]


def _sets(sets: RowSets, classes: tuple[str, ...]) -> list[Json]:
    said = {"coverage": sets.coverage, "method": sets.method}
    return [
        {"labels": [classes[k] for k in np.flatnonzero(members)], **said, "valid": valid}
        for members, valid in zip(sets.members, sets.valid.tolist(), strict=True)
    ]


def _ood(prediction: Prediction) -> list[Json]:
    rows = _trust(prediction)
    if prediction.fdr is not None:
        n = len(rows)
        discovered = [None] * n if prediction.discovered is None else prediction.discovered.tolist()
        for row, found in zip(rows, discovered, strict=True):
            row["discovered"] = found
    return rows


def _trust(judgement: Answer) -> list[Json]:
    posterior, n = judgement.posterior, len(judgement.log_probs)
    flagged = [None] * n if posterior.flagged is None else posterior.flagged.tolist()
    p_values = [None] * n if posterior.p_value is None else posterior.p_value.tolist()
    evidence = evidence_of(judgement)
    return [
        shapes.trust(f, p, evidence.get(i, []), scores)
        for i, (f, p, scores) in enumerate(zip(flagged, p_values, _scores(judgement), strict=True))
    ]


def _scores(judgement: Answer) -> list[Json]:
    posterior, detectors, n = judgement.posterior, judgement.model.chain.detectors, len(judgement.log_probs)
    empty = [[None] * len(detectors)] * n
    limits = [d.thresholds(posterior.logits) for d in detectors]
    thresholds = [[None if column is None else float(column[i]) for column in limits] for i in range(n)]
    p_values = empty if posterior.p_values is None else posterior.p_values.tolist()
    flags = empty if posterior.flags is None else posterior.flags.tolist()
    return [
        {d.name: shapes.score(s, t, p, f) for d, s, t, p, f in zip(detectors, scores, ts, ps, fs, strict=True)}
        for scores, ts, ps, fs in zip(posterior.scores.tolist(), thresholds, p_values, flags, strict=True)
    ]


def evidence_of(judgement: Answer) -> dict[int, list[Json]]:
    """Ranges and scores that flag rows, by the row; rows without any are left out."""
    model, posterior = judgement.model, judgement.posterior
    evidence: dict[int, list[Json]] = {}
    if model.chain.range_gated and posterior.flagged is not None and not np.count_nonzero(posterior.flagged):
        return _alarms(judgement, evidence)  # ranges and scores that are evidence would have flagged a row
    for row in np.logical_or.reduce(posterior.outside, axis=1).nonzero()[0].tolist():
        features = [model.inputs.columns[i] for i in np.flatnonzero(posterior.outside[row])]
        evidence[row] = [{"rule": "range", "features": features}]
    if posterior.flags is not None:
        for i in model.chain.gate:
            for row in posterior.flags[:, i].nonzero()[0].tolist():
                evidence.setdefault(row, []).append({"score": model.chain.detectors[i].name})
    return _alarms(judgement, evidence)


def _alarms(judgement: Answer, evidence: dict[int, list[Json]]) -> dict[int, list[Json]]:
    if judgement.monitored is not None:
        for row in np.flatnonzero(judgement.monitored.alarm).tolist():
            evidence.setdefault(row, []).append({"rule": "session"})
    return evidence


def _decisions(policy: Policy, decisions: Decisions) -> list[Json]:
    deferral = [None] * len(decisions.action) if decisions.deferral is None else decisions.deferral.tolist()
    columns = (decisions.action, decisions.least_cost, decisions.reason)
    numbers = (decisions.risks, decisions.margin, decisions.information)
    listed = (column.tolist() for column in (*columns, *numbers))
    return [
        shapes.decision(
            policy, action, least, REASONS[reason], risks=risks, margin=margin, information=known, deferral=deferred
        )
        for action, least, reason, risks, margin, known, deferred in zip(*listed, deferral, strict=True)
    ]


def _rows_estimate(found: RowsEstimate, classes: tuple[str, ...]) -> Json:
    return {"rows": found.rows, **{name: _method_estimate(m, classes) for name, m in found.methods.items()}}


def _method_estimate(found: MethodEstimate, classes: tuple[str, ...]) -> Json:
    columns = (column.tolist() for column in (found.prevalence, found.low, found.high))
    shares = {
        name: {"share": share, "low": low, "high": high}
        for name, share, low, high in zip(classes, *columns, strict=True)
    }
    return {"prevalence": shares, "differs": found.differs, "settled": found.settled}


def _input(entry: Input, model: Model) -> Json:
    if entry.is_filled:
        return {"name": entry.name, "filled": "mask" if entry.mask else entry.fill}
    taken = next(taken for taken in model.inputs.entries if taken.name == entry.name)
    said: Json = {"name": entry.name, "type": "string" if taken.is_text else str(taken.dtype)}
    if taken.shape:
        return {**said, "shape": list(taken.shape), "pad": taken.pad}
    features = [
        {"name": name, **model.manifest.features.get(name, ANYTHING).model_dump(mode="json")} for name in entry.columns
    ]
    return {**said, "features": features}


def _shares(model: Model, prevalence: Array | None) -> dict[str, float] | list[dict[str, float]] | None:
    if prevalence is None:
        return None
    if model.manifest.graph.rules.by_label:
        return dict(zip(model.classes, prevalence[:, 1].tolist(), strict=True))
    said = [dict(zip(model.classes, row, strict=True)) for row in np.atleast_2d(prevalence).tolist()]
    return said if prevalence.ndim > 1 else said[0]


def _place_rows(rows: list[Json], part: Decided, decisions: list[Json], prediction: Prediction) -> None:
    del prediction
    for i, decision in zip(part.rows.tolist(), decisions, strict=True):
        rows[i]["decision"] = decision


_BELIEFS: Final[dict[str, Callable[[Prediction, int | None], list[Json]]]] = {
    "multiclass": _beliefs,
    "multilabel": lambda prediction, _top_k: label_beliefs(prediction),
    "sequence": lambda prediction, _top_k: position_beliefs(prediction),
}
_PLACES: Final[dict[str, Callable[[list[Json], Decided, list[Json], Prediction], None]]] = {
    "multiclass": _place_rows,
    "multilabel": place_label,
    "sequence": place_positions,
}
