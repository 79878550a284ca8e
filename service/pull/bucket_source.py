"""`s3://bucket/prefix`: objects whose keys are the paths of a repository, as `aws s3 sync` leaves them.

Region, endpoint and credentials are those that the environment states: ``AWS_…`` variables, a web identity (IRSA), a
container's or a machine's role.

Tested in `tests/pull/test_source_kinds.py`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import httpx

from service.pull.pull_errors import PullFailed, SourceInterrupted, SourceMissing
from service.pull.source import Content
from service.pull.web_client import SECONDS, is_loopback, parsed

PART: Final = 8 << 20
"""Bytes of one request: what an interrupted request costs at most."""
ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketSource:
    """A prefix of a bucket.

    Parameters
    ----------
    address : str
    plain_http : bool
    """

    def __init__(self, address: str, *, plain_http: bool = False) -> None:
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        if not BUCKET.fullmatch(bucket):
            raise PullFailed("the source names no bucket; s3://bucket/prefix does")
        self._title = f"s3://{bucket}/{prefix}".rstrip("/")
        self._library = _library()
        with self._translated(""):
            self._store = import_module("obstore.store").S3Store(
                bucket,
                prefix=prefix.strip("/") or None,
                client_options=_client_options(plain_http=plain_http),
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=SECONDS)},
            )

    @property
    def title(self) -> str:
        """As `Source.title`."""
        return self._title

    def close(self) -> None:
        """As `Source.close`: it keeps none."""

    def names(self) -> list[str]:
        """As `Source.names`."""
        with self._translated(""):
            return sorted(self._library.list_with_delimiter(self._store)["common_prefixes"])

    def sizes(self, folder: str) -> Mapping[str, int]:
        """As `Source.sizes`."""
        with self._translated(folder):
            found = self._library.list_with_delimiter(self._store, prefix=folder)["objects"]
        return {entry["path"].rpartition("/")[2]: entry["size"] for entry in found}

    @contextmanager
    def read(self, path: str, offset: int = 0) -> Iterator[Content]:
        """As `Source.read`."""
        with self._translated(path):
            size = self._library.head(self._store, path)["size"]
        begin = min(offset, size)
        yield Content(begin, size, self._chunks(path, begin, size))

    def _chunks(self, path: str, begin: int, size: int) -> Iterator[bytes]:
        for start in range(begin, size, PART):
            with self._translated(path):
                part = self._library.get_range(self._store, path, start=start, end=min(start + PART, size))
            yield bytes(part)

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Errors of the library as ours; their own texts hold what a server answered, and so perhaps key ids."""
        place = f"{self._title}/{path}".rstrip("/")
        errors = import_module("obstore.exceptions")
        try:
            yield
        except FileNotFoundError:
            raise SourceMissing(f"{place} is not there") from None
        except (errors.PermissionDeniedError, errors.UnauthenticatedError):
            raise PullFailed(f"{place}: access refused; AWS_… variables or a role state credentials") from None
        except errors.GenericError:
            raise SourceInterrupted(f"{place}: the server cannot be reached, stopped early, or failed") from None
        except (errors.BaseError, ValueError) as error:
            raise PullFailed(f"{place}: it cannot be read ({type(error).__name__})") from None


def _library() -> Any:
    try:
        return import_module("obstore")
    except ImportError:
        raise PullFailed(
            "s3:// needs the package obstore, which is not installed: pip install 'temperance[pull]'"
        ) from None


def _allows_http() -> bool:
    """Whether the endpoint is this machine, or the environment says so.

    Raises
    ------
    PullFailed
        If the endpoint needs it and nothing does, or is no URL.
    """
    endpoint = next(filter(None, map(os.environ.get, ENDPOINTS)), "")
    is_plain = endpoint.lower().startswith("http://")
    allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"true", "1"}
    try:
        is_here = is_loopback(parsed(endpoint).host)
    except (httpx.InvalidURL, ValueError):
        raise PullFailed(f"the endpoint of s3://, of {' or '.join(ENDPOINTS)}, is no URL") from None
    if is_plain and not allowed and not is_here:
        raise PullFailed("the endpoint of s3:// is without TLS; --plain-http allows it")
    return is_plain


def _client_options(*, plain_http: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"read_timeout": timedelta(seconds=SECONDS), "user_agent": "temperance"}
    if plain_http or _allows_http():
        options["allow_http"] = True
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if bundle:
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise PullFailed(f"{bundle}, of AWS_CA_BUNDLE or SSL_CERT_FILE: {error.strerror}") from None
    return options
