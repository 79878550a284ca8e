"""Strict JSON: what is refused, why, and that honest documents get through unchanged."""

import asyncio
import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.api.body import JSON_TYPE, parse_json, read_json
from service.api.http_errors import RequestTimeout
from service.errors import BodyTooLarge, DuplicateKey, MalformedBody, NonFiniteNumber, NumberOutOfRange, TooDeep
from tests.shipped_model import SHIPPED

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(documents)
@settings(max_examples=50)
def test_an_honest_document_is_read_as_python_reads_it(document: object) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_survives_to_the_last_bit(value: float) -> None:
    read = parse_json(repr(value).encode())
    assert isinstance(read, float)
    assert math.copysign(1.0, read) == math.copysign(1.0, value)
    assert read == value


REFUSED = {
    b"": MalformedBody,
    b" ": MalformedBody,
    b"{": MalformedBody,
    b'{"a": }': MalformedBody,
    b'{"a": 1,}': MalformedBody,
    b"[1,]": MalformedBody,
    b"[01]": MalformedBody,
    b"[+1]": MalformedBody,
    b"[.5]": MalformedBody,
    b"[1.]": MalformedBody,
    b"[0x10]": MalformedBody,
    b"[1_000]": MalformedBody,
    b"[1] [2]": MalformedBody,
    b"\xef\xbb\xbf[1]": MalformedBody,
    b"\xff\xfe[\x001\x00]\x00": MalformedBody,
    b'["\xc3"]': MalformedBody,
    b'["\x01"]': MalformedBody,
    b'["\\ud800"]': MalformedBody,
    b'["\\udc00\\ud800"]': MalformedBody,
    b'["\\x41"]': MalformedBody,
    b'{"a": 1, "a": 1}': DuplicateKey,
    b'{"a": 1, "\\u0061": 1}': DuplicateKey,
    b'[{"b": {"a": 1, "a": 2}}]': DuplicateKey,
    b"NaN": NonFiniteNumber,
    b"[NaN]": NonFiniteNumber,
    b"[1,\n  Infinity]": NonFiniteNumber,
    b"[-Infinity]": NonFiniteNumber,
    b"[1e309]": NumberOutOfRange,
    b"[-1e309]": NumberOutOfRange,
    b'{"x": {"y": [1E+0999]}}': NumberOutOfRange,
    b"[" + b"9" * 309 + b".5]": NumberOutOfRange,
    b"[" + b"9" * 5000 + b"]": NumberOutOfRange,
    b"[" * 10_000: TooDeep,
    b'{"a":' * 10_000: TooDeep,
}


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: ascii(raw[:24]))
def test_what_is_not_strict_json_is_refused_for_its_own_reason(raw: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_json(raw)
    assert type(caught.value) is REFUSED[raw]


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: ascii(raw[:24]))
def test_a_refusal_of_bytes_has_a_place(raw: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_json(raw)
    assert caught.value.faults or caught.value.detail.startswith("line ")


def test_the_place_is_a_line_and_a_column() -> None:
    with pytest.raises(MalformedBody, match=r"^line 3, column 3: "):
        parse_json(b'{"a": 1,\n"b": 2,\n  zq7canary}')


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        parse_json(raw)
    except MalformedBody as error:
        assert error.detail  # noqa: PT017  # either outcome is fine; nothing else may be raised


@pytest.mark.parametrize(
    "raw", [b"[1e308]", b"[1e-400]", b"[" + b"9" * 308 + b"]", b"[1e+0005]", b'["1e999"]', b'["NaN"]']
)
def test_numbers_that_fit_and_words_that_only_look_wrong_pass(raw: bytes) -> None:
    assert parse_json(raw) == json.loads(raw)


def test_a_number_out_of_range_is_pointed_to_without_the_callers_keys() -> None:
    with pytest.raises(NumberOutOfRange) as caught:
        parse_json(b'{"instances": [[0], {"zq7canary": [1, 1e999]}]}')
    assert [fault.path for fault in caught.value.faults] == [("instances", 1, "?", 1)]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.kserve+json",
    ],
)
def test_json_goes_by_several_names(media_type: str) -> None:
    assert JSON_TYPE.fullmatch(media_type)


@pytest.mark.parametrize(
    "media_type",
    ["text/json", "application/jsonp", "application/json; charset=latin-1", "json", "application/xml+json2"],
)
def test_other_types_are_not_json(media_type: str) -> None:
    assert not JSON_TYPE.fullmatch(media_type)


