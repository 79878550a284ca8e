"""How requests to a model come in, whatever the protocol: admitted, read, parsed, queued.

A request is admitted before its body is parsed, and before a large body is read. How many rows it has is then
estimated, from its bytes; the queue counts its real rows once they are there.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from starlette.types import Receive, Scope

from service.access.caller import Caller
from service.api.addresses import Limits
from service.api.correlation import Correlation
from service.api.disconnect import while_connected
from service.api.large_bodies import Held
from service.prediction.answer import Part, Sender
from service.prediction.joint_answer import Result
from service.prediction.query import Query
from service.prediction.queue import Queue
from service.runtime.model import Model
from service.runtime.rows import Rows

LARGE: Final = 64 << 10  # bytes; smaller bodies come with the head of their request, and are parsed in half a ms
WEIGHT: Final = 0.1  # of the last request in how many bytes a row is expected to have


class Parsed(Protocol):
    """A request, read."""

    @property
    def rows(self) -> Rows:
        """Its rows."""


Request = TypeVar("Request", bound=Parsed)
State = Mapping[str, Any]  # of a scope


class Intake:
    """Requests to one model, at one endpoint.

    Parameters
    ----------
    model : Model
    queue : Queue
        Of the model.
    limits : Limits
    """

    def __init__(self, model: Model, queue: Queue, limits: Limits) -> None:
        self.model = model
        self.queue = queue
        self._bodies, self._quotas, self._most_bytes = limits.bodies, limits.quotas, limits.body
        self._row_bytes = 0.0

    def admit(self, scope: Scope) -> None:
        """Refuse a request that would wait too long, by its head alone.

        Raises
        ------
        Overloaded
        """
        if not self.queue.backlog.is_short and not self._is_too_large(scope):
            self._admit(self._rows(_declared(scope) or 0), scope["state"])

    def held(self, scope: Scope, receive: Receive) -> Held:
        """The receive of a request whose body is large, in a context that ends with its answer.

        Raises
        ------
        Overloaded
        """
        if not self._is_too_large(scope):
            self._bodies.check_wait()
            self._bodies.check_room(_declared(scope) or 0)
        return Held(self._bodies, receive)

    async def read(
        self,
        body: bytes,
        parse: Callable[[bytes], Request],
        scope: Scope,
        receive: Receive,
        *,
        is_compressed: bool = False,
    ) -> Request:
        """A request, from its body.

        Raises
        ------
        Overloaded, DeadlineExceeded, ClientDisconnect
        QuotaExceeded
            If the caller may not send so many rows now.
        Exception
            Whatever ``parse`` raises.
        """
        if is_compressed or len(body) > LARGE:
            request = await self._read_large(body, parse, scope["state"], receive)
        else:
            request = parse(body)
        if not is_compressed:
            own = len(body) / len(request.rows)
            self._row_bytes += WEIGHT * (own - self._row_bytes) if self._row_bytes else own
        self._quotas.charge_rows(scope["state"]["caller"], len(request.rows))
        return request

    def answer(
        self, query: Query, rows: Rows, part: Part, scope: Scope, receive: Receive, *, seconds: float | None = None
    ) -> Awaitable[Result]:
        """The answer of the model, if the client stays connected and waits for so many seconds.

        Raises
        ------
        Overloaded, DeadlineExceeded, ClientDisconnect
        Exception
            Whatever these rows made the run raise.
        """
        state = scope["state"]
        deadline = state["deadline"] if seconds is None else min(state["deadline"], state["started"] + seconds)
        answering = self.queue.answer(query, rows, part, deadline=deadline, caller=caller_of(state))
        if self.queue.immediate(self.model, part.rows):
            return answering
        return while_connected(answering, receive)

    async def _read_large(
        self, body: bytes, parse: Callable[[bytes], Request], state: State, receive: Receive
    ) -> Request:
        rows = self._rows(len(body))
        self._admit(rows, state)
        self._bodies.check_wait()
        with self.queue.expecting(rows, caller=caller_of(state)):
            return await while_connected(self._bodies.parse(parse, body, deadline=state["deadline"]), receive)

    def _is_too_large(self, scope: Scope) -> bool:
        # It is refused for its length, unread, whatever waits: to try again would not help.
        return (_declared(scope) or 0) > self._most_bytes()

    def _admit(self, rows: int, state: State) -> None:
        self.queue.admit(rows, caller=caller_of(state), deadline=state["deadline"])

    def _rows(self, size: int) -> int:
        return int(size / self._row_bytes) or 1 if self._row_bytes else 1


def sender_of(state: State) -> Sender:
    """Who sends a request, and when its head had come."""
    correlation: Correlation = state["correlation"]
    return Sender(caller_of(state), correlation.request_id, correlation.traceparent, state["started"])


def is_large(scope: Scope) -> bool:
    """Whether the body of a request may be large: it declares so, or not how long it is."""
    size = _declared(scope)
    return size is None or size > LARGE


def _declared(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 19 else None
    return None


def caller_of(state: State) -> str:
    """The name of who sends a request, as it was found before the request came here."""
    caller: Caller = state["caller"]
    return caller.name
