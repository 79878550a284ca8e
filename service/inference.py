"""The use case: rows in, a prediction out, whatever protocol asked."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import numpy as np

from service.approaches import APPROACHES, ByPosition, Decided
from service.choices import FROM_REQUEST, Options, choose_sets
from service.core.conformal import benjamini_hochberg
from service.core.decision import Decisions
from service.core.label_sets import LabelSets
from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior
from service.runtime.model import Model
from service.runtime.rows import Rows
from service.telemetry import Telemetry
from service.watch import Watched, handed_over, monitor_of, watch


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
        Under the target prevalence. Of labels (N, M, 2), of sequences (N, L, K) and smoothed.
    target : ndarray of shape (K,) or (N, K), or None
        Prevalence that ``log_probs`` speak of; None when it is not known. Of labels (M, 2).
    site : str or tuple of str or None
    decided : tuple of Decided
        Every row belongs to one (of every label that has costs); empty where no action was wanted.
    sets : RowSets or None
        None where no coverage was asked for.
    fdr : float or None
    discovered : ndarray of shape (N,) or None
        Rows out of distribution at that rate of false discoveries; None where there are no p-values.
    watched : Watched or None
        The session after these rows; None where none was sent.
    smoother : str or None
        Of sequences: what let neighbours speak.
    """

    call: Call
    created: datetime
    model: Model
    posterior: Posterior
    log_probs: Array
    target: Array | None
    site: str | tuple[str, ...] | None
    decided: tuple[Decided, ...] = ()
    sets: RowSets | None = None
    fdr: float | None = None
    discovered: Flags | None = None
    watched: Watched | None = None
    smoother: str | None = None


class Predictor:
    """Answers calls.

    Parameters
    ----------
    telemetry : Telemetry
    clock : callable
        The time of day, with its zone.
    """

    def __init__(self, telemetry: Telemetry, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        # Labels come from bundles, so there are few; finding their counters costs more than counting.
        self._rows, self._batch = cache(telemetry.rows.labels), cache(telemetry.batch.labels)
        self._flagged, self._actions = cache(telemetry.flagged.labels), cache(telemetry.actions.labels)

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
        SessionUnavailable, ModelOutputInvalid, Overloaded, DeadlineExceeded
        """
        approach = APPROACHES[model.task].of(model, options, rows=len(rows))
        target = approach.target
        sets = None if options.coverage is None else choose_sets(model, options.coverage, target=target)
        session = options.session
        monitor = None if session is None else await asyncio.to_thread(monitor_of, model, session)
        posterior = await model.batcher.answer(rows, deadline=_deadline(call, model))
        watched = None if session is None or monitor is None else watch(session, posterior, monitor=monitor)
        log_probs = approach.believe(posterior)
        flagged = handed_over(posterior, watched)
        prediction = Prediction(
            call,
            self._clock(),
            model,
            posterior,
            log_probs,
            model.source if target is None else target,
            options.site,
            approach.decide(log_probs, posterior, flagged=flagged),
            None if sets is None or options.coverage is None else _row_sets(sets, posterior, options.coverage),
            options.fdr,
            _discovered(posterior, options.fdr),
            watched,
            approach.smoother if isinstance(approach, ByPosition) else None,
        )
        self._count(prediction, options.verb)
        return prediction

    def _count(self, prediction: Prediction, verb: str) -> None:
        model, n = prediction.model, len(prediction.log_probs)
        self._rows(model.name, model.version, verb).inc(n)
        self._batch(model.name).observe(n)
        if prediction.posterior.flagged is not None:
            self._flagged(model.name, model.version).inc(int(prediction.posterior.flagged.sum()))
        for decided in prediction.decided:
            self._count_actions(model, decided.policy, decided.decisions)

    def _count_actions(self, model: Model, policy: Policy, decisions: Decisions) -> None:
        if policy.source == "request":
            labels = (model.name, model.version, FROM_REQUEST, FROM_REQUEST)
            self._actions(*labels).inc(len(decisions.action))
            return
        counts = np.bincount(decisions.action, minlength=len(policy.actions))
        for action, count in zip(policy.actions, counts, strict=True):
            self._actions(model.name, model.version, policy.name, action).inc(int(count))


def _deadline(call: Call, model: Model) -> float | None:
    seconds = model.manifest.runtime.deadline
    own = None if seconds is None else time.monotonic() + seconds
    return min((deadline for deadline in (call.deadline, own) if deadline is not None), default=None)


def _row_sets(sets: LabelSets, posterior: Posterior, coverage: float) -> RowSets:
    found = sets.predict(posterior.log_probs, coverage=coverage)
    unflagged = np.ones(len(found.members), dtype=np.bool_) if posterior.flagged is None else ~posterior.flagged
    return RowSets(found.members, unflagged & found.valid, coverage, f"{sets.method}_{sets.kind}")


def _discovered(posterior: Posterior, fdr: float | None) -> Flags | None:
    if fdr is None or posterior.p_value is None:
        return None
    found: Flags = benjamini_hochberg(posterior.p_value) <= fdr
    return found
