"""Parameters of a request, as the use case takes them."""

from typing import Final, TypedDict, TypeVar

import numpy as np

from service.api.v1.instances import nearest
from service.api.v1.requests import (
    DecideParameters,
    DetectParameters,
    EstimateParameters,
    EvaluateParameters,
    PredictParameters,
    SessionState,
    Wire,
)
from service.bundle.sections import check_prevalence
from service.bundle.tasks import ABSENT, PRESENT
from service.core.pipeline import Policy
from service.core.sequence import STRENGTH
from service.core.trajectory import State
from service.errors import Fault, InvalidParameters
from service.prediction.options import FROM_REQUEST, Options, choose_label_policies, choose_policy
from service.prediction.sessions import Session
from service.runtime.model import Model

Place = tuple[str | int, ...]
Table = dict[str, dict[str, float]]
Shares = dict[str, float]
Entry = TypeVar("Entry")


class Neighbours(TypedDict):
    """Options that speak of neighbouring positions."""

    smoother: str | None
    strength: float


BELONGS_TO: Final[dict[str, tuple[str, ...]]] = {
    "top_k": ("multiclass",),
    "coverage": ("multiclass",),
    "costs": ("multiclass", "sequence"),
    "label_costs": ("multilabel",),
    "smoother": ("sequence",),
    "strength": ("sequence",),
    "switch": ("sequence",),
}
PER_ROW: Final = ("policy", "site", "prevalence", "costs")
"""What multiclass models may be asked row by row."""

CARRIED: Final = tuple(name for name in SessionState.model_fields if name != "false_alarms_per_1000_steps")
"""What only an answer can have said of a session."""


def predict_options(wanted: PredictParameters, model: Model, rows: int) -> Options:
    """Options of `:predict`; InvalidParameters where they contradict each other, the model or the rows."""
    return Options(
        "predict",
        site=_site(wanted.site, rows=rows),
        prevalence=_prevalence(wanted, model, rows=rows),
        coverage=wanted.coverage,
        top_k=wanted.top_k,
        **_neighbours(wanted),
    )


def detect_options(wanted: DetectParameters, model: Model, rows: int) -> Options:
    """Options of `:detect`; InvalidParameters where they contradict the model."""
    del rows
    return Options("detect", fdr=wanted.fdr, session=_session(wanted, model))


def decide_options(wanted: DecideParameters, model: Model, rows: int) -> Options:
    """Options of `:decide`; InvalidParameters where they contradict each other, the model or the rows."""
    return Options(
        "decide",
        decide=True,
        policy=_policy(wanted, model, rows=rows),
        site=_site(wanted.site, rows=rows),
        prevalence=_prevalence(wanted, model, rows=rows),
        coverage=wanted.coverage,
        fdr=wanted.fdr,
        session=_session(wanted, model),
        label_costs=label_costs_of(wanted, model),
        switch=wanted.switch,
        top_k=wanted.top_k,
        **_neighbours(wanted),
    )


def evaluate_options(wanted: EvaluateParameters, model: Model, rows: int) -> Options:
    """Options of `:evaluate`; InvalidParameters where they contradict each other or the model."""
    del rows
    return Options(
        "evaluate",
        site=wanted.site,
        prevalence=prevalence_of(wanted.prevalence, wanted.site, model),
        **_neighbours(wanted),
    )


def estimate_options(wanted: EstimateParameters, model: Model, rows: int) -> Options:
    """Options of `:estimate`: none."""
    del wanted, model, rows
    return Options("estimate")


def label_policies_of(wanted: EvaluateParameters, model: Model) -> dict[str, dict[int, Policy]]:
    """Policies of labels that `:evaluate` reports on: the one asked for, or all of the manifest."""
    own = label_costs_of(wanted, model)
    if own is not None:
        return {FROM_REQUEST: own}
    if wanted.policy is None:
        return model.label_policies
    return {wanted.policy: choose_label_policies(model, Options("evaluate", policy=wanted.policy))}


