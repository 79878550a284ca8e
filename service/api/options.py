"""Parameters of a request, as the use case takes them."""

import numpy as np

from service.api.rows import nearest
from service.api.schemas import DecideParameters, EvaluateParameters
from service.bundle.manifest import check_prevalence
from service.core.pipeline import Policy
from service.errors import Fault, InvalidParameters
from service.inference import FROM_REQUEST, Options, choose_policy
from service.runtime.model import Model


def decide_options(wanted: DecideParameters, model: Model) -> Options:
    """Options of `:decide`; InvalidParameters where they contradict each other or the model."""
    policy = _own_policy(wanted.costs, wanted.policy, model)
    prevalence = prevalence_of(wanted.prevalence, wanted.site, model)
    return Options(
        "decide",
        decide=True,
        policy=policy,
        site=wanted.site,
        prevalence=prevalence,
        coverage=wanted.coverage,
        fdr=wanted.fdr,
    )


def policies_of(wanted: EvaluateParameters, model: Model) -> dict[str, Policy]:
    """Policies that `:evaluate` reports on: the one asked for, or all of the manifest."""
    chosen = _own_policy(wanted.costs, wanted.policy, model)
    if chosen is None:
        return model.policies
    policy = choose_policy(model, chosen)
    return {policy.name: policy}


def _own_policy(costs: dict[str, dict[str, float]] | None, policy: str | None, model: Model) -> Policy | str | None:
    if costs is None:
        return policy
    if policy is not None:
        raise parameter_error(("policy",), "contradiction", "cannot come together with costs")
    for i, row in enumerate(costs.values()):
        _check_classes(("costs", "?"), f"action {i + 1} of {len(costs)}", row, model.classes)
    cost = np.array([[row[c] for c in model.classes] for row in costs.values()], dtype=np.float64)
    return Policy(FROM_REQUEST, "request", tuple(costs), cost, None)


def prevalence_of(prevalence: dict[str, float] | None, site: str | None, model: Model) -> dict[str, float] | None:
    """A prevalence of the request's own, checked against the classes; None when it has none."""
    if prevalence is None:
        return None
    if site is not None:
        raise parameter_error(("site",), "contradiction", "cannot come together with prevalence")
    _check_classes(("prevalence",), "the prevalence", prevalence, model.classes)
    try:
        check_prevalence("prevalence", prevalence, model.classes)
    except ValueError:
        raise parameter_error(("prevalence",), "sum-not-one", "the shares must sum to 1") from None
    return prevalence


def _check_classes(path: tuple[str, ...], subject: str, entries: dict[str, float], classes: tuple[str, ...]) -> None:
    missing = [name for name in classes if name not in entries]
    unknown = entries.keys() - set(classes)
    if unknown:
        hint = nearest(next(iter(unknown)), missing or classes)
        raise parameter_error(
            (*path, "?"), "unknown-class", f"{subject} names a class that the model does not have{hint}"
        )
    if missing:
        raise parameter_error((*path, missing[0]), "missing-class", f"{subject} lacks class {missing[0]!r}")


def parameter_error(path: tuple[str, ...], code: str, detail: str) -> InvalidParameters:
    """An error about one parameter."""
    place = ".".join(("parameters", *path))
    return InvalidParameters(f"{place}: {detail}", [Fault(("parameters", *path), code, detail)])
