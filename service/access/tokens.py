"""JSON Web Tokens of configured issuers (RFC 7519, RFC 8725, RFC 9068).

The issuer's entry alone says which algorithms count and where its keys are: `jku`, `x5u`, `jwk` and `x5c` of a token
are never read. Verified tokens are remembered for `REMEMBERED_SECONDS` by their digest, so that a request costs
microseconds.
"""

import base64
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

import jiter
import jwt

from service.access.caller import SCOPES, Caller
from service.access.jwks import Jwks
from service.errors import TokenExpired, Unauthenticated

LEEWAY_SECONDS: Final = 30.0  # by which the clocks of issuers may differ from ours
REMEMBERED_SECONDS: Final = 60.0
MOST_REMEMBERED: Final = 4096
MOST_BYTES: Final = 8 << 10
FORM: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
SUBJECT: Final = re.compile(r"[!-~]{1,255}")  # OpenID Connect: at most 255 characters of ASCII
KEY_ID: Final = re.compile(r"[ -~]{1,256}")
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
FAR: Final = 1 << 40  # seconds; a time that no double holds is as good
REQUIRED: Final = ["iss", "aud", "exp", "sub"]

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Who issues tokens that are accepted.

    Attributes
    ----------
    issuer, audience : str
        As the claims `iss` and `aud` must name them.
    jwks_url : str
    algorithms : tuple of str
        Asymmetric ones.
    scopes_claim : str
        That carries the scopes, as a list or as one text with spaces.
    """

    issuer: str
    audience: str
    jwks_url: str
    algorithms: tuple[str, ...]
    scopes_claim: str


class _Remembered(NamedTuple):
    caller: Caller
    expires: float  # by the time of day
    until: float  # by the clock that only grows


class _Refused(ValueError):
    """Why a token does not count; for the log alone, and without anything of the token."""


class Tokens:
    """Callers by their tokens.

    Parameters
    ----------
    issuers : sequence of TokenIssuer
        No two with the same `issuer`.
    now : callable
        Seconds since 1970.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        issuers: Sequence[TokenIssuer],
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys = {issuer.issuer: Jwks(issuer.jwks_url, issuer.algorithms, clock=clock) for issuer in issuers}
        self._now, self._clock = now, clock
        self._remembered: dict[bytes, _Remembered] = {}

    def remembered(self, token: bytes) -> Caller | None:
        """The caller of a token that was verified a moment ago; None for any other token."""
        found = self._remembered.get(sha256(token).digest())
        if found is None or self._clock() >= found.until or self._now() >= found.expires:
            return None
        return found.caller

    async def caller(self, token: bytes) -> Caller:
        """The caller of a token.

        Raises
        ------
        Unauthenticated
            If the token is not valid here; the error does not say why, the log does.
        TokenExpired
        IssuerUnavailable
        """
        known = self.remembered(token)
        if known is not None:
            return known
        try:
            return await self._verified(token)
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the token has expired; its issuer gives a new one") from None
        except (jwt.PyJWTError, _Refused) as error:
            reason = str(error) if isinstance(error, _Refused) else type(error).__name__
            log.info("a token was refused: %s", reason)
            raise Unauthenticated("the token is not valid here") from None

    async def _verified(self, token: bytes) -> Caller:
        header, stated = _unverified(token)
        issuer = self._issuers.get(stated) if isinstance(stated, str) else None
        if issuer is None:
            raise _Refused("its issuer is not configured")
        _check_header(header, issuer.algorithms)
        key = await self._keys[issuer.issuer].key(header["kid"], header["alg"])
        if key is None:
            raise _Refused("its issuer has no key with that id and algorithm")
        claims = jwt.decode(
            token,
            key,
            [header["alg"]],
            {"require": REQUIRED, "enforce_minimum_key_length": True},
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=LEEWAY_SECONDS,
        )
        caller = caller_of(issuer, claims)
        self._remember(token, caller, float(min(int(claims["exp"]), FAR)))
        return caller

    def _remember(self, token: bytes, caller: Caller, expires: float) -> None:
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))  # the first that was remembered
        until = self._clock() + REMEMBERED_SECONDS
        digest = sha256(token).digest()
        self._remembered.pop(digest, None)
        self._remembered[digest] = _Remembered(caller, expires + LEEWAY_SECONDS, until)


def caller_of(issuer: TokenIssuer, claims: dict[str, Any]) -> Caller:
    """The caller that verified claims name; scopes that the service does not know do not count."""
    if not SUBJECT.fullmatch(claims["sub"]):
        raise _Refused("its subject is not 1 to 255 printable characters of ASCII")
    if "cnf" in claims:  # RFC 7800: it counts with a proof of that key, and a bearer gives none
        raise _Refused("it is bound to a key")
    claim = claims.get(issuer.scopes_claim)
    granted = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    scopes = frozenset(scope for scope in SCOPES if scope in granted)
    return Caller(f"jwt:{issuer.issuer}|{claims['sub']}", scopes)


def _unverified(token: bytes) -> tuple[dict[str, Any], object]:
    if len(token) > MOST_BYTES or not FORM.fullmatch(token):
        raise _Refused("it has not the form of a token")
    header, claims = (_object(part) for part in token.split(b".")[:2])
    return header, claims.get("iss")


def _object(part: bytes) -> dict[str, Any]:
    # Stricter than the library's reader: no key twice, no NaN, no deep nesting.
    try:
        raw = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
        document = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        raise _Refused("it is not made of JSON objects") from None
    if not isinstance(document, dict):
        raise _Refused("it is not made of JSON objects")
    return document


def _check_header(header: dict[str, Any], algorithms: Sequence[str]) -> None:
    if header.get("alg") not in algorithms:
        raise _Refused("its algorithm is not configured for its issuer")
    if not isinstance(header.get("kid"), str) or not KEY_ID.fullmatch(header["kid"]):
        raise _Refused("it names no key")
    if "crit" in header or header.get("b64", True) is not True:
        raise _Refused("it has extensions that must be understood")
    if str(header.get("typ", "JWT")).lower() not in TYPES:
        raise _Refused("it is a token of another type")
