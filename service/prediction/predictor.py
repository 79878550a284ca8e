"""The use case: rows in, an answer out, whatever protocol asked."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache

import numpy as np
import prometheus_client

from service.core.decision import Decisions
from service.core.pipeline import Policy
from service.prediction.answer import Answer, Prediction
from service.prediction.call import Call
from service.prediction.options import FROM_REQUEST, Options
from service.prediction.query import Query
from service.prediction.sessions import monitor_of
from service.runtime.model import Model
from service.runtime.rows import Rows
from service.telemetry import Telemetry


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
        judgement = await self.judge(Query.of(model, options), rows, sizes=[len(rows)], deadline=call.deadline)
        return Prediction.of(judgement, call=call, created=self.now())

    async def judge(self, query: Query, rows: Rows, *, sizes: Sequence[int], deadline: float | None = None) -> Answer:
        """Judge the rows of one call, or of several that ask the same.

        Parameters
        ----------
        query : Query
        rows : ndarray of shape (N, F), or Fields
        sizes : sequence of int
            How many rows are each call's.
        deadline : float, optional
            On the monotonic clock.

        Raises
        ------
        InvalidInstances, SessionUnavailable, ModelOutputInvalid, Overloaded, DeadlineExceeded
        """
        model, session = query.model, query.options.session
        monitor = None if session is None else await asyncio.to_thread(monitor_of, model, session)
        posterior = await model.batcher.answer(rows, deadline=_deadline(deadline, model), requests=len(sizes))
        judgement = query.conclude(posterior, monitor=monitor)
        self._count(judgement, query.options.verb, sizes)
        return judgement

    def _count(self, judgement: Answer, verb: str, sizes: Sequence[int]) -> None:
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
