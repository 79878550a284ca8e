"""What answers add to the counters."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import prometheus_client

from service.core.decision import Decisions
from service.core.pipeline import Policy
from service.prediction.answer import Answer, Part
from service.prediction.options import FROM_REQUEST
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
        self._flagged, self._actions = cache(telemetry.flagged.labels), telemetry.actions
        self._taken = cache(self._counters)

    def count(self, verb: str, answer: Answer, parts: Iterable[Part]) -> None:
        """Count the answer to requests that were answered together.

        Parameters
        ----------
        verb : str
        answer : Answer
        parts : iterable of Part
        """
        model, flagged, per_request = answer.model, answer.posterior.flagged, self._batch(answer.model.name)
        self._rows(model.name, model.version, verb).inc(len(answer.log_probs))
        for part in parts:
            per_request.observe(part.rows)
        if flagged is not None:
            self._flagged(model.name, model.version).inc(int(np.count_nonzero(flagged)))
        for decided in answer.decided:
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
