"""`Idempotency-Key`: a request that is sent again is answered again, and is not run again.

A key is reserved in the store before its request is run, so that every worker and machine knows of it, and the answer
is stored in the transaction of its record. Keys of one caller mean nothing to another. A request that is refused gives
its key up; a process that dies leaves it reserved for no longer than a request may take.

References
----------
IETF, *The Idempotency-Key HTTP Header Field*, draft-07.
"""

import asyncio
import hashlib
import re
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeVar

import orjson
from starlette.types import Scope, Send

from service.api.intake import caller_of
from service.errors import DeadlineExceeded, InvalidRequest
from service.record_errors import IdempotencyInProgress, IdempotencyMismatch
from service.store.engine import Store
from service.store.entries import Reply, Write
from service.store.record_writer import Writer
from service.store.seals import Seals
from service.store.secrets import Secrets

Result = TypeVar("Result")
Fields = Sequence[tuple[bytes, bytes]]

NAME: Final = b"idempotency-key"
FORM: Final = re.compile(rb"[ -~]{1,255}")
REPLAYED: Final = (b"idempotency-replayed", b"true")
READ_BY: Final = frozenset({b"content-type", b"content-encoding", b"inference-header-content-length"})
"""Header fields by which a body is read."""
GRACE_SECONDS: Final = 5.0  # beyond the deadline of a request, after which its process must have died
KEPT_SECONDS: Final = 86_400.0
FORGET_SECONDS: Final = 600.0
_LENGTH: Final = struct.Struct("<I")


class Stored(NamedTuple):
    """A response as it was sent.

    Attributes
    ----------
    headers : sequence of (bytes, bytes)
        Those that describe the body.
    body : bytes
    """

    headers: Fields
    body: bytes

    def fields(self, *more: tuple[bytes, bytes]) -> dict[str, str]:
        """The header fields, and more, as text."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in (*self.headers, *more)}

    async def send(self, send: Send, *more: tuple[bytes, bytes]) -> None:
        """Send it, with more header fields."""
        headers = [(b"content-length", b"%d" % len(self.body)), *self.headers, *more]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(frozen=True, slots=True)
class Held:
    """A key that is reserved for a request.

    Attributes
    ----------
    token : bytes
        Of caller and key.
    owner : str
        Id of the request.
    seals : Seals
    """

    token: bytes
    owner: str
    seals: Seals

    def reply(self, response: Stored) -> Reply:
        """The response to the request, encrypted, to be written together with its record."""
        fields = orjson.dumps([[name.decode("latin-1"), value.decode("latin-1")] for name, value in response.headers])
        content = _LENGTH.pack(len(fields)) + fields + response.body
        return Reply(self.token, self.owner, self.seals.reply(content, about=self.token))


class Idempotency:
    """Answers requests with a key once.

    Parameters
    ----------
    writer : Writer
    secrets : callable
        Reads the secrets; called on the thread that writes, when the first key comes.
    seconds : float
        That a request may take.
    """

    def __init__(self, writer: Writer, secrets: Callable[[], Secrets], *, seconds: float) -> None:
        self._writer, self._secrets = writer, secrets
        self._lease = int(1e6 * (seconds + GRACE_SECONDS))

    async def answer(self, scope: Scope, body: bytes, make: Callable[[Held], Awaitable[Result]]) -> "Result | Stored":
        """What ``make`` answers, or the response that was stored under the key of the request.

        Parameters
        ----------
        scope : Scope
            Of a request for which `has_key`.
        body : bytes
        make : callable
            Runs the request; the request that holds the reservation stores its own response.

        Raises
        ------
        InvalidRequest, IdempotencyMismatch, IdempotencyInProgress, StoreUnavailable, DeadlineExceeded
        Exception
            Whatever ``make`` raises; the key is given up then.
        """
        found = await self._begun(scope, body)
        if isinstance(found, Stored):
            return found
        try:
            return await make(found)
        except BaseException:
            self._writer.post(partial(_release, held=found))  # nothing happens to a reply that is stored
            raise

    async def keep(self, reply: Reply, deadline: float) -> None:
        """Store a reply for which there is no record.

        Raises
        ------
        StoreUnavailable, DeadlineExceeded
        """
        await self._writer.submit(Write(replies=[reply])).durable(deadline)

    async def _begun(self, scope: Scope, body: bytes) -> Held | Stored:
        state = scope["state"]
        name = f"{caller_of(state)} {_key(scope)}"
        use = partial(self._reserve, name=name, fingerprint=_fingerprint(scope, body), owner=state["request_id"])
        try:
            async with asyncio.timeout_at(state["deadline"]):
                return await self._writer.use(use)
        except TimeoutError:
            raise DeadlineExceeded("the Idempotency-Key was not reserved in time; send the request again") from None

    def _reserve(self, store: Store, *, name: str, fingerprint: bytes, owner: str) -> Held | Stored:
        secrets = self._secrets()
        # By the first secret there is: after a rotation too, a key finds what was stored under it.
        token = next(iter(secrets.by_id.values())).tokens.token("reply", name)
        now = time.time_ns() // 1000
        found = store.reserve(token, owner=owner, fingerprint=fingerprint, now=now, lease=self._lease)
        seals = Seals(secrets)
        if found is None:
            return Held(token, owner, seals)
        if found.fingerprint != fingerprint:
            raise IdempotencyMismatch("under this Idempotency-Key another request was sent; send each with its own")
        if found.content is None:
            raise IdempotencyInProgress("the request with this Idempotency-Key is being answered; try again later")
        return _stored(seals.read_reply(found.content, about=token))


class ForgetReplies:
    """The chore of deleting replies after a day."""

    def __init__(self) -> None:
        self._due = 0.0

    def run(self, store: Store, *, is_last: bool) -> None:
        """Delete what is old, every ten minutes."""
        now = time.monotonic()
        if now >= self._due and not is_last:
            self._due = now + FORGET_SECONDS
            store.forget_replies(int(1e6 * (time.time() - KEPT_SECONDS)))


def has_key(scope: Scope) -> bool:
    """Whether a request has a key."""
    return NAME in dict(scope["headers"])


def _key(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name == NAME]
    if len(values) != 1 or not FORM.fullmatch(values[0]):
        raise InvalidRequest("send one header Idempotency-Key, of 1 to 255 printable ASCII characters")
    value: str = values[0].decode("ascii")
    quoted = len(value) > 2 and value[0] == value[-1] == '"'  # a string of structured fields, as the draft has it
    return value[1:-1] if quoted else value


def _fingerprint(scope: Scope, body: bytes) -> bytes:
    read_by = sorted([name + b":" + value for name, value in scope["headers"] if name in READ_BY])
    head = b"\n".join([scope["method"].encode(), scope["path"].encode("utf-8", "surrogatepass"), *read_by])
    return hashlib.sha256(_LENGTH.pack(len(head)) + head + body).digest()


def _stored(content: bytes) -> Stored:
    start = _LENGTH.size
    end = start + _LENGTH.unpack_from(content)[0]
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in orjson.loads(content[start:end])]
    return Stored(fields, content[end:])


def _release(store: Store, *, held: Held) -> None:
    store.release(held.token, held.owner)
