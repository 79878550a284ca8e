"""`oci://registry/repository:tag`: an artifact whose layers are files, as `oras push` makes it.

A layer's title (``org.opencontainers.image.title``) is the file's path in a repository, and its digest that of the
file. An artifact whose titles have no folders is one version. Layers that are archives are refused: nothing is ever
unpacked.

Tested in `tests/pull/test_registry_source.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import httpx

from service.bundle.sums import SUMS_FILE
from service.pull.pull_errors import PullFailed, SourceMissing
from service.pull.registry_login import authorization
from service.pull.source import Content, read_within
from service.pull.web_client import WebClient, content_of, is_loopback, origin, parsed, part_headers

ADDRESS: Final = re.compile(
    r"oci://(?P<registry>[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?)"
    r"/(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
TITLE: Final = "org.opencontainers.image.title"
UNPACK: Final = "io.deis.oras.content.unpack"
MOST_MANIFEST: Final = 4 << 20
"""Bytes; registries take no larger one."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A file of an artifact: where its bytes are, and what they must be."""

    digest: str
    size: int


class RegistrySource:
    """An artifact of a registry.

    Parameters
    ----------
    address : str
        ``oci://registry/repository``, with ``:tag`` (default ``latest``) or ``@sha256:…`` of the artifact's manifest.
    plain_http : bool
    """

    def __init__(self, address: str, *, plain_http: bool = False) -> None:
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise PullFailed(_NO_ARTIFACT)
        self.title = address
        self._registry, self._digest = found["registry"], found["digest"]
        self._reference = found["digest"] or found["tag"] or "latest"
        try:
            url = parsed(f"https://{self._registry}/v2/{found['repository']}")
        except (httpx.InvalidURL, ValueError):
            raise PullFailed(_NO_ARTIFACT) from None
        self._base = url.copy_with(scheme="http") if plain_http or is_loopback(url.host) else url
        self._client = WebClient(plain_http=plain_http)
        self._login: dict[str, str] = {}

    def close(self) -> None:
        """As `Source.close`."""
        self._client.close()

    def names(self) -> list[str]:
        """As `Source.names`."""
        if self._is_one_version:
            raise PullFailed(f"{self.title} is one version without a name; say which: NAME/VERSION")
        return sorted({title.partition("/")[0] for title in self._layers if title.count("/") == 2})

    def sizes(self, folder: str) -> Mapping[str, int]:
        """As `Source.sizes`."""
        found = ((title.rpartition("/"), layer.size) for title, layer in self._layers.items())
        return {name: size for (place, _, name), size in found if self._is_one_version or place == folder}

    @contextmanager
    def read(self, path: str, offset: int = 0) -> Iterator[Content]:
        """As `Source.read`; a file that is read from its beginning is checked against its layer's digest."""
        layer = self._layers.get(path.rpartition("/")[2] if self._is_one_version else path)
        if layer is None:
            raise SourceMissing(f"{self.title} holds no {path}")
        if offset == layer.size:  # all of it has come
            yield Content(offset, layer.size, iter(()))
            return
        with self._opened(f"blobs/{layer.digest}", offset if offset < layer.size else 0) as content:
            if content.size not in {layer.size, None}:
                raise PullFailed(f"{self.title}: {path} is not as large as the artifact's manifest states")
            chunks = content.chunks if content.offset else self._checked(content.chunks, layer, path)
            yield Content(content.offset, layer.size, chunks)

    @cached_property
    def _layers(self) -> dict[str, Layer]:
        try:
            with self._opened(f"manifests/{self._reference}", 0, MANIFEST) as content:
                text = read_within(content.chunks, MOST_MANIFEST, f"the manifest of {self.title}")
        except SourceMissing as error:  # not a file of it: all of it
            raise PullFailed(f"{self.title} is not there: {error}") from None
        if self._digest and f"sha256:{hashlib.sha256(text).hexdigest()}" != self._digest:
            raise PullFailed(f"{self.title}: the registry sent another manifest than that of this digest")
        layers = dict(_titled_layers(text, self.title))
        if not any(title.rpartition("/")[2] == SUMS_FILE for title in layers):
            raise PullFailed(f"{self.title} holds no file {SUMS_FILE} of a version; {_PUSH_FILES}")
        return layers

    @property
    def _is_one_version(self) -> bool:
        """Whether its files have no folders; the command line then says which version they are."""
        return SUMS_FILE in self._layers

    @contextmanager
    def _opened(self, path: str, offset: int, accept: str = "*/*") -> Iterator[Content]:
        url = self._base.copy_with(path=f"{self._base.path}/{path}")
        headers = {"Accept": accept, **part_headers(offset)}
        with ExitStack() as stack:
            response = stack.enter_context(self._client.get(url, {**headers, **self._login}))
            if challenge := self._challenge(response):  # at first, and when a token has run out
                self._login = {"Authorization": authorization(self._client, url, challenge, self._registry)}
                response = stack.enter_context(self._client.get(url, {**headers, **self._login}))
            yield content_of(url, response, offset)

    def _challenge(self, response: httpx.Response) -> str:
        """What the registry itself needs before it answers; a server that it redirects to is not logged in to."""
        is_own = response.status_code == httpx.codes.UNAUTHORIZED and origin(response.url) == origin(self._base)
        return response.headers.get("www-authenticate", "") if is_own else ""

    def _checked(self, chunks: Iterator[bytes], layer: Layer, path: str) -> Iterator[bytes]:
        found = hashlib.sha256()
        for chunk in chunks:
            found.update(chunk)
            yield chunk
        if f"sha256:{found.hexdigest()}" != layer.digest:
            raise PullFailed(f"{self.title}: {path} does not match its layer's digest")


def _titled_layers(text: bytes, title: str) -> Iterator[tuple[str, Layer]]:
    seen = set[str]()
    for entry in _entries(text, title):
        annotations = entry.get("annotations")
        path = annotations.get(TITLE) if isinstance(annotations, dict) else None
        if not isinstance(path, str):
            continue
        if isinstance(annotations, dict) and annotations.get(UNPACK) == "true":
            raise PullFailed(f"{title}: {path[:80]!a} is an archive of a folder; {_PUSH_FILES}")
        digest, size = entry.get("digest"), entry.get("size")
        is_sound = isinstance(digest, str) and DIGEST.fullmatch(digest) and type(size) is int and size >= 0
        if not is_sound or path in seen:
            raise PullFailed(f"{title}: its manifest lists {path[:80]!a} {'twice' if path in seen else 'wrongly'}")
        seen.add(path)
        yield path, Layer(str(digest), int(size or 0))


def _entries(text: bytes, title: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise PullFailed(f"{title}: its manifest is not JSON") from None
    layers = found.get("layers") if isinstance(found, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise PullFailed(f"{title} is no artifact with layers; name one manifest, not an index of several")
    return layers


_NO_ARTIFACT: Final = "the source names no artifact; oci://registry/repository:tag or …@sha256:DIGEST does"
_PUSH_FILES: Final = "push its files one by one: `oras push REGISTRY/REPOSITORY:TAG NAME/aliases.toml NAME/1/*`"
