"""`https://host/path`: any web server that gives out files; it needs no index but each version's sums.

Tested in `tests/pull/test_source_kinds.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

import httpx

from service.pull.pull_errors import PullFailed
from service.pull.source import Content
from service.pull.web_client import WebClient, parsed, titled


class WebSource:
    """A folder of a web server.

    Parameters
    ----------
    address : str
    plain_http : bool
    """

    def __init__(self, address: str, *, plain_http: bool = False) -> None:
        self._base = _checked(address)
        self._client = WebClient(plain_http=plain_http, netrc=True)

    @property
    def title(self) -> str:
        """As `Source.title`."""
        return titled(self._base).rstrip("/")

    def close(self) -> None:
        """As `Source.close`."""
        self._client.close()

    def names(self) -> list[str]:
        """As `Source.names`: a web server lists nothing."""
        raise PullFailed(f"{self.title}: a web server does not list models; name them: `temperance pull URL NAME`")

    def sizes(self, folder: str) -> Mapping[str, int]:
        """As `Source.sizes`: there is no index; every file's size is checked when it is opened."""
        del folder
        return {}

    @contextmanager
    def read(self, path: str, offset: int = 0) -> Iterator[Content]:
        """As `Source.read`."""
        place = self._base.raw_path.rstrip(b"/") + b"/" + quote(path).encode()
        with self._client.read(self._base.copy_with(raw_path=place), offset) as content:
            yield content


def _checked(address: str) -> httpx.URL:
    try:
        url = parsed(address)
    except (httpx.InvalidURL, ValueError):
        raise PullFailed("the source is no URL; https://host/path is one") from None
    if not url.host:
        raise PullFailed("the source names no host; https://host/path does")
    if url.userinfo or url.query or url.fragment:
        raise PullFailed(_NO_MORE)
    return url


_NO_MORE: Final = (
    "the source's URL has only a host and a path: a user and password belong into the file that NETRC names, because a "
    "command line is seen by others"
)
