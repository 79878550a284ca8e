"""The use case: rows in, an answer out, whatever the protocol."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from weakref import WeakKeyDictionary

from service.prediction.answer import Part, Prediction
from service.prediction.call import Call
from service.prediction.counts import Counts
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.queue import Queue, Result
from service.prediction.sessions import monitor_of
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
    """

    def __init__(self, telemetry: Telemetry, clock: Callable[[], datetime]) -> None:
        self.now = clock
        self._counts = Counts(telemetry)
        self._queues: WeakKeyDictionary[Model, Queue] = WeakKeyDictionary()

    async def predict(self, call: Call, model: Model, rows: Rows, options: Options) -> Prediction:
        """Answer one call.

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
        joint, place = await self.answer(Query.of(model, options), rows, part, deadline=call.deadline)
        return Prediction.of(joint.own(place), call=call, created=self.now())

    async def answer(self, query: Query, rows: Rows, part: Part, *, deadline: float | None = None) -> Result:
        """Answer one request, together with others that wait for the same model.

        Parameters
        ----------
        query : Query
            Only requests with this very query share stages D and E, so callers keep it for the next request.
        rows : ndarray of shape (N, F), or Fields
        part : Part
        deadline : float, optional
            On the monotonic clock; the manifest may name a sooner one.

        Returns
        -------
        joint : JointAnswer
        place : int
            Of this request among the parts.

        Raises
        ------
        InvalidInstances, InvalidParameters, SessionUnavailable, ModelOutputInvalid, Overloaded, DeadlineExceeded
        """
        model, session = query.model, query.options.session
        monitor = None if session is None else await asyncio.to_thread(monitor_of, model, session)
        due = _sooner(deadline, model.manifest.runtime.deadline)
        return await self.queue(model).answer(query, rows, part, deadline=due, monitor=monitor)

    def queue(self, model: Model) -> Queue:
        """Where requests to a model wait."""
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = Queue(model.manifest.runtime, self._counts)
        return queue

    def immediate(self, model: Model, rows: int) -> bool:
        """Whether so many rows are answered on the event loop, before their client can disconnect."""
        return self.queue(model).immediate(model, rows)


def _sooner(deadline: float | None, seconds: float | None) -> float | None:
    if seconds is None:
        return deadline
    own = time.monotonic() + seconds
    return own if deadline is None else min(deadline, own)
