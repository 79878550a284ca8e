"""The use case: rows in, a prediction out, whatever protocol asked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from service.core.decision import Decisions
from service.core.numerics import Array
from service.core.pipeline import Policy, Posterior, act, at_prevalence
from service.errors import Fault, InvalidParameters, PolicyRequired, PrevalenceUnavailable
from service.runtime.model import Model
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
    """

    verb: str
    decide: bool = False
    policy: str | Policy | None = None
    site: str | None = None
    prevalence: dict[str, float] | None = None


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

    async def predict(self, call: Call, model: Model, rows: Array, options: Options) -> Prediction:
        """Judge rows.

        Parameters
        ----------
        call : Call
        model : Model
        rows : ndarray of shape (N, F)
            In manifest order, NaN where a value is missing.
        options : Options

        Raises
        ------
        InvalidInstances, InvalidParameters, PolicyRequired, PrevalenceUnavailable, ModelOutputInvalid
        """
        policy = choose_policy(model, options.policy) if options.decide else None
        target = choose_target(model, options)
        posterior = await asyncio.to_thread(model.posterior, rows)
        if policy is None:
            log_probs, decisions = at_prevalence(posterior.log_probs, source=model.source, target=target), None
        else:
            log_probs, decisions = act(posterior, policy, source=model.source, target=target)
        spoken = model.source if target is None else target
        prediction = Prediction(
            call, self._clock(), model, posterior, log_probs, spoken, options.site, policy, decisions
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
            "[training] prevalence in the manifest, or fit a calibration on rows of the population it is used in"
        )
    return np.array([prevalence[c] for c in model.classes], dtype=np.float64)


def _site_prevalence(model: Model, site: str) -> dict[str, float]:
    if site not in model.manifest.sites:
        known = ", ".join(model.manifest.sites) or "none"
        detail = f"{model.name} has no site of that name (there are: {known})"
        raise InvalidParameters(detail, [Fault(("parameters", "site"), "unknown-site", detail)])
    return model.manifest.sites[site].prevalence
