"""Bytes in: bounded, of the right media type, and strict JSON."""

import math
import re

import jiter
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

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
PLAIN_TYPES = (None, b"application/json")  # nearly every request has one of them
POSITION = re.compile(r" at line (\d+) column (\d+)$")
NON_FINITE = re.compile(rb"-?(?:NaN|Infinity|-Infinity)")
HUGE = re.compile(rb"[0-9.][eE]\+?0*[1-9][0-9]{2}|[0-9]{308}")  # only such spellings can exceed a double


async def read_json(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body of a request for JSON, never holding much more than ``limit`` bytes of it.

    Raises
    ------
    BodyTooLarge, UnsupportedMediaType, ClientDisconnect
    """
    headers = dict(reversed(scope["headers"]))  # of several with the same name the first counts
    _check_media(headers.get(b"content-type"), headers.get(b"content-encoding"))
    return await _read(headers.get(b"content-length", b"0"), receive, limit)


async def read_raw(request: Request, *, limit: int) -> bytes:
    """The whole body whatever its type, never holding much more than ``limit`` bytes of it.

    Raises
    ------
    BodyTooLarge, ClientDisconnect
    """
    return await _read(request.headers.get("content-length", "0").encode(), request.receive, limit)


async def _read(length: bytes, receive: Receive, limit: int) -> bytes:
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body") or message["type"] == "http.disconnect":
        body = await _whole(message, receive, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _whole(message: Message, receive: Receive, limit: int) -> bytes:
    whole = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        whole += message.get("body", b"")
        if len(whole) > limit or not message.get("more_body", False):
            return bytes(whole)
        message = await receive()


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
    # orjson refuses what no double holds, and reads a body in a ninth of the time of the search for such spellings.
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return HUGE.search(raw) is not None
    return False


def _check_media(content_type: bytes | None, encoding: bytes | None) -> None:
    if content_type not in PLAIN_TYPES and not JSON_TYPE.fullmatch(content_type.decode("latin-1").strip()):
        raise UnsupportedMediaType("send JSON in UTF-8 with the header Content-Type: application/json")
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding")


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
    if isinstance(value, float) and math.isinf(value):
        known = [step if isinstance(step, int) else "?" for step in path[1:]]
        fault = Fault((*path[:1], *known), "number-out-of-range", "must fit a double")
        raise NumberOutOfRange("a number is too large for a double", [fault])
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_infinite(item, (*path, key if path == () and key in {"instances", "parameters"} else "?"))
    if isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_infinite(item, (*path, i))
