"""The use case: rows in, a prediction out, whatever protocol asked."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Self

import numpy as np
import prometheus_client

from service.core.conformal import benjamini_hochberg
from service.core.decision import Decisions
from service.core.label_sets import LabelSets, own_log_probs
from service.core.numerics import Array, Flags
from service.core.pipeline import Policy, Posterior
from service.core.trajectory import Monitor
from service.prediction.options import FROM_REQUEST, Options, choose_sets
from service.prediction.sessions import Watched, handed_over, monitor_of, watch
from service.prediction.tasks import APPROACHES, Approach, Decided
from service.runtime.model import Model
from service.runtime.rows import Rows
from service.telemetry import Telemetry


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
class Judgement:
    """Everything that was computed for rows.

    Attributes
    ----------
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

    @property
    def probabilities(self) -> Array:
        """Of every class, under the target prevalence."""
        known = self.posterior.known(self.log_probs)
        return np.exp(self.log_probs) if known is None else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Judgement):
    """The judgement of one call's rows; an audit needs nothing else.

    Attributes
    ----------
    call : Call
    created : datetime
    """

    call: Call
    created: datetime

    @classmethod
    def of(cls, judgement: Judgement, *, call: Call, created: datetime) -> Self:
        """What a call is answered."""
        computed = {field.name: getattr(judgement, field.name) for field in fields(judgement)}
        return cls(**computed, call=call, created=created)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked of a model, checked against it; nothing in it depends on how many rows come, unless a list per row.

    Attributes
    ----------
    model : Model
    options : Options
    approach : Approach
    sets : LabelSets or None
    """

    model: Model
    options: Options
    approach: Approach
    sets: LabelSets | None

    @property
    def target(self) -> Array | None:
        """Prevalence that answers speak of; None when it is not known."""
        return self.model.source if self.approach.target is None else self.approach.target

    @classmethod
    def of(cls, model: Model, options: Options) -> Self:
        """Check the options.

        Raises
        ------
        InvalidParameters, PolicyRequired, PrevalenceUnavailable, CoverageUnavailable
        """
        approach, coverage = APPROACHES[model.task].of(model, options), options.coverage
        sets = None if coverage is None else choose_sets(model, coverage, target=approach.target)
        return cls(model, options, approach, sets)

    def conclude(self, posterior: Posterior, *, monitor: Monitor | None = None) -> Judgement:
        """Stages D and E, and what else was asked for, of rows that went through A to C."""
        model, options, approach = self.model, self.options, self.approach
        session = options.session
        watched = None if session is None or monitor is None else watch(session, posterior, monitor=monitor)
        log_probs = approach.believe(posterior)
        return Judgement(
            model,
            posterior,
            log_probs,
            self.target,
            options.site,
            approach.decide(log_probs, posterior, flagged=handed_over(posterior, watched)),
            _row_sets(self.sets, posterior, options.coverage),
            options.fdr,
            _discovered(posterior, options.fdr),
            watched,
            approach.smoother,
        )


class Predictor:
    """Answers calls.

    Parameters
    ----------
    telemetry : Telemetry
    clock : callable
        The time of day, with its zone.
    """

    def __init__(self, telemetry: Telemetry, clock: Callable[[], datetime]) -> None:
        self.now = clock
        # Labels come from bundles, so there are few; finding their counters costs more than counting.
        self._rows, self._batch = cache(telemetry.rows.labels), cache(telemetry.batch.labels)
        self._flagged, self._actions = cache(telemetry.flagged.labels), telemetry.actions
        self._taken = cache(self._counters)

    async def predict(self, call: Call, model: Model, rows: Rows, options: Options) -> Prediction:
        """Judge the rows of one call.

        Parameters
        ----------
        call : Call
        model : Model
        rows : ndarray of shape (N, F), or Fields
            In manifest order, NaN where a value is missing.
        options : Options

        Raises
        ------
        InvalidInstances, PolicyRequired, InvalidParameters, PrevalenceUnavailable, CoverageUnavailable,
        SessionUnavailable, ModelOutputInvalid, Overloaded, DeadlineExceeded
        """
        judgement = await self.judge(Inquiry.of(model, options), rows, sizes=[len(rows)], deadline=call.deadline)
        return Prediction.of(judgement, call=call, created=self.now())

    async def judge(
        self, inquiry: Inquiry, rows: Rows, *, sizes: Sequence[int], deadline: float | None = None
    ) -> Judgement:
        """Judge the rows of one call, or of several that ask the same.

        Parameters
        ----------
        inquiry : Inquiry
        rows : ndarray of shape (N, F), or Fields
        sizes : sequence of int
            How many rows are each call's.
        deadline : float, optional
            On the monotonic clock.

        Raises
        ------
        InvalidInstances, SessionUnavailable, ModelOutputInvalid, Overloaded, DeadlineExceeded
        """
        model, session = inquiry.model, inquiry.options.session
        monitor = None if session is None else await asyncio.to_thread(monitor_of, model, session)
        posterior = await model.batcher.answer(rows, deadline=_deadline(deadline, model), requests=len(sizes))
        judgement = inquiry.conclude(posterior, monitor=monitor)
        self._count(judgement, inquiry.options.verb, sizes)
        return judgement

    def _count(self, judgement: Judgement, verb: str, sizes: Sequence[int]) -> None:
        model, flagged, per_request = judgement.model, judgement.posterior.flagged, self._batch(judgement.model.name)
        self._rows(model.name, model.version, verb).inc(sum(sizes))
        for size in sizes:
            per_request.observe(size)
        if flagged is not None:
            self._flagged(model.name, model.version).inc(int(np.count_nonzero(flagged)))
        for decided in judgement.decided:
            self._count_actions(model, decided.policy, decided.decisions)

    def _count_actions(self, model: Model, policy: Policy, decisions: Decisions) -> None:
        if policy.source == "request":
            labels = (model.name, model.version, FROM_REQUEST, FROM_REQUEST)
            self._actions.labels(*labels).inc(len(decisions.action))
            return
        counters = self._taken(model.name, model.version, policy.name, policy.actions)
        actions = decisions.action.tolist()
        for action in set(actions):
            counters[action].inc(actions.count(action))

    def _counters(
        self, model: str, version: str, policy: str, actions: Sequence[str]
    ) -> list[prometheus_client.Counter]:
        # Of all actions: one that is never taken is there, with none.
        return [self._actions.labels(model, version, policy, action) for action in actions]


def _deadline(asked: float | None, model: Model) -> float | None:
    seconds = model.manifest.runtime.deadline
    if seconds is None:
        return asked
    own = time.monotonic() + seconds
    return own if asked is None else min(asked, own)


def _row_sets(sets: LabelSets | None, posterior: Posterior, coverage: float | None) -> RowSets | None:
    if sets is None or coverage is None:
        return None
    top = posterior.log_probs.argmax(axis=1)
    found = sets.predict(own_log_probs(posterior.logits), coverage=coverage, top=top)
    unflagged = np.ones(len(found.members), dtype=np.bool_) if posterior.flagged is None else ~posterior.flagged
    return RowSets(found.members, unflagged & found.valid, coverage, f"{sets.method}_{sets.kind}")


def _discovered(posterior: Posterior, fdr: float | None) -> Flags | None:
    if fdr is None or posterior.p_value is None:
        return None
    found: Flags = benjamini_hochberg(posterior.p_value) <= fdr
    return found
