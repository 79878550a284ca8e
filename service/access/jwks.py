"""Public keys of an issuer of tokens (RFC 7517), read from the one URL that is configured for it.

Nothing in a token decides where keys come from. Unknown ids of keys cause one look in `PAUSE_SECONDS` at most, however
many of them come; requests that wait for the same look share it.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpx
import jiter
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from service.access.access_errors import IssuerUnavailable

LEAST_AGE, USUAL_AGE, MOST_AGE = 60.0, 300.0, 900.0
"""Seconds for which keys are used before they are read again; the issuer's `max-age` counts within the bounds."""
STALE_SECONDS: Final = 86_400.0  # for which keys are used while the issuer cannot be reached
PAUSE_SECONDS: Final = 10.0  # between two looks
FETCH_SECONDS: Final = 5.0
MOST_BYTES: Final = 256 << 10
MOST_KEYS: Final = 256
MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})", re.IGNORECASE)

Keys = dict[tuple[str, str], PyJWK]
"""By id and algorithm."""

log = logging.getLogger("temperance")


class _Fetched(NamedTuple):
    body: bytes
    max_age: float


@dataclass(slots=True)
class _Ages:
    read: float | None = None  # when keys were last read
    fresh_until: float = float("-inf")
    tried: float = float("-inf")
    is_failing: bool = False  # the last look


class Jwks:
    """The keys of one issuer.

    Parameters
    ----------
    url : str
    algorithms : sequence of str
        For which the keys may be used.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, url: str, algorithms: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._algorithms, self._clock = url, tuple(algorithms), clock
        self._tls = httpx.create_ssl_context()  # takes some ten milliseconds, so it is not made when a request waits
        self._keys: Keys = {}
        self._ages = _Ages()
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str, algorithm: str) -> PyJWK | None:
        """The key with that id, if it is there and its type is the algorithm's.

        Raises
        ------
        IssuerUnavailable
            If no keys could be read, or none for so long that what is known counts no longer.
        """
        found = self._keys.get((key_id, algorithm))
        if found is None or self._clock() >= self._ages.fresh_until:
            look = self._look()
            # While the issuer does not answer, a key that still counts waits for no further look.
            if look is not None and (found is None or not self._ages.is_failing):
                await asyncio.shield(look)  # a caller that disconnects does not end what others wait for
            found = self._keys.get((key_id, algorithm))
        if self._ages.read is None or self._clock() - self._ages.read > STALE_SECONDS:
            raise IssuerUnavailable("the token cannot be checked now: the keys of its issuer cannot be read")
        return found

    def _look(self) -> asyncio.Task[None] | None:
        if self._fetching is None and self._clock() - self._ages.tried >= PAUSE_SECONDS:
            self._ages.tried = self._clock()
            self._fetching = asyncio.ensure_future(self._read())
        return self._fetching

    async def _read(self) -> None:
        try:
            fetched = await _fetch(self._url, self._tls)
            self._keys = read_keys(fetched.body, self._algorithms)
        except (httpx.HTTPError, OSError, ValueError) as error:  # TimeoutError is an OSError
            self._ages.is_failing = True
            log.warning("the keys of an issuer of tokens cannot be read: %s", type(error).__name__)
        else:
            self._ages.is_failing = False
            self._ages.read = self._clock()
            self._ages.fresh_until = self._ages.read + fetched.max_age
        finally:
            self._fetching = None


async def _fetch(url: str, tls: ssl.SSLContext) -> _Fetched:
    # Redirects are not followed, and nothing is decompressed: what is read is what was bounded.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with (
        asyncio.timeout(FETCH_SECONDS),
        httpx.AsyncClient(verify=tls, follow_redirects=False, timeout=FETCH_SECONDS) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError("not found")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > MOST_BYTES:
                raise ValueError("too large")
        return _Fetched(bytes(body), _age(response.headers.get("cache-control", "")))


def _age(cache_control: str) -> float:
    found = MAX_AGE.search(cache_control)
    usual = LEAST_AGE if "no-" in cache_control else USUAL_AGE
    return min(max(float(found[1]) if found else usual, LEAST_AGE), MOST_AGE)


def read_keys(body: bytes, algorithms: Sequence[str]) -> Keys:
    """Keys of a JWK set by id and algorithm; those that fit none of the algorithms are left out.

    Parameters
    ----------
    body : bytes
    algorithms : sequence of str

    Raises
    ------
    ValueError
        If it is no JWK set.
    """
    document = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise ValueError("no JWK set")
    found: Keys = {}
    for entry in (one for one in listed if isinstance(one, dict) and is_for_signatures(one)):
        for key in _usable(entry, algorithms):
            found.setdefault((entry["kid"], key.algorithm_name), key)
    return found


def is_for_signatures(entry: dict[str, Any]) -> bool:
    """Whether a JWK has an id, and is there to check signatures with."""
    operations = entry.get("key_ops", ["verify"])
    has_id = isinstance(entry.get("kid"), str) and bool(entry["kid"])
    return has_id and entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _usable(entry: dict[str, Any], algorithms: Sequence[str]) -> Iterator[PyJWK]:
    for algorithm in algorithms:
        kind = entry.get("kty"), *([entry.get("crv")] if entry.get("kty") != "RSA" else [])
        if kind in KINDS[algorithm] and entry.get("alg", algorithm) == algorithm:
            try:
                yield PyJWK(entry, algorithm)
            except PyJWTError:
                log.warning("a key of an issuer of tokens cannot be read")


_RSA: Final = (("RSA",),)
KINDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "RS256": _RSA,
    "RS384": _RSA,
    "RS512": _RSA,
    "PS256": _RSA,
    "PS384": _RSA,
    "PS512": _RSA,
    "ES256": (("EC", "P-256"),),
    "ES384": (("EC", "P-384"),),
    "EdDSA": (("OKP", "Ed25519"), ("OKP", "Ed448")),
}
"""Algorithm -> type, and curve, of the keys that it may be used with."""
