"""API keys: how one is made, what is stored of it, and how a text is checked against the keys that live."""

import base64
import hashlib
import hmac
import math
import secrets
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.access.caller import Caller, Scope
from service.errors import TokenExpired, Unauthenticated

PREFIX: Final = "tmp_"
ID_LENGTH: Final = 12
SECRET_BYTES: Final = 32
LENGTH: Final = len(PREFIX) + ID_LENGTH + 1 + 52 + 7
"""Of a key: prefix, id, an underscore, the secret and a checksum, in the letters of base32."""
NAME_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
PerMinute = Annotated[int, Field(ge=1)]


class ApiKey(BaseModel):
    """What is stored of a key: all but its secret.

    Attributes
    ----------
    id : str
        Public; it is part of the key.
    name : str
        Of the caller. Several keys of one name are the same caller, so that one can replace another.
    sha256 : str
        Of the whole key. Its secret has 256 random bits, which no one can guess, so a slow hash would protect nothing.
    scopes : tuple of str
    models : tuple of str or None
        That it may use; None for all.
    created : datetime
    expires : datetime or None
    requests_per_minute, rows_per_minute : int or None
        None for what the settings give every caller.
    revoked : datetime or None
        From when on it is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(pattern=f"^[a-z2-7]{{{ID_LENGTH}}}$")]
    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    models: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    created: AwareDatetime
    expires: AwareDatetime | None = None
    requests_per_minute: PerMinute | None = None
    rows_per_minute: PerMinute | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"

    def caller(self) -> Caller:
        """Who sends requests with it."""
        return Caller(
            name=f"key:{self.name}",
            scopes=frozenset(self.scopes),
            models=None if self.models is None else frozenset(self.models),
            requests=self.requests_per_minute or 0,
            rows=self.rows_per_minute or 0,
        )


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What a new key may do, and for how long.

    Attributes
    ----------
    scopes : tuple of str
    models : tuple of str or None
    expires : datetime or None
    requests_per_minute, rows_per_minute : int or None
    """

    scopes: tuple[Scope, ...]
    models: tuple[str, ...] | None = None
    expires: datetime | None = None
    requests_per_minute: int | None = None
    rows_per_minute: int | None = None


def new_key(
    name: str, options: KeyOptions, *, now: datetime, random: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[ApiKey, str]:
    """Make a key.

    Parameters
    ----------
    name : str
    options : KeyOptions
    now : datetime
        With its time zone.
    random : callable
        Number of bytes -> as many that no one can predict.

    Returns
    -------
    ApiKey
        To be stored.
    str
        The key itself, which is shown once.
    """
    key_id = _base32(random(8))[:ID_LENGTH]
    text = f"{PREFIX}{key_id}_{_base32(random(SECRET_BYTES))}"
    text += _checksum(text.encode())
    stored = ApiKey(
        id=key_id,
        name=name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        scopes=options.scopes,
        models=options.models,
        created=now.astimezone(UTC).replace(microsecond=0),
        expires=options.expires,
        requests_per_minute=options.requests_per_minute,
        rows_per_minute=options.rows_per_minute,
    )
    return stored, text


def is_complete(key: bytes) -> bool:
    """Whether a key's checksum fits, so that it was neither cut nor mistyped."""
    return len(key) == LENGTH and _checksum(key[:-7]) == key[-7:].decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    expires: float
    caller: Caller


_UNKNOWN: Final = _Entry(bytes(32), math.inf, Caller("", frozenset()))
"""What a key of an unknown id is compared with, so that it takes the same way as any other. No digest is all zeros."""


class KeyTable:
    """The keys that live, by their public ids.

    Parameters
    ----------
    keys : iterable of ApiKey
        Those that are revoked are left out.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        live = [key for key in keys if key.revoked is None]
        self._entries = {key.id.encode(): _entry(key) for key in live}

    def __len__(self) -> int:
        return len(self._entries)

    def caller(self, key: bytes, now: float) -> Caller:
        """Whose key this is.

        Parameters
        ----------
        key : bytes
            As it was sent.
        now : float
            Seconds since 1970.

        Raises
        ------
        Unauthenticated
            If no such key lives.
        TokenExpired
            If it lived once.
        """
        entry = self._entries.get(key[4:16], _UNKNOWN)
        if len(key) != LENGTH or not hmac.compare_digest(hashlib.sha256(key).digest(), entry.digest):
            raise Unauthenticated(UNKNOWN if is_complete(key) else INCOMPLETE)
        if now >= entry.expires:
            raise TokenExpired("this key has expired; ask the operator of the service for another")
        return entry.caller

    def usable(self, now: float) -> int:
        """How many have not expired."""
        return sum(now < entry.expires for entry in self._entries.values())


def id_of(key: bytes) -> str:
    """The public id within a key that was checked."""
    return key[4:16].decode("ascii")


def _entry(key: ApiKey) -> _Entry:
    expires = math.inf if key.expires is None else key.expires.timestamp()
    return _Entry(bytes.fromhex(key.sha256), expires, key.caller())


def _base32(value: bytes) -> str:
    return base64.b32encode(value).decode("ascii").rstrip("=").lower()


def _checksum(text: bytes) -> str:
    return _base32(zlib.crc32(text).to_bytes(4, "big"))


UNKNOWN: Final = "this key is not known here, or was revoked"
INCOMPLETE: Final = "this is no complete key: it was cut or mistyped; copy all of it"
