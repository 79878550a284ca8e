"""Options of a request, and what they mean for a model: policies, prevalence, label sets."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from service.bundle.conformity import Kind, restore_sets
from service.core.label_sets import LabelSets, enough_for_classes
from service.core.numerics import Array, Indices
from service.core.pipeline import Policy
from service.core.sequence import SMOOTHERS, STRENGTH
from service.errors import (
    BundleDamaged,
    CoverageUnavailable,
    Fault,
    InvalidParameters,
    PolicyRequired,
    PrevalenceUnavailable,
)
from service.prediction.sessions import Session
from service.runtime.model import Model

FROM_REQUEST = "(request)"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a request, checked against no model yet.

    Attributes
    ----------
    verb : str
        As metrics count it.
    decide : bool
        Whether decisions are requested.
    policy : str or tuple of str or Policy or None
        A policy of the manifest by name, of all rows or one per row, or costs in the request.
    site : str or tuple of str or None
    prevalence : dict of str to float, or a tuple of such dicts, or None
        Of all rows, or one per row, as the site may be.
    coverage : float or None
        Probability with which a label set holds the true label; None makes no sets.
    fdr : float or None
        Share of false discoveries among the rows of the request that are found to be out of distribution.
    session : Session or None
        The rows are the next steps of this session; None monitors nothing.
    label_costs : dict of int to Policy, or None
        Of a multilabel model: costs in the request, by the label's index.
    smoother : str or None
        Of a sequence model: in `sequence.SMOOTHERS`; None takes the model's.
    strength : float
        Of the ``jsd`` smoother.
    switch : float or None
        Of a sequence model: price of another action at the next position; None takes the policy's.
    top_k : int or None
        Of a multiclass model: how many of the most probable classes stand in for all probabilities.
    """

    verb: str
    decide: bool = False
    policy: str | tuple[str, ...] | Policy | None = None
    site: str | tuple[str, ...] | None = None
    prevalence: dict[str, float] | tuple[dict[str, float], ...] | None = None
    coverage: float | None = None
    fdr: float | None = None
    session: Session | None = None
    label_costs: dict[int, Policy] | None = None
    smoother: str | None = None
    strength: float = STRENGTH
    switch: float | None = None
    top_k: int | None = None

    @property
    def vary_by_row(self) -> bool:
        """Whether a policy, costs, a site or a prevalence is given for every row."""
        own_costs = isinstance(self.policy, Policy) and self.policy.cost.ndim > 2
        return own_costs or any(isinstance(given, tuple) for given in (self.policy, self.site, self.prevalence))


def choose_policies(
    model: Model, requested: str | tuple[str, ...] | Policy | None
) -> list[tuple[Policy, Indices | None]]:
    """Policies that decide, each with its rows: one for all (None), or those named row by row.

    Raises
    ------
    PolicyRequired, InvalidParameters
        As `choose_policy`.
    """
    if not isinstance(requested, tuple):
        return [(choose_policy(model, requested), None)]
    names = np.array(requested)
    chosen = {name: choose_policy(model, name, at=requested.index(name)) for name in dict.fromkeys(requested)}
    return [(policy, np.flatnonzero(names == name)) for name, policy in chosen.items()]


def choose_policy(model: Model, requested: str | Policy | None, *, at: int | None = None) -> Policy:
    """The policy that decides: the costs in the request, the named policy, or the manifest's default.

    Parameters
    ----------
    model : Model
    requested : str or Policy or None
    at : int, optional
        The row that requests it, where every row does.

    Raises
    ------
    PolicyRequired
        If none is named and none is the default.
    InvalidParameters
        If the manifest has no policy of that name.
    """
    if isinstance(requested, Policy):
        return model.tied(requested)
    return model.policies[_policy_name(model, requested, at=at)]


def choose_label_policies(model: Model, options: Options) -> dict[int, Policy]:
    """Costs of every label, by its index: those in the request, the named policy's, or the manifest's default.

    Raises
    ------
    PolicyRequired, InvalidParameters
        As `choose_policy`.
    """
    if options.label_costs is not None:
        return {label: model.tied(policy) for label, policy in options.label_costs.items()}
    requested = options.policy if isinstance(options.policy, str) else None
    return model.label_policies[_policy_name(model, requested)]


def choose_smoother(model: Model, options: Options) -> str:
    """How neighbouring positions are smoothed: as requested, or as the model was fitted to.

    Raises
    ------
    InvalidParameters
        If ``hmm`` is requested and the version cannot have it.
    PrevalenceUnavailable
        If a smoother and another prevalence are requested at once.
    """
    smoother = options.smoother or model.smoother
    if SMOOTHERS[smoother].chained and not model.has_chain:
        detail = (
            f"{model.bundle.title} has no transitions of a known prevalence, which 'hmm' needs: fit it (--calibrator "
            "auto or bcts finds the prevalence), or request 'none'"
        )
        raise InvalidParameters(detail, [Fault(("parameters", "smoother"), "unavailable", detail)])
    if smoother != "none" and (options.site is not None or options.prevalence is not None):
        raise PrevalenceUnavailable(
            f"a prevalence moves positions one by one, and the smoother {smoother!r} needs sequences as they were "
            "calibrated: send parameters.smoother = 'none', or leave out site and prevalence"
        )
    return smoother


