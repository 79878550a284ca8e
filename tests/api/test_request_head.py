"""The head of a request, without a server; what comes of it on the wire is in `test_http_protocol.py`."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import request_head
from service.api.http_errors import HeadersTooLarge, MalformedHttp, MethodNotAllowed, UriTooLong
from service.api.request_head import check_size, check_version, check_watched, chunk_size, meaning_of, target_of

HOST = (b"host", b"x")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    "host",
    [
        b"x",
        b"X.example",
        b"a_b-c.example:8000",
        b"127.0.0.1",
        b"127.0.0.1:65535",
        b"[::1]",
        b"[2001:db8::1]:80",
        b" x ",
    ],
)
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(host: bytes) -> None:
    check_watched([(b"host", host)], "1.1")


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a@b",
        b"a b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a,b",
        b"a:b",
        b"a:",
        b"a:123456",
        b"[::1",
        b"::1",
        b"a%2fb",
        b"a\\b",
    ],
)
def test_any_other_host_is_refused(host: bytes) -> None:
    with pytest.raises(MalformedHttp):
        check_watched([(b"host", host)], "1.1")


@pytest.mark.parametrize("fields", [[], [HOST, HOST], [HOST, (b"host", b"y")]])
def test_there_is_one_host(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedHttp, match="exactly one Host"):
        check_watched(fields, "1.1")


def test_http_1_0_may_have_no_host_and_no_more_than_one() -> None:
    check_watched([], "1.0")
    check_watched([HOST], "1.0")
    with pytest.raises(MalformedHttp):
        check_watched([HOST, HOST], "1.0")


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked "])
def test_chunks_are_the_only_coding(value: bytes) -> None:
    check_watched([HOST, (b"transfer-encoding", value)], "1.1")


@pytest.mark.parametrize("fields", [[(b"transfer-encoding", b"gzip, chunked")], [CHUNKED, CHUNKED]])
def test_any_other_coding_is_refused(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedHttp, match="chunked"):
        check_watched([HOST, *fields], "1.1")


def test_http_1_0_has_no_chunks() -> None:
    with pytest.raises(MalformedHttp, match="chunked"):
        check_watched([HOST, CHUNKED], "1.0")


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0", "1.2"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(MalformedHttp, match=r"HTTP/1\.1"):
        check_version(version)


def test_fields_are_bounded_in_number_and_in_bytes() -> None:
    check_size([(b"a", b"b")] * 100, 600)
    with pytest.raises(HeadersTooLarge, match="100 header fields"):
        check_size([(b"a", b"b")] * 101, 1000)
    with pytest.raises(HeadersTooLarge, match="599 bytes"):
        check_size([(b"a", b"b")] * 100, 599)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (b"/a?b=c", b"/a?b=c"),
        (b"//a", b"//a"),
        (b"/a:b@c", b"/a:b@c"),
        (b"http://x", b"/"),
        (b"HTTPS://x:1/a?b", b"/a?b"),
        (b"http://x?b", b"/?b"),
    ],
)
def test_a_target_is_routed_by_its_path(url: bytes, target: bytes) -> None:
    assert target_of(url, b"GET") == target


@pytest.mark.parametrize(
    "url", [b"", b"a", b"*", b"/a#b", b"@x/a", b"x:80", b"ftp://x/a", b"http:///a", b"http://a@x/", b"?a"]
)
def test_any_other_target_is_refused(url: bytes) -> None:
    with pytest.raises(MalformedHttp):
        target_of(url, b"GET")


def test_the_asterisk_is_a_target_of_options_alone() -> None:
    assert target_of(b"*", b"OPTIONS") == b"*"


def test_a_target_is_bounded() -> None:
    assert target_of(b"/" * 4096, b"GET") == b"/" * 4096
    with pytest.raises(UriTooLong, match="4096"):
        target_of(b"/" * 4097, b"GET")


@given(size=st.integers(0, 2**64), before=st.binary(max_size=20), data=st.binary(max_size=20), extension=st.booleans())
def test_the_size_of_a_chunk_is_read_whatever_stands_before_it(
    size: int, before: bytes, data: bytes, *, extension: bool
) -> None:
    line = b"%x" % size + (b";name=value" if extension else b"")
    assert chunk_size(before + b"\r\n" + line + b"\r\n" + data, len(data)) == size


@given(size=st.integers(0, 2**64), cut=st.integers(0, 20), data=st.binary(max_size=20))
def test_the_size_of_a_chunk_whose_line_is_cut_is_not_read_too_large(size: int, cut: int, data: bytes) -> None:
    assert chunk_size((b"%x\r\n" % size)[cut:] + data, len(data)) <= size


class NothingRead:
    """Takes no event."""


def failure_of(data: bytes) -> httptools.HttpParserError:
    with pytest.raises(httptools.HttpParserError) as failed:
        httptools.HttpRequestParser(NothingRead()).feed_data(data)
    return failed.value


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"ZQ7 / HTTP/1.1\r\n", MethodNotAllowed),
        (b"get /a?b HTTP/1.0\r\n", MethodNotAllowed),
        (b"ZQ7 / HTTP/2.0\r\n", MalformedHttp),
        (b"\x16\x03\x01", MalformedHttp),
        (b"GET / HTTP/1.1\nHost: x\n\n", MalformedHttp),
    ],
)
def test_an_unknown_method_is_distinguished_from_bytes_that_are_no_http(data: bytes, kind: type[Exception]) -> None:
    meant = meaning_of(failure_of(data), data)
    assert type(meant) is kind
    assert "zq7" not in meant.detail.lower()


def test_watched_fields_have_names_in_lower_case() -> None:
    assert all(name == name.lower() for name in request_head.WATCHED)