def label_costs_of(wanted: DecideParameters | EvaluateParameters, model: Model) -> dict[int, Policy] | None:
    """Costs of labels of the request's own, by the label's index; None when it has none."""
    if wanted.label_costs is None:
        return None
    if wanted.policy is not None:
        raise parameter_error(("policy",), "contradiction", "cannot come together with label_costs")
    unknown = wanted.label_costs.keys() - set(model.classes)
    if unknown:
        hint = nearest(next(iter(unknown)), model.classes)
        detail = f"the costs name a label that the model does not have{hint}"
        raise parameter_error(("label_costs", "?"), "unknown-class", detail)
    return {
        model.classes.index(label): _priced(costs, (ABSENT, PRESENT), ("label_costs", label))
        for label, costs in wanted.label_costs.items()
    }


def policies_of(wanted: EvaluateParameters, model: Model) -> dict[str, Policy]:
    """Policies that `:evaluate` reports on: the one asked for, or all of the manifest."""
    if wanted.costs is None and wanted.policy is None:
        return model.policies
    _refuse_both(wanted)
    policy = choose_policy(model, wanted.policy) if wanted.costs is None else _own(wanted.costs, model)
    return {policy.name: policy}


def prevalence_of(prevalence: Shares | None, site: object, model: Model, *, at: Place = ()) -> Shares | None:
    """A prevalence of the request's own, checked against the classes; None when it has none."""
    if prevalence is None:
        return None
    if site is not None:
        raise parameter_error(("site",), "contradiction", "cannot come together with prevalence")
    path = ("prevalence", *at)
    _check_classes(path, "the prevalence", prevalence, model.classes)
    if model.manifest.graph.rules.by_label:
        return _label_shares(prevalence, path)
    try:
        check_prevalence("prevalence", prevalence, model.classes)
    except ValueError:
        raise parameter_error(path, "sum-not-one", "the shares must sum to 1") from None
    return prevalence


def _label_shares(prevalence: Shares, path: Place) -> Shares:
    for label, share in prevalence.items():
        if share >= 1.0:
            raise parameter_error(
                (*path, label), "out-of-range", "must be less than 1: the rest is the label's absence"
            )
    return prevalence


def parameter_error(path: Place, code: str, detail: str) -> InvalidParameters:
    """An error about one parameter."""
    place = ".".join(map(str, ("parameters", *path)))
    return InvalidParameters(f"{place}: {detail}", [Fault(("parameters", *path), code, detail)])


def _policy(wanted: DecideParameters, model: Model, *, rows: int) -> Policy | str | tuple[str, ...] | None:
    _refuse_both(wanted)
    if isinstance(wanted.policy, list):
        return tuple(_one_per_row("policy", wanted.policy, rows))
    if isinstance(wanted.costs, list):
        return _own_by_row(_one_per_row("costs", wanted.costs, rows), model)
    return wanted.policy if wanted.costs is None else _own(wanted.costs, model)


def _refuse_both(wanted: DecideParameters | EvaluateParameters) -> None:
    if wanted.policy is not None and wanted.costs is not None:
        raise parameter_error(("policy",), "contradiction", "cannot come together with costs")


def _own(costs: Table, model: Model) -> Policy:
    return _priced(costs, model.classes, ("costs",))


def _priced(costs: Table, states: tuple[str, ...], path: Place) -> Policy:
    _check_costs(path, costs, states)
    cost = [[row[state] for state in states] for row in costs.values()]
    return Policy(FROM_REQUEST, "request", tuple(costs), np.array(cost, dtype=np.float64), None)


def _own_by_row(tables: list[Table], model: Model) -> Policy:
    actions = tuple(tables[0])
    for i, table in enumerate(tables):
        if table.keys() != tables[0].keys():
            detail = "must name the same actions as the first table; send rows with other actions in another request"
            raise parameter_error(("costs", i), "other-actions", detail)
        _check_costs(("costs", i), table, model.classes)
    cost = [[[table[action][c] for c in model.classes] for action in actions] for table in tables]
    return Policy(FROM_REQUEST, "request", actions, np.array(cost, dtype=np.float64), None)


