"""The two parts of a request's body: one JSON document, and the bytes of tensors behind it."""

import zlib
from typing import Any, Final

import numpy as np
from starlette.types import Receive, Scope

from service.api.body import BODY_FIELDS, MOST_DIGITS, is_json, parse_json, read_bytes, sent_once
from service.api.plain_numbers import end_of_numbers, plain_numbers
from service.api.v2.tensors import TEXT, WIDE
from service.errors import BodyTooLarge, InvalidRequest, MalformedBody, UnsupportedMediaType
from service.runtime.integers import beyond

BYTES: Final = b"application/octet-stream"
JSON_LENGTH: Final = b"inference-header-content-length"
IDENTITY: Final = "identity"
FIELDS: Final = BODY_FIELDS | {JSON_LENGTH}


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> tuple[bytes, str, bytes | None]:
    """The body of a request as it was sent, its Content-Encoding, and its header with the length of the JSON in it.

    Its media type is JSON, `application/octet-stream`, or not declared: the clients of this protocol send all three.

    Raises
    ------
    BodyTooLarge, RequestTimeout, UnsupportedMediaType, ClientDisconnect
    """
    fields = sent_once(scope, FIELDS)
    media_type = fields.get(b"content-type")
    if not (media_type is None or is_json(media_type) or media_type.strip().lower() == BYTES):
        raise UnsupportedMediaType("send JSON in UTF-8 as application/json, or tensors as application/octet-stream")
    raw = await read_bytes(scope, receive, length=fields.get(b"content-length"), limit=limit)
    encoding = fields.get(b"content-encoding", IDENTITY.encode()).strip().lower().decode("latin-1")
    return raw, encoding, fields.get(JSON_LENGTH)


def decompress(raw: bytes, encoding: str, *, limit: int) -> bytes:
    """A request body without its Content-Encoding, never making more than ``limit`` bytes of it.

    Raises
    ------
    BodyTooLarge, MalformedBody, UnsupportedMediaType
    """
    if encoding == IDENTITY:
        return raw
    if encoding not in _WINDOWS:
        raise UnsupportedMediaType("send the body as it is, or with Content-Encoding: gzip or deflate")
    inflater = zlib.decompressobj(_WINDOWS[encoding])
    try:
        plain = inflater.decompress(raw, limit + 1)
    except zlib.error:
        raise MalformedBody(f"the body is not {encoding}, as its Content-Encoding declares") from None
    if len(plain) > limit:
        raise BodyTooLarge(f"the served models take bodies of at most {limit} bytes; this one holds more, compressed")
    if not inflater.eof or inflater.unused_data:
        raise MalformedBody(f"the body is not one whole {encoding} stream")
    return plain


def split(body: bytes, json_length: bytes | None) -> tuple[bytes, bytes]:
    """The JSON of a body, and what follows it; ``json_length`` is the header with its length.

    Raises
    ------
    InvalidRequest
    """
    if json_length is None:
        return body, b""
    if not (json_length.isdigit() and len(json_length) <= MOST_DIGITS and int(json_length) <= len(body)):
        raise InvalidRequest("the header Inference-Header-Content-Length must be the length of the JSON in the body")
    return body[: int(json_length)], body[int(json_length) :]


def parse_document(raw: bytes) -> object:
    """The JSON of a request; a flat array of plain numbers becomes an array without passing through the strict parser.

    Raises
    ------
    MalformedBody
    """
    key = raw.find(b'"data"')
    start = raw.find(b"[", key)
    if key < 0 or start < 0 or raw.find(b'"data"', key + 1) >= 0 or raw[key + 6 : start].strip() != b":":
        return parse_json(raw)
    cut = end_of_numbers(raw, start)
    numbers = plain_numbers(raw[start:cut])
    if numbers is None:
        return parse_json(raw)
    document = parse_json(raw[:start] + b"[]" + raw[cut:])
    if not _put(document, numbers):
        return parse_json(raw)
    return document


def _put(document: object, numbers: list[Any]) -> bool:
    entries = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return False
    holders = [entry for entry in entries if isinstance(entry, dict) and entry.get("data") == []]
    datatype = holders[0].get("datatype") if len(holders) == 1 else None
    if not isinstance(datatype, str) or datatype == TEXT:
        return False
    try:
        doubles = np.array(numbers, dtype=np.float64).ravel()
    except ValueError:  # ragged
        return False
    if datatype in WIDE and beyond(doubles).any():
        return False  # the strict reading keeps integers whole
    holders[0]["data"] = doubles
    return True


_WINDOWS: Final = {"gzip": 31, "deflate": 15}