class Connection:
    """What a caller sends, message by message; then nothing more ever comes."""

    def __init__(self, *parts: bytes, ends: bool = True, length: bytes | None = None) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if ends and self._messages:
            self._messages[-1] = {**self._messages[-1], "more_body": False}
        self.taken = 0
        self.headers = [(b"content-type", b"application/json")]
        if length is not None:
            self.headers.append((b"content-length", length))

    async def receive(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages.pop(0)

    async def body(self, *, limit: int = 100, seconds: float = 30.0) -> bytes:
        now = time.monotonic()
        state = {"started": now, "body_deadline": now + seconds, "deadline": now + 60.0}
        return await read_json({"headers": self.headers, "state": state}, self.receive, limit=limit)


async def test_a_body_is_read_in_one_piece_or_in_many() -> None:
    assert await Connection(b"[1, 2]").body() == b"[1, 2]"
    assert await Connection(b"[1,", b"", b" 2", b"]").body() == b"[1, 2]"


@pytest.mark.parametrize("parts", [(), (b"[1",), (b"[1", b", 2")])
async def test_a_body_that_does_not_come_whole_in_its_time_is_a_time_out(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestTimeout, match=r"did not arrive within 0\.05 seconds$"):
        await Connection(*parts, ends=False).body(seconds=0.05)


async def test_a_time_that_is_over_ends_the_reading_where_it_would_wait() -> None:
    assert await Connection(b"[1]").body(seconds=-1.0) == b"[1]"
    with pytest.raises(RequestTimeout):
        await Connection(b"[1", ends=False).body(seconds=-1.0)


@pytest.mark.parametrize("length", [b"6", b"07", b"1" * 18, b"1" * 19, b"9223372036854775808", b"9" * 5000], ids=len)
async def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(length: bytes) -> None:
    connection = Connection(b"[1, 2]", length=length)
    with pytest.raises(BodyTooLarge, match="at most 5 bytes"):
        await connection.body(limit=5)
    assert connection.taken == 0


async def test_a_body_as_long_as_the_limit_is_read_and_one_byte_more_is_not() -> None:
    for parts in ((b"[1,2]",), (b"[1,", b"2]")):
        assert await Connection(*parts, length=b"5").body(limit=5) == b"[1,2]"
        with pytest.raises(BodyTooLarge):
            await Connection(*parts).body(limit=4)


async def test_no_more_is_read_than_shows_that_the_body_is_too_long() -> None:
    connection = Connection(*[b"1234"] * 50, ends=False)
    with pytest.raises(BodyTooLarge):
        await connection.body(limit=10)
    assert connection.taken == 3


async def test_a_request_that_is_given_up_while_it_waits_for_its_body_ends_there() -> None:
    waiting = asyncio.ensure_future(Connection(b"[", ends=False).body())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("first", [(), ({"type": "http.request", "body": b"[", "more_body": True},)])
async def test_a_client_that_leaves_before_its_body_is_whole_has_disconnected(first: tuple[Message, ...]) -> None:
    messages = [*first, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    now = time.monotonic()
    scope = {"headers": Connection().headers, "state": {"started": now, "body_deadline": now + 30.0}}
    with pytest.raises(ClientDisconnect):
        await read_json(scope, receive, limit=100)


def raw_exchange(address: tuple[str, int], sent: bytes) -> bytes:
    """What a server answers to bytes, until it closes the connection."""
    with socket.create_connection(address, timeout=30) as caller:
        caller.sendall(sent)
        return b"".join(iter(lambda: caller.recv(1 << 16), b""))


HEAD = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{}\r\n\r\n"
PATHS = ["/v1/models/breast-cancer:predict", "/v2/models/breast-cancer/infer"]


@pytest.fixture(scope="module")
def hasty(serving: Callable[..., AbstractContextManager[Any]]) -> Iterator[tuple[str, int]]:
    """Address of a server that waits for a body for half a second."""
    with serving(SHIPPED, TEMPERANCE_BODY_SECONDS="0.5") as server:
        yield server.client.base_url.host, server.client.base_url.port


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sent", ["", '{"inst'])
@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
def test_a_body_that_stops_is_answered_408_and_the_connection_closed(
    path: str, sent: str, framing: str, hasty: tuple[str, int]
) -> None:
    chunk = f"{len(sent):x}\r\n{sent}\r\n" if sent and "chunked" in framing else sent
    answer = raw_exchange(hasty, (HEAD.format(path, framing) + chunk).encode()).lower()
    assert answer.startswith(b"http/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert b"0.5 seconds" in answer
    assert (b"urn:temperance:problem:request-timeout" in answer) == (path == PATHS[0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("framing", [f"Content-Length: {1 << 40}", f"Content-Length: {1 << 62}"])
def test_a_body_that_would_be_too_long_is_answered_413_without_a_request_to_go_on(
    path: str, framing: str, hasty: tuple[str, int]
) -> None:
    sent = HEAD.format(path, f"{framing}\r\nExpect: 100-continue")
    answer = raw_exchange(hasty, sent.encode()).lower()
    assert answer.startswith(b"http/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer
