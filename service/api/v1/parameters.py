"""Parameters of a request, as the use case takes them."""

from typing import Final, TypedDict, TypeVar

import numpy as np

from service.api.v1.instances import nearest
from service.api.v1.requests import (
    Applies,
    DecideParameters,
    DetectParameters,
    EstimateParameters,
    EvaluateParameters,
    PredictParameters,
    SessionState,
    Wire,
    applies,
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
    """Options of neighbouring positions."""

    smoother: str | None
    strength: float


CARRIED: Final = tuple(name for name in SessionState.model_fields if name != "false_alarms_per_1000_steps")
"""What only an answer can state of a session."""


def predict_options(verb: str, parameters: PredictParameters, model: Model, rows: int) -> Options:
    """Options of `:predict`; InvalidParameters where they contradict each other, the model or the rows."""
    return Options(
        verb,
        site=_site(parameters.site, rows=rows),
        prevalence=_prevalence(parameters, model, rows=rows),
        coverage=parameters.coverage,
        top_k=parameters.top_k,
        **_neighbours(parameters),
    )


def detect_options(verb: str, parameters: DetectParameters, model: Model, rows: int) -> Options:
    """Options of `:detect`; InvalidParameters where they contradict the model."""
    del rows
    return Options(verb, fdr=parameters.fdr, session=_session(parameters, model))


def decide_options(verb: str, parameters: DecideParameters, model: Model, rows: int) -> Options:
    """Options of `:decide`; InvalidParameters where they contradict each other, the model or the rows."""
    return Options(
        verb,
        decide=True,
        policy=_policy(parameters, model, rows=rows),
        site=_site(parameters.site, rows=rows),
        prevalence=_prevalence(parameters, model, rows=rows),
        coverage=parameters.coverage,
        fdr=parameters.fdr,
        session=_session(parameters, model),
        label_costs=label_costs_of(parameters, model),
        switch=parameters.switch,
        top_k=parameters.top_k,
        **_neighbours(parameters),
    )


def evaluate_options(verb: str, parameters: EvaluateParameters, model: Model, rows: int) -> Options:
    """Options of `:evaluate`; InvalidParameters where they contradict each other or the model."""
    del rows
    return Options(
        verb,
        site=parameters.site,
        prevalence=prevalence_of(parameters.prevalence, parameters.site, model),
        **_neighbours(parameters),
    )


def estimate_options(verb: str, parameters: EstimateParameters, model: Model, rows: int) -> Options:
    """Options of `:estimate`: none."""
    del parameters, model, rows
    return Options(verb)


def label_policies_of(parameters: EvaluateParameters, model: Model) -> dict[str, dict[int, Policy]]:
    """Policies of labels that `:evaluate` reports on: the requested one, or all of the manifest."""
    own = label_costs_of(parameters, model)
    if own is not None:
        return {FROM_REQUEST: own}
    if parameters.policy is None:
        return model.label_policies
    return {parameters.policy: choose_label_policies(model, Options("evaluate", policy=parameters.policy))}


def label_costs_of(parameters: DecideParameters | EvaluateParameters, model: Model) -> dict[int, Policy] | None:
    """Costs of labels of the request's own, by the label's index; None when it has none."""
    if parameters.label_costs is None:
        return None
    if parameters.policy is not None:
        raise parameter_error(("policy",), "contradiction", "cannot come together with label_costs")
    unknown = parameters.label_costs.keys() - set(model.classes)
    if unknown:
        hint = nearest(next(iter(unknown)), model.classes)
        detail = f"the costs name a label that the model does not have{hint}"
        raise parameter_error(("label_costs", "?"), "unknown-class", detail)
    return {
        model.classes.index(label): _priced(costs, (ABSENT, PRESENT), ("label_costs", label))
        for label, costs in parameters.label_costs.items()
    }


def policies_of(parameters: EvaluateParameters, model: Model) -> dict[str, Policy]:
    """Policies that `:evaluate` reports on: the requested one, or all of the manifest."""
    if parameters.costs is None and parameters.policy is None:
        return model.policies
    _refuse_both(parameters)
    policy = choose_policy(model, parameters.policy) if parameters.costs is None else _own(parameters.costs, model)
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


def _policy(parameters: DecideParameters, model: Model, *, rows: int) -> Policy | str | tuple[str, ...] | None:
    _refuse_both(parameters)
    if isinstance(parameters.policy, list):
        return tuple(_one_per_row("policy", parameters.policy, rows))
    if isinstance(parameters.costs, list):
        return _own_by_row(_one_per_row("costs", parameters.costs, rows), model)
    return parameters.policy if parameters.costs is None else _own(parameters.costs, model)


def _refuse_both(parameters: DecideParameters | EvaluateParameters) -> None:
    if parameters.policy is not None and parameters.costs is not None:
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


def _prevalence(parameters: PredictParameters, model: Model, *, rows: int) -> Shares | tuple[Shares, ...] | None:
    given = parameters.prevalence
    if not isinstance(given, list):
        return prevalence_of(given, parameters.site, model)
    for i, shares in enumerate(_one_per_row("prevalence", given, rows)):
        prevalence_of(shares, parameters.site, model, at=(i,))
    return tuple(given)


def _one_per_row(name: str, values: list[Entry], rows: int) -> list[Entry]:
    if len(values) != rows:
        raise parameter_error((name,), "wrong-length", "must have one entry per instance")
    return values


def _neighbours(parameters: PredictParameters | EvaluateParameters) -> Neighbours:
    return {
        "smoother": parameters.smoother,
        "strength": STRENGTH if parameters.strength is None else parameters.strength,
    }


def check_task(parameters: Wire, model: Model) -> None:
    """Raise InvalidParameters for a parameter that does not apply to models of this task, or not row by row."""
    for name in type(parameters).model_fields:
        if name in parameters.model_fields_set:
            _check_applies(name, getattr(parameters, name), applies(type(parameters), name), model.task)


def _check_applies(name: str, value: object, to: Applies, task: str) -> None:
    if task not in to.tasks:
        raise parameter_error((name,), "other-task", f"applies to {' and '.join(to.tasks)} models; this one is {task}")
    if isinstance(value, list) and to.by_row and task not in to.by_row:
        raise parameter_error((name,), "other-task", f"of a {task} model must be one for all instances")


def _session(parameters: DecideParameters | DetectParameters, model: Model) -> Session | None:
    if "session" not in parameters.model_fields_set:
        return None
    sent = parameters.session or SessionState()
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