def choose_target(model: Model, options: Options) -> Array | None:
    """Requested prevalence, shape (K,), or (N, K) row by row, or None where the request leaves it as calibrated.

    Raises
    ------
    InvalidParameters
        If the manifest has no site of that name.
    PrevalenceUnavailable
        If another prevalence is requested and that of the model's probabilities is unknown.
    """
    prevalence = options.prevalence
    if isinstance(options.site, tuple):
        prevalence = tuple(_site_prevalence(model, site, at=i) for i, site in enumerate(options.site))
    elif options.site is not None:
        prevalence = _site_prevalence(model, options.site)
    if prevalence is None:
        return None
    if model.source is None:
        raise PrevalenceUnavailable(
            f"{model.name} version {model.version} does not know the prevalence of its probabilities: declare "
            "[training] prevalence in the manifest and fit again, on rows of the population it is used in"
        )
    rows = prevalence if isinstance(prevalence, tuple) else [prevalence]
    target = np.array([[row[c] for c in model.classes] for row in rows], dtype=np.float64)
    return target if isinstance(prevalence, tuple) else target[0]


def choose_sets(model: Model, coverage: float, *, target: Array | None) -> LabelSets:
    """Label sets that hold ``coverage``: within every class where calibration rows suffice, else on average over them.

    At another prevalence than the source the average is taken over that one, from the rankings within the classes.

    Raises
    ------
    CoverageUnavailable
        If the version is uncalibrated or has no conformity scores, or if sets on average at another prevalence are
        requested and there are too many classes, too few rows, or one prevalence per row.
    """
    record, title = model.bundle.record, model.bundle.title
    if model.task != "multiclass":
        raise CoverageUnavailable(f"{title} is a {model.task} model; a label set holds one class of several, of a row")
    if record is None:
        raise CoverageUnavailable(f"{title} is uncalibrated; calibrate it with `temperance fit`")
    if record.label_sets is None:
        raise CoverageUnavailable(f"{title} was fitted without label sets; fit it again")
    if record.label_sets.scored is None:
        raise CoverageUnavailable(f"{title} was fitted with label sets whose coverage is not proved; fit it again")
    counts = None if record.label_sets.class_rows is None else [record.label_sets.class_rows[c] for c in model.classes]
    if counts is not None and enough_for_classes(np.array(counts), coverage=coverage):
        return _restored("class_conditional", model, record.label_sets.method)
    if target is None or _is_source(model.source, target):
        return _restored("marginal", model, record.label_sets.method)
    if counts is None:
        raise CoverageUnavailable(_why_marginal(title, "it has too many classes"))
    few = f"a class has only {min(counts)} calibration rows, too few for a coverage of {coverage:g}"
    if target.ndim > 1:
        raise CoverageUnavailable(_why_marginal(title, f"{few}, and rows have a prevalence each"))
    sets = _restored("class_conditional", model, record.label_sets.method)
    weighted = dataclasses.replace(sets, prevalence=target)
    if not np.isfinite(weighted.thresholds(coverage)).all():
        raise CoverageUnavailable(_why_marginal(title, few))
    return weighted


def _restored(kind: Kind, model: Model, method: str) -> LabelSets:
    sets = restore_sets(kind, model.bundle.state, method=method)
    if sets is None:
        raise BundleDamaged(f"{model.bundle.path}: state.npz lacks what label sets need")
    return sets if model.parity is None else model.parity.sets(sets)


def _is_source(source: Array | None, target: Array) -> bool:
    return source is not None and bool(np.all(source == target))


def _why_marginal(title: str, lack: str) -> str:
    return (
        f"{title} cannot hold a coverage within every class, because {lack}; on average over classes it holds under "
        "the source prevalence alone: leave out site and prevalence, or request a lower coverage"
    )


def _policy_name(model: Model, requested: str | None, *, at: int | None = None) -> str:
    name, policies = requested or model.manifest.default_policy, model.manifest.policies
    known = ", ".join(policies) or "none; send costs"
    if name is None:
        raise PolicyRequired(f"{model.name} has no default policy; name one in parameters.policy (there are: {known})")
    if name not in policies:
        detail = f"{model.name} has no policy of that name (there are: {known})"
        raise InvalidParameters(detail, [Fault(_place("policy", at), "unknown-policy", detail)])
    return name


def _place(parameter: str, at: int | None) -> tuple[str | int, ...]:
    return ("parameters", parameter) if at is None else ("parameters", parameter, at)


def _site_prevalence(model: Model, site: str, *, at: int | None = None) -> dict[str, float]:
    if site not in model.manifest.sites:
        known = ", ".join(model.manifest.sites) or "none"
        detail = f"{model.name} has no site of that name (there are: {known})"
        raise InvalidParameters(detail, [Fault(_place("site", at), "unknown-site", detail)])
    return model.manifest.sites[site].prevalence
