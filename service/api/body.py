"""Bytes in: bounded, of the right media type, and strict JSON."""

import asyncio
import math
import re
import types
from collections.abc import Awaitable, Container, Coroutine, Generator, Mapping
from typing import Any

import jiter
import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from service.api.http_errors import RequestTimeout
from service.errors import (
    BodyTooLarge,
    DuplicateKey,
    Fault,
    MalformedBody,
    NonFiniteNumber,
    NumberOutOfRange,
    TooDeep,
    UnsupportedMediaType,
)

JSON_TYPE = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
PLAIN_TYPE = b"application/json"  # nearly every request has it
BODY_FIELDS = frozenset({b"content-type", b"content-encoding", b"content-length"})
MOST_DIGITS = 18  # of a length; more are no number of bytes, and take long to read
POSITION = re.compile(r" at line (\d+) column (\d+)$")
NON_FINITE = re.compile(rb"-?(?:NaN|Infinity|-Infinity)")
HUGE = re.compile(rb"[0-9.][eE]\+?0*[1-9][0-9]{2}|(?<![0-9])[0-9]{308}")  # only such spellings can exceed a double
MANY_LISTS = 10_000  # from which a second document in memory costs more than the search for such spellings


async def read_json(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body of a request for JSON, never holding much more than ``limit`` bytes of it.

    The request's state has when the body is due: ``body_deadline``, on the monotonic clock.

    Raises
    ------
    BodyTooLarge, UnsupportedMediaType, RequestTimeout, ClientDisconnect
    """
    fields = sent_once(scope, BODY_FIELDS)
    if fields.get(b"content-type") != PLAIN_TYPE and not is_json(fields.get(b"content-type")):
        raise UnsupportedMediaType("send JSON in UTF-8 with one header Content-Type: application/json")
    if fields.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding")
    return await read_bytes(scope, receive, length=fields.get(b"content-length"), limit=limit)


def sent_once(scope: Scope, names: Container[bytes]) -> dict[bytes, bytes]:
    """The header fields that describe a body, by their names in lower case.

    Raises
    ------
    UnsupportedMediaType
        If one was sent twice: which of them counts is unclear.
    """
    sent = [field for field in scope["headers"] if field[0] in names]
    fields: dict[bytes, bytes] = dict(sent)
    if len(fields) < len(sent):
        raise UnsupportedMediaType("send every header field that describes the body once, Content-Type among them")
    return fields


def is_json(media_type: bytes | None) -> bool:
    """Whether a media type is that of JSON in UTF-8."""
    return media_type is not None and JSON_TYPE.fullmatch(media_type.decode("latin-1").strip()) is not None


async def read_bytes(scope: Scope, receive: Receive, *, length: bytes | None, limit: int) -> bytes:
    """The whole body whatever its type, never holding much more than ``limit`` bytes of it.

    Parameters
    ----------
    scope : Scope
    receive : callable
    length : bytes or None
        What its header Content-Length holds.
    limit : int

    Raises
    ------
    BodyTooLarge, RequestTimeout, ClientDisconnect
    """
    if length is not None and length.isdigit() and (len(length) > MOST_DIGITS or int(length) > limit):
        raise _too_large(limit)
    # Nearly every body comes with the head of its request: a timer for those that do not would cost 3 microseconds.
    receiving = receive().__await__()
    try:
        waits_for = next(receiving)
    except StopIteration as done:
        message: Message = done.value
        if message["type"] == "http.request" and not message.get("more_body"):
            return _bounded(message.get("body", b""), limit)
        return await _in_time(scope["state"], _whole(message, receive, limit))
    return await _in_time(scope["state"], _rest(_resumed(receiving, waits_for), receive, limit))


async def _in_time(state: Mapping[str, Any], reading: Coroutine[Any, Any, bytes]) -> bytes:
    try:
        async with asyncio.timeout_at(state["body_deadline"]):  # the loop's clock is the monotonic one
            return await reading
    except TimeoutError:
        seconds = state["body_deadline"] - state["started"]
        raise RequestTimeout(f"the body did not arrive within {seconds:.4g} seconds") from None


@types.coroutine
def _resumed(receiving: Generator[Any, None, Message], waits_for: object) -> Generator[Any, None, Message]:
    # The rest of `await receive()`, which has been started and waits.
    try:
        yield waits_for
    except BaseException:
        receiving.close()
        raise
    return (yield from receiving)


async def _rest(first: Awaitable[Message], receive: Receive, limit: int) -> bytes:
    return await _whole(await first, receive, limit)


async def _whole(message: Message, receive: Receive, limit: int) -> bytes:
    whole = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        whole += message.get("body", b"")
        if len(whole) > limit or not message.get("more_body", False):
            return _bounded(bytes(whole), limit)
        message = await receive()


def _bounded(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def parse_json(raw: bytes) -> object:
    """The one document in ``raw``.

    Strict: UTF-8 without a byte order mark, no duplicate keys, no NaN or Infinity, no number beyond a double, no
    lone surrogates.

    Raises
    ------
    MalformedBody
        With the line and column, and never an excerpt.
    """
    try:
        document = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise _malformed(str(error), raw) from None
    if _may_be_infinite(raw):
        _refuse_infinite(document, ())
    return document


def _may_be_infinite(raw: bytes) -> bool:
    # orjson refuses what no double holds, and reads a body in a third of the time of the search for such spellings.
    if raw.count(b"[") > MANY_LISTS:
        return HUGE.search(raw) is not None
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return HUGE.search(raw) is not None
    return False


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the served models take bodies of at most {limit} bytes; send fewer instances at a time")


def _malformed(message: str, raw: bytes) -> MalformedBody:
    found = POSITION.search(message)
    line, column = (int(found[1]), int(found[2])) if found else (1, 1)
    place = f"line {line}, column {column}"
    reason = POSITION.sub("", message)
    if reason.startswith("Detected duplicate key"):
        return DuplicateKey(f"{place}: a key appears twice in one object; which value is meant is unclear")
    if reason.startswith("recursion limit"):
        return TooDeep(f"{place}: nothing that a model takes is nested this deeply")
    if reason.startswith("number out of range"):
        return NumberOutOfRange(f"{place}: a number is too large for a double")
    if NON_FINITE.match(raw, max(0, _offset(raw, line, column))):
        return NonFiniteNumber(
            f"{place}: JSON has no NaN or Infinity; a missing value is null where the model allows it"
        )
    return MalformedBody(f"{place}: {reason}")


def _offset(raw: bytes, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = raw.index(b"\n", start) + 1
    offset = start + column - 1
    return offset - 1 if offset and raw[offset - 1 : offset] == b"-" else offset


def _refuse_infinite(value: object, path: tuple[str | int, ...]) -> None:
    if _exceeds_a_double(value):
        known = [step if isinstance(step, int) else "?" for step in path[1:]]
        fault = Fault((*path[:1], *known), "number-out-of-range", "must fit a double")
        raise NumberOutOfRange("a number is too large for a double", [fault])
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_infinite(item, (*path, key if path == () and key in {"instances", "parameters"} else "?"))
    if isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_infinite(item, (*path, i))


def _exceeds_a_double(value: object) -> bool:
    if type(value) is int:
        try:
            float(value)
        except OverflowError:
            return True
    return isinstance(value, float) and math.isinf(value)
