"""The use case: rows in, an answer out, whatever the protocol."""

import math
from collections.abc import Callable
from datetime import datetime
from weakref import WeakKeyDictionary

from service.prediction.answer import Answer, Part
from service.prediction.call import Call
from service.prediction.counts import Counts
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.queue import Queue
from service.runtime.model import Model
from service.runtime.rows import Rows
from service.telemetry import Telemetry


class Predictor:
    """Answers requests; belongs to one event loop.

    Parameters
    ----------
    telemetry : Telemetry
    clock : callable
        The time of day, with its zone.
    queue_seconds : float
        That a request may be expected to wait for its model.
    """

    def __init__(self, telemetry: Telemetry, clock: Callable[[], datetime], *, queue_seconds: float = math.inf) -> None:
        self.now = clock
        self.queue_seconds = queue_seconds
        self._counts = Counts(telemetry)
        self._queues: WeakKeyDictionary[Model, Queue] = WeakKeyDictionary()

    async def predict(self, call: Call, model: Model, rows: Rows, options: Options) -> Answer:
        """The answer to one call.

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
        part = Part(call.request_id, len(rows))
        query = Query.of(model, options)
        joint, place = await self.queue(model).answer(
            query, rows, part, deadline=call.deadline, caller=call.caller or ""
        )
        return joint.own(place)

    def queue(self, model: Model) -> Queue:
        """Where requests to a model wait; protocols that read requests themselves hand them over there."""
        queue = self._queues.get(model)
        if queue is None:
            queue = Queue(model.manifest.runtime, self._counts, model.run_time, seconds=self.queue_seconds)
            self._queues[model] = queue
        return queue