def _check_costs(path: Place, costs: Table, classes: tuple[str, ...]) -> None:
    for i, row in enumerate(costs.values()):
        _check_classes((*path, "?"), f"action {i + 1} of {len(costs)}", row, classes)


def _site(site: str | list[str] | None, *, rows: int) -> str | tuple[str, ...] | None:
    return tuple(_one_per_row("site", site, rows)) if isinstance(site, list) else site


def _prevalence(wanted: PredictParameters, model: Model, *, rows: int) -> Shares | tuple[Shares, ...] | None:
    given = wanted.prevalence
    if not isinstance(given, list):
        return prevalence_of(given, wanted.site, model)
    for i, shares in enumerate(_one_per_row("prevalence", given, rows)):
        prevalence_of(shares, wanted.site, model, at=(i,))
    return tuple(given)


def _one_per_row(name: str, values: list[Entry], rows: int) -> list[Entry]:
    if len(values) != rows:
        raise parameter_error((name,), "wrong-length", "must have one entry per instance")
    return values


def _neighbours(wanted: PredictParameters | EvaluateParameters) -> Neighbours:
    return {"smoother": wanted.smoother, "strength": STRENGTH if wanted.strength is None else wanted.strength}


def refuse_foreign(wanted: Wire, model: Model) -> None:
    """Raise InvalidParameters for a parameter that means nothing to a model of this task."""
    for name, tasks in BELONGS_TO.items():
        if name in wanted.model_fields_set and model.task not in tasks:
            raise parameter_error(
                (name,), "other-task", f"is of {' and '.join(tasks)} models; this one is {model.task}"
            )
    if model.task == "multiclass":
        return
    for name in PER_ROW:
        if isinstance(getattr(wanted, name, None), list):
            raise parameter_error((name,), "other-task", f"of a {model.task} model must be one for all instances")


def _session(wanted: DecideParameters | DetectParameters, model: Model) -> Session | None:
    if "session" not in wanted.model_fields_set:
        return None
    sent = wanted.session or SessionState()
    if not any(name in sent.model_fields_set for name in CARRIED):
        return Session(sent.false_alarms_per_1000_steps)
    for name in CARRIED:
        if getattr(sent, name) is None:
            raise _session_error(name, "missing-field", "is required; send back what the last answer returned")
    for name, value in (("model", model.name), ("version", model.version)):
        if getattr(sent, name) != value:
            raise _session_error(name, "other-session", f"is of another {name}; start a session with null")
    return Session(sent.false_alarms_per_1000_steps, _state(sent))


def _state(sent: SessionState) -> State:
    steps, since, statistic = sent.steps or 0, sent.steps_since_in_distribution or 0, sent.statistic or 0.0
    if since > steps:
        raise _session_error("steps_since_in_distribution", "out-of-range", "must not exceed steps")
    if steps == 0 and (statistic > 0.0 or sent.alarm):
        raise _session_error("steps", "out-of-range", "cannot be 0 in a session that has gathered evidence")
    return State(statistic, steps, since, standing=bool(sent.alarm))


def _session_error(name: str, code: str, detail: str) -> InvalidParameters:
    return parameter_error(("session", name), code, detail)


def _check_classes(path: Place, subject: str, entries: Shares, classes: tuple[str, ...]) -> None:
    missing = [name for name in classes if name not in entries]
    unknown = entries.keys() - set(classes)
    if unknown:
        hint = nearest(next(iter(unknown)), missing or classes)
        raise parameter_error(
            (*path, "?"), "unknown-class", f"{subject} names a class that the model does not have{hint}"
        )
    if missing:
        raise parameter_error((*path, missing[0]), "missing-class", f"{subject} lacks class {missing[0]!r}")
