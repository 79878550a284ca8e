"""HTTP for pulls: TLS, bounded redirects that never leave it, bytes as they are stored, errors in one line."""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from netrc import NetrcParseError
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx

from service.pull.pull_errors import PullFailed, SourceInterrupted, SourceMissing
from service.pull.source import Content

SECONDS: Final = 30.0
"""Without a byte; a whole file may take any time."""
MOST_REDIRECTS: Final = 5
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
PASSING: Final = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses after which another try may succeed."""


class WebClient:
    """Gets URLs.

    Parameters
    ----------
    plain_http : bool
        Whether ``http`` is allowed to other machines too; to this one it always is.
    netrc : bool
        Whether user names and passwords of hosts are read from the file that ``NETRC`` names, or from ``~/.netrc``.

    Raises
    ------
    PullFailed
        If that file, the authorities of ``SSL_CERT_FILE`` or a proxy that the environment states cannot be used.
    """

    def __init__(self, *, plain_http: bool = False, netrc: bool = False) -> None:
        self._plain_http = plain_http
        self._client = _client(_netrc() if netrc else None)

    def close(self) -> None:
        """End all connections."""
        self._client.close()

    @contextmanager
    def get(self, url: httpx.URL, headers: Mapping[str, str] = NO_HEADERS) -> Iterator[httpx.Response]:
        """The answer to a GET, whatever its status, redirects followed; its body is not read yet.

        Raises
        ------
        SourceInterrupted
            If the server cannot be reached or stops.
        PullFailed
            For a redirect that leaves TLS or does not end, or a certificate that is not accepted.
        """
        for _ in range(MOST_REDIRECTS + 1):
            self._check_scheme(url)
            with _translated(url), self._client.stream("GET", url, headers={**_PLAIN, **headers}) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                target = _target(url, response)
            if origin(target) != origin(url):  # a credential is of one server
                headers = {key: value for key, value in headers.items() if key.lower() != "authorization"}
            url = target
        raise PullFailed(f"{titled(url)}: more than {MOST_REDIRECTS} redirects in a row")

    @contextmanager
    def read(self, url: httpx.URL, offset: int) -> Iterator[Content]:
        """A file, from a byte on where the server can; `Source.read` describes the errors."""
        with self.get(url, part_headers(offset)) as response:
            yield content_of(url, response, offset)

    def _check_scheme(self, url: httpx.URL) -> None:
        if url.scheme == "https" or (url.scheme == "http" and (self._plain_http or is_loopback(url.host))):
            return
        more = "; --plain-http allows it, for networks that are closed to others" if url.scheme == "http" else ""
        raise PullFailed(f"{titled(url)}: only https is followed{more}")


def titled(url: httpx.URL) -> str:
    """A URL in messages: without user, password, query and fragment, which may be credentials."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def parsed(text: str) -> httpx.URL:
    """A URL whose host can be read.

    Raises
    ------
    httpx.InvalidURL, ValueError
    """
    url = httpx.URL(text)
    _ = url.host  # decoded on use, from punycode
    return url


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """What a credential belongs to: scheme, host and port."""
    return url.scheme, url.host, url.port


def below_user(path: str) -> Path:
    """A path that may begin with ``~``; as it stands where the user has no folder, as in some containers."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # `Path.expanduser` raises there


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_status(url: httpx.URL, response: httpx.Response) -> None:
    """Raise for a status that is no success: SourceMissing, SourceInterrupted or PullFailed."""
    status = response.status_code
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise SourceMissing(f"{titled(url)} is not there (HTTP {status})")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise PullFailed(f"{titled(url)}: access refused (HTTP {status}); docs/guide/pull.md says where credentials go")
    if status in PASSING:
        raise SourceInterrupted(f"{titled(url)}: HTTP {status}")
    if not response.is_success:
        raise PullFailed(f"{titled(url)}: HTTP {status}")


def part_headers(offset: int) -> dict[str, str]:
    """What requests a file from a byte on."""
    return {"Range": f"bytes={offset}-"} if offset else {}


def content_of(url: httpx.URL, response: httpx.Response, offset: int) -> Content:
    """A file from an answer, which may hold all of it or begin at the byte that was requested.

    Raises
    ------
    SourceMissing, SourceInterrupted, PullFailed
        As `check_status`, or for an answer that is not that file as it is stored.
    """
    if offset and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        is_whole = response.headers.get("content-range", "") == f"bytes */{offset}"
        return Content(offset if is_whole else 0, None, iter(()))  # else what lies here is no beginning of it
    check_status(url, response)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PullFailed(f"{titled(url)}: the server compresses files; let it send them as they are")
    length = response.headers.get("content-length", "")
    size = int(length) if length.isdecimal() and len(length) <= 18 else None
    # Bytes as they come: what a chunk of a fixed size has gathered would be lost where the connection ends.
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return Content(0, size, response.iter_raw())
    if not offset or not response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
        raise PullFailed(f"{titled(url)}: the server sent another part of the file than was requested")
    return Content(offset, None if size is None else offset + size, response.iter_raw())


def _target(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    try:
        target = parsed(str(url.join(response.headers["location"])))
    except (httpx.InvalidURL, ValueError):
        raise PullFailed(f"{titled(url)}: the server redirects to what is no URL") from None
    if target.scheme not in {"https", url.scheme}:
        raise PullFailed(f"{titled(url)}: the server redirects from {url.scheme} to another scheme, which is refused")
    return target


@contextmanager
def _translated(url: httpx.URL) -> Iterator[None]:
    """Errors of httpx as ours; their own texts may hold URLs with credentials."""
    try:
        yield
    except httpx.TimeoutException:
        raise SourceInterrupted(f"{titled(url)}: no answer within {SECONDS:.0f} s") from None
    except httpx.ConnectError as error:
        if _is_of_tls(error):
            raise PullFailed(
                f"{titled(url)}: its certificate is not accepted; SSL_CERT_FILE names a file of authorities"
            ) from None
        raise SourceInterrupted(f"{titled(url)}: it cannot be reached") from None
    except httpx.TransportError:
        raise SourceInterrupted(f"{titled(url)}: the connection ended early") from None
    except UnicodeError:
        raise PullFailed(f"{titled(url)}: its host is no name that a host can have") from None


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _client(auth: httpx.NetRCAuth | None) -> httpx.Client:
    try:
        return httpx.Client(follow_redirects=False, timeout=SECONDS, auth=auth)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PullFailed(f"the authorities of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {reason}") from None
    except (ValueError, httpx.InvalidURL):  # its text may hold a password
        raise PullFailed("a proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names has no usable URL") from None


def _netrc() -> httpx.NetRCAuth | None:
    path = below_user(os.environ.get("NETRC") or "~/.netrc")
    try:
        return httpx.NetRCAuth(str(path)) if path.is_file() else None
    except OSError as error:
        raise PullFailed(f"{path} cannot be read: {error.strerror}") from None
    except (NetrcParseError, ValueError) as error:  # its text may hold a password
        line = getattr(error, "lineno", None)
        raise PullFailed(f"{path} is no file of netrc{f': see line {line}' if line else ''}") from None


_PLAIN: Final = {"Accept-Encoding": "identity", "User-Agent": "temperance"}
