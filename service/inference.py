"""The use case: rows in, a prediction out, whatever protocol asked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from service.bundle.conformity import Kind, restore_sets
from service.core.conformal import benjamini_hochberg
from service.core.decision import Decisions
from service.core.label_sets import LabelSets, enough_for_classes
from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior, act, at_prevalence
from service.errors import (
    BundleDamaged,
    CoverageUnavailable,
    Fault,
    InvalidParameters,
    PolicyRequired,
    PrevalenceUnavailable,
)
from service.runtime.model import Model
from service.runtime.rows import Rows
from service.telemetry import Telemetry

FROM_REQUEST = "(request)"


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and under which identity the answer is kept.

    Attributes
    ----------
    request_id : str
    caller : str or None
    deadline : float or None
        On the monotonic clock, in seconds.
    idempotency_key : str or None
    """

    request_id: str
    caller: str | None = None
    deadline: float | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What a request may choose.

    Attributes
    ----------
    verb : str
        What is counted.
    decide : bool
        Whether an action is wanted.
    policy : str or Policy or None
        A policy of the manifest by name, or costs of the request's own.
    site : str or None
    prevalence : dict of str to float, or None
    coverage : float or None
        Probability with which a label set holds the true label; without it there are no sets.
    fdr : float or None
        Share of false discoveries among the rows found to be out of distribution, over the batch.
    """

    verb: str
    decide: bool = False
    policy: str | Policy | None = None
    site: str | None = None
    prevalence: dict[str, float] | None = None
    coverage: float | None = None
    fdr: float | None = None


@dataclass(frozen=True, slots=True)
class RowSets:
    """Label sets of N rows.

    Attributes
    ----------
    members : ndarray of shape (N, K)
    valid : ndarray of shape (N,)
        Whether the coverage holds: the row is not flagged, and there were calibration rows enough.
    coverage : float
    method : str
        Score and kind, as in ``lac_class_conditional``.
    """

    members: Flags
    valid: Flags
    coverage: float
    method: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """Everything that was computed for one call; an audit needs nothing else.

    Attributes
    ----------
    call : Call
    created : datetime
    model : Model
    posterior : Posterior
        Under the source prevalence.
    log_probs : ndarray of shape (N, K)
        Under the target prevalence.
    target : ndarray of shape (K,) or None
        Prevalence that ``log_probs`` speak of; None when it is not known.
    site : str or None
    policy : Policy or None
    decisions : Decisions or None
    sets : RowSets or None
        None where no coverage was asked for.
    fdr : float or None
    discovered : ndarray of shape (N,) or None
        Rows out of distribution at that rate of false discoveries; None where there are no p-values.
    """

    call: Call
    created: datetime
    model: Model
    posterior: Posterior
    log_probs: Array
    target: Array | None
    site: str | None
    policy: Policy | None
    decisions: Decisions | None
    sets: RowSets | None = None
    fdr: float | None = None
    discovered: Flags | None = None


class Predictor:
    """Answers calls.

    Parameters
    ----------
    telemetry : Telemetry
    clock : callable
        The time of day, with its zone.
    """

    def __init__(self, telemetry: Telemetry, clock: Callable[[], datetime]) -> None:
        self._telemetry = telemetry
        self._clock = clock

    async def predict(self, call: Call, model: Model, rows: Rows, options: Options) -> Prediction:
        """Judge rows.

        Parameters
        ----------
        call : Call
        model : Model
        rows : ndarray of shape (N, F), or Fields
            In manifest order, NaN where a value is missing.
        options : Options

        Raises
        ------
        InvalidInstances, InvalidParameters, PolicyRequired, PrevalenceUnavailable, CoverageUnavailable,
        ModelOutputInvalid
        """
        policy = choose_policy(model, options.policy) if options.decide else None
        target = choose_target(model, options)
        sets = None if options.coverage is None else choose_sets(model, options.coverage, target=target)
        posterior = await asyncio.to_thread(model.posterior, rows)
        if policy is None:
            log_probs, decisions = at_prevalence(posterior.log_probs, source=model.source, target=target), None
        else:
            log_probs, decisions = act(posterior, policy, source=model.source, target=target)
        spoken = model.source if target is None else target
        prediction = Prediction(
            call,
            self._clock(),
            model,
            posterior,
            log_probs,
            spoken,
            options.site,
            policy,
            decisions,
            None if sets is None or options.coverage is None else _row_sets(sets, posterior, options.coverage),
            options.fdr,
            _discovered(posterior, options.fdr),
        )
        self._count(prediction, options.verb)
        return prediction

    def _count(self, prediction: Prediction, verb: str) -> None:
        model, n = prediction.model, len(prediction.log_probs)
        self._telemetry.rows.labels(model.name, model.version, verb).inc(n)
        self._telemetry.batch.labels(model.name).observe(n)
        if prediction.posterior.flagged is not None:
            self._telemetry.flagged.labels(model.name, model.version).inc(int(prediction.posterior.flagged.sum()))
        if prediction.policy is not None and prediction.decisions is not None:
            self._count_actions(model, prediction.policy, prediction.decisions)

    def _count_actions(self, model: Model, policy: Policy, decisions: Decisions) -> None:
        if policy.source == "request":
            labels = (model.name, model.version, FROM_REQUEST, FROM_REQUEST)
            self._telemetry.actions.labels(*labels).inc(len(decisions.action))
            return
        counts = np.bincount(decisions.action, minlength=len(policy.actions))
        for action, count in zip(policy.actions, counts, strict=True):
            self._telemetry.actions.labels(model.name, model.version, policy.name, action).inc(int(count))


def choose_policy(model: Model, wanted: str | Policy | None) -> Policy:
    """The policy that decides: the request's own, the named one, or the manifest's default.

    Raises
    ------
    PolicyRequired
        If none is named and none is the default.
    InvalidParameters
        If the manifest has no policy of that name.
    """
    if isinstance(wanted, Policy):
        return wanted
    name = wanted or model.manifest.default_policy
    known = ", ".join(model.policies) or "none; send costs"
    if name is None:
        raise PolicyRequired(f"{model.name} has no default policy; name one in parameters.policy (there are: {known})")
    if name not in model.policies:
        detail = f"{model.name} has no policy of that name (there are: {known})"
        raise InvalidParameters(detail, [Fault(("parameters", "policy"), "unknown-policy", detail)])
    return model.policies[name]


def choose_target(model: Model, options: Options) -> Array | None:
    """Prevalence asked for, shape (K,), or None when the request leaves it as calibrated.

    Raises
    ------
    InvalidParameters
        If the manifest has no site of that name.
    PrevalenceUnavailable
        If another prevalence is asked for and the one the model speaks of is unknown.
    """
    prevalence = options.prevalence
    if options.site is not None:
        prevalence = _site_prevalence(model, options.site)
    if prevalence is None:
        return None
    if model.source is None:
        raise PrevalenceUnavailable(
            f"{model.name} version {model.version} does not know which prevalence its probabilities speak of: declare "
            "[training] prevalence in the manifest and fit again, on rows of the population it is used in"
        )
    return np.array([prevalence[c] for c in model.classes], dtype=np.float64)


def choose_sets(model: Model, coverage: float, *, target: Array | None) -> LabelSets:
    """Label sets that hold ``coverage``: within every class where calibration rows suffice, else on average over them.

    Raises
    ------
    CoverageUnavailable
        If the version is uncalibrated or has no conformity scores, or if only sets on average could be made and
        another prevalence is asked for: their coverage speaks of the calibration rows' classes alone.
    """
    record, title = model.bundle.record, model.bundle.title
    if record is None:
        raise CoverageUnavailable(f"{title} is uncalibrated; calibrate it with `temperance fit`")
    if record.label_sets is None:
        raise CoverageUnavailable(f"{title} was fitted without label sets; fit it again")
    counts = None if record.label_sets.class_rows is None else [record.label_sets.class_rows[c] for c in model.classes]
    conditional = counts is not None and enough_for_classes(np.array(counts), coverage=coverage)
    if not conditional and _moved(model.source, target):
        raise CoverageUnavailable(_why_marginal(title, counts, coverage))
    kind: Kind = "class_conditional" if conditional else "marginal"
    sets = restore_sets(kind, model.bundle.state, method=record.label_sets.method)
    if sets is None:
        raise BundleDamaged(f"{model.bundle.path}: state.npz lacks what label sets need")
    return sets


def _moved(source: Array | None, target: Array | None) -> bool:
    return target is not None and (source is None or not np.array_equal(source, target))


def _why_marginal(title: str, counts: list[int] | None, coverage: float) -> str:
    if counts is None:
        lack = "it has too many classes"
    else:
        lack = f"a class has only {min(counts)} calibration rows, too few for a coverage of {coverage:g}"
    return (
        f"{title} cannot hold a coverage within every class, because {lack}; on average over classes it holds under "
        "the source prevalence alone: leave out site and prevalence, or ask for less"
    )


def _row_sets(sets: LabelSets, posterior: Posterior, coverage: float) -> RowSets:
    found = sets.predict(posterior.log_probs, coverage=coverage)
    unflagged = np.ones(len(found.members), dtype=np.bool_) if posterior.flagged is None else ~posterior.flagged
    kind: Kind = "class_conditional" if sets.conditional else "marginal"
    return RowSets(found.members, unflagged & found.valid, coverage, f"{sets.method}_{kind}")


def _discovered(posterior: Posterior, fdr: float | None) -> Flags | None:
    if fdr is None or posterior.p_value is None:
        return None
    found: Flags = benjamini_hochberg(posterior.p_value) <= fdr
    return found


def _site_prevalence(model: Model, site: str) -> dict[str, float]:
    if site not in model.manifest.sites:
        known = ", ".join(model.manifest.sites) or "none"
        detail = f"{model.name} has no site of that name (there are: {known})"
        raise InvalidParameters(detail, [Fault(("parameters", "site"), "unknown-site", detail)])
    return model.manifest.sites[site].prevalence
