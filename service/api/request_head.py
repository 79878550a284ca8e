"""The head of a request: what the parser lets pass, and HTTP does not, or the service does not need.

The parser (llhttp, strict) refuses bare line feeds, folded fields, control characters, and lengths that contradict each
other. It lets any number of bytes and fields pass, any `Host`, HTTP/0.9 and 2.0, and any coding of the body.
"""

import re
from collections.abc import Sequence
from typing import Final

import httptools

from service.api.http_errors import HeadersTooLarge, MalformedHttp, MethodNotAllowed, UriTooLong
from service.errors import ServiceError

MOST_FIELDS: Final = 100
MOST_URL: Final = 4096
VERSIONS: Final = frozenset({"1.0", "1.1"})
WATCHED: Final = frozenset({b"host", b"transfer-encoding", b"expect"})
"""Fields that decide how a request is read; their names are in lower case."""

_AUTHORITY: Final = rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
HOST: Final = re.compile(_AUTHORITY)
CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,32}")
FIRST_LINE_END: Final = b" HTTP/1.1\r\n"
OTHER_PROTOCOL: Final = re.compile(rb"[\r\n]*[^\r\n]* (?:RTSP|ICE)/")
"""First lines of protocols that the parser reads too."""
REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^\s]+ HTTP/1\.[01]\r\n")
ABSOLUTE: Final = re.compile(rb"https?://" + _AUTHORITY + rb"(?P<target>[/?][^#]*)?", re.IGNORECASE)

Headers = Sequence[tuple[bytes, bytes]]


def check_size(headers: Headers, most_bytes: int) -> None:
    """Refuse what is larger than any request needs.

    Parameters
    ----------
    headers : sequence of (name, value)
    most_bytes : int
        Of all names and values, and of four more for each: colon, space, line end.

    Raises
    ------
    HeadersTooLarge
    """
    if len(headers) > MOST_FIELDS:
        raise HeadersTooLarge(f"send at most {MOST_FIELDS} header fields")
    if sum(len(name) + len(value) + 4 for name, value in headers) > most_bytes:
        raise too_large(most_bytes)


def too_large(most_bytes: int) -> HeadersTooLarge:
    """Of header fields that have more bytes than may be."""
    return HeadersTooLarge(f"send at most {most_bytes} bytes of header fields")


def target_of(url: bytes, method: bytes) -> bytes:
    """The path and query that are routed, of whatever form a request names them in.

    Raises
    ------
    MalformedHttp, UriTooLong

    Examples
    --------
    >>> target_of(b"http://a.example:8000?x=1", b"GET")
    b'/?x=1'

    References
    ----------
    RFC 9112, section 3.2.
    """
    if len(url) > MOST_URL:
        raise too_long()
    if url.startswith(b"/") and b"#" not in url:
        return url
    if url == b"*" and method == b"OPTIONS":
        return url
    absolute = ABSOLUTE.fullmatch(url)
    if absolute is None:
        raise MalformedHttp("name the path from its first slash on, without a fragment")
    target: bytes = absolute["target"] or b"/"
    return target if target.startswith(b"/") else b"/" + target


def too_long() -> UriTooLong:
    """Of a path and query that have more bytes than may be."""
    return UriTooLong(f"send at most {MOST_URL} bytes of path and query")


def chunk_size(data: bytes, received: int) -> int:
    r"""Bytes that the chunk states at whose data some bytes end.

    Parameters
    ----------
    data : bytes
        With the line of its size before its data. Of a line that began in an earlier read only the end is there: then
        the size is read too small, never too large.
    received : int
        Bytes of the chunk's data at the end of ``data``.

    Examples
    --------
    >>> chunk_size(b"abc\r\nff;name=value\r\n0123", 4)
    255
    """
    line = data[: len(data) - received].removesuffix(b"\r\n").rpartition(b"\r\n")[2]
    digits = line.partition(b";")[0]
    return int(digits, 16) if CHUNK_SIZE.fullmatch(digits) else 0


def check_version(version: str) -> None:
    """Refuse HTTP/0.9, which has no header fields, and what is only called HTTP/2.0.

    Raises
    ------
    MalformedHttp
    """
    if version not in VERSIONS:
        raise MalformedHttp("send HTTP/1.1")


def check_watched(watched: Headers, version: str) -> None:
    """Refuse a request whose host or whose body another reader could understand in another way.

    Parameters
    ----------
    watched : sequence of (name, value)
        Its fields among `WATCHED`.
    version : str

    Raises
    ------
    MalformedHttp
        Unless there is one `Host` (HTTP/1.0 may have none) that is a name or an address, and no transfer coding but
        `chunked`.

    References
    ----------
    RFC 9112, sections 3.2 and 6.1.
    """
    hosts = [value for name, value in watched if name == b"host"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise MalformedHttp("send exactly one Host")
    if not all(HOST.fullmatch(host.strip()) for host in hosts):
        raise MalformedHttp("send as Host a name or an address, and perhaps a port")
    codings = [value.strip().lower() for name, value in watched if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or version == "1.0"):
        raise MalformedHttp("send no transfer coding but chunked, and none with HTTP/1.0")


def check_upgrade(headers: Headers) -> None:
    """Refuse the handshake of a WebSocket; any other upgrade is ignored, for clients offer HTTP/2 by habit.

    Raises
    ------
    MalformedHttp
    """
    if any(name == b"upgrade" and b"websocket" in value.lower() for name, value in headers):
        raise MalformedHttp("no path has a WebSocket; send an ordinary request")


def meaning_of(error: httptools.HttpParserError, data: bytes) -> ServiceError:
    """What a client learns of bytes that cannot be read; the parser's own words are of no use to one.

    Parameters
    ----------
    error : httptools.HttpParserError
        Around an error of this module, where one was raised while the parser read.
    data : bytes
        That the parser was given.
    """
    if isinstance(error.__context__, ServiceError):
        return error.__context__
    if isinstance(error, httptools.HttpParserInvalidMethodError) and REQUEST_LINE.match(data):
        return MethodNotAllowed("no path has this method")
    return MalformedHttp("send one complete HTTP/1.1 request at a time, with CRLF at the end of every line of its head")
