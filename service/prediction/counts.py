"""What answers add to the counters."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import prometheus_client

from service.core.decision import Decisions
from service.core.pipeline import Policy
from service.prediction.answer import Answer, Part
from service.prediction.options import FROM_REQUEST
from service.prediction.timings import Timings
from service.runtime.model import Model
from service.telemetry import Telemetry


class Counts:
    """Counts rows, flags and actions of answers.

    Parameters
    ----------
    telemetry : Telemetry
    """

    def __init__(self, telemetry: Telemetry) -> None:
        # Labels come from bundles, so there are few; finding their counters costs more than counting.
        self._rows, self._batch = cache(telemetry.rows.labels), cache(telemetry.batch.labels)
        self._flagged, self._actions = cache(telemetry.flagged.labels), cache(self._counters)
        self._queue, self._run = cache(telemetry.queue.labels), cache(telemetry.run.labels)
        self._postprocess, self._waiting = cache(telemetry.postprocess.labels), cache(telemetry.waiting.labels)
        self._telemetry = telemetry

    def count(self, verb: str, answer: Answer, parts: Iterable[Part]) -> None:
        """Count the answer to requests that were answered together.

        Parameters
        ----------
        verb : str
        answer : Answer
        parts : iterable of Part
        """
        model, flagged = answer.model, answer.posterior.flagged
        per_request = self._batch(model.name)
        self._rows(model.name, model.version, verb).inc(len(answer.log_probs))
        for part in parts:
            per_request.observe(part.rows)
        if flagged is not None:
            self._flagged(model.name, model.version).inc(int(np.count_nonzero(flagged)))
        for decided in answer.decided:
            self._count_actions(model, decided.policy, decided.decisions)

    def wait(self, model: str, requests: int = 1) -> None:
        """Requests wait for their run; a negative number of them does not any more."""
        self._waiting(model).inc(requests)

    def time(self, model: str, queued: Iterable[float], timings: Timings) -> None:
        """Observe how long requests that were answered together waited, and how long each stage took, once for all.

        Parameters
        ----------
        model : str
        queued : iterable of float
            When each request came to the queue.
        timings : Timings
        """
        wait = self._queue(model)
        for since in queued:
            wait.observe(timings.started - since)
        self._run(model).observe(timings.ran - timings.started)
        self._postprocess(model).observe(timings.concluded - timings.ran)

    def _count_actions(self, model: Model, policy: Policy, decisions: Decisions) -> None:
        own = policy.source == "request"
        name, names = (FROM_REQUEST, (FROM_REQUEST,)) if own else (policy.name, policy.actions)
        counters, actions = self._actions(model.name, model.version, name, names), decisions.action.tolist()
        if own:
            counters[0].inc(len(actions))
            return
        for action in set(actions):
            counters[action].inc(actions.count(action))

    def _counters(
        self, model: str, version: str, policy: str, actions: Sequence[str]
    ) -> list[prometheus_client.Counter]:
        # Of all actions: one that is never taken is there, with none.
        return [self._telemetry.actions.labels(model, version, policy, action) for action in actions]
