"""The secrets file: one random secret per key id, from which every key of the record is derived.

A rotation adds a secret and keeps the old ones for reading. A running process goes on with the secret that it started
with, for a stream is signed by one key; the next start takes the new one.

References
----------
RFC 5869: HKDF. RFC 8032: Ed25519.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import SettingsInvalid
from service.private_files import alone_in, replace_file
from service.store.keyed_tokens import Tokens

SECRETS_FILE: Final = "secrets.json"
"""Its name in the data directory."""
SECRET_BYTES: Final = 32
LARGEST: Final = 1 << 20
OPEN_TO_OTHERS: Final = 0o027  # a group may read: Kubernetes mounts a secret so
CREATE: Final = "temperance audit keys create"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    created: datetime
    secret: str


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Annotated[Literal[1], Field(alias="schema")]
    current: str
    keys: dict[str, _Entry]


class Ed25519Signer:
    """Signs streams and anchors; a `service.store.signing.Signer`."""

    def __init__(self, key_id: str, key: Ed25519PrivateKey) -> None:
        self._key_id = key_id
        self._key = key

    @property
    def key_id(self) -> str:
        """Of the key that signs."""
        return self._key_id

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(content)


class PublicKeys:
    """What signatures are checked with; no secret.

    Parameters
    ----------
    keys : mapping of str to bytes
        Raw Ed25519 keys of 32 bytes, by key id.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {key_id: Ed25519PublicKey.from_public_bytes(key) for key_id, key in keys.items()}

    def has(self, key_id: str) -> bool:
        """Whether there is a key of that id."""
        return key_id in self._keys

    def verifies(self, key_id: str, signature: bytes, content: bytes) -> bool:
        """Whether a signature is that key's, over that content."""
        try:
            self._keys[key_id].verify(signature, content)
        except (KeyError, InvalidSignature):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Secret:
    """The keys that one secret gives.

    Attributes
    ----------
    key_id : str
    created : datetime
    tokens : Tokens
    signer : Ed25519Signer
    sealing_key : bytes
        Of AES-GCM, 256 bits.
    public_key : bytes
        Raw Ed25519 key.
    """

    key_id: str
    created: datetime
    tokens: Tokens
    signer: Ed25519Signer
    sealing_key: bytes
    public_key: bytes

    @classmethod
    def of(cls, secret: bytes, *, created: datetime) -> Self:
        """Derive the keys of a secret; its id is a digest of the public key, so that no two secrets share one."""
        signing = Ed25519PrivateKey.from_private_bytes(_derived(secret, "signing"))
        public = signing.public_key().public_bytes_raw()
        key_id = _key_id(public)
        tokens = Tokens(key_id, _derived(secret, "tokens"))
        return cls(key_id, created, tokens, Ed25519Signer(key_id, signing), _derived(secret, "sealing"), public)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of a store.

    Attributes
    ----------
    current : Secret
        Used for whatever is written.
    by_id : mapping of str to Secret
        For whatever is read.
    """

    current: Secret
    by_id: Mapping[str, Secret]

    def public_keys(self) -> PublicKeys:
        """What signatures of these secrets are checked with."""
        return PublicKeys({key_id: secret.public_key for key_id, secret in self.by_id.items()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The secrets of a file.

        Raises
        ------
        SettingsInvalid
            If there is none, if others may read it, or if it is not what `temperance audit keys` writes.
        """
        content = _read(path)
        try:
            secrets = {key_id: _secret(path, key_id, entry) for key_id, entry in content.keys.items()}
            return cls(secrets[content.current], secrets)
        except KeyError:
            raise _damaged(path) from None

    @classmethod
    def read_or_made(cls, path: Path) -> Self:
        """The secrets of a file, which is made where there is none: of many processes that start at once, by one.

        Raises
        ------
        SettingsInvalid
            As `read`, and if the file cannot be written.
        """
        if not path.exists():
            make(path)
        return cls.read(path)


def make(path: Path) -> bool:
    """Make a file with one secret; whether there was none before.

    Raises
    ------
    SettingsInvalid
        If it cannot be written.
    """
    try:
        with alone_in(path.parent):
            if path.exists():
                return False
            replace_file(path, _written(_with_another(None)))
    except OSError as error:
        raise _not_written(path, error) from None
    return True


def rotate(path: Path) -> str:
    """Add a secret that processes use from their next start on; its key id.

    Raises
    ------
    SettingsInvalid
        If the file cannot be read or written.
    """
    try:
        with alone_in(path.parent):
            content = _with_another(_read(path))
            replace_file(path, _written(content))
    except OSError as error:
        raise _not_written(path, error) from None
    return content.current


def public_keys_of(texts: Mapping[str, str]) -> PublicKeys:
    """Public keys in base64 by their key ids, as `temperance audit keys list` prints them.

    Raises
    ------
    SettingsInvalid
        If one is no key, or another than its id names.
    """
    try:
        keys = {key_id: b64decode(text, validate=True) for key_id, text in texts.items()}
    except ValueError:
        raise SettingsInvalid("a public key is 32 bytes in base64") from None
    wrong = [key_id for key_id, key in keys.items() if len(key) != SECRET_BYTES or _key_id(key) != key_id]
    if wrong:
        raise SettingsInvalid(f"the public key of {wrong[0]} is another one: copy it from `temperance audit keys list`")
    return PublicKeys(keys)


def _key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _derived(secret: bytes, use: str) -> bytes:
    info = f"temperance {use}".encode("ascii")
    return HKDF(algorithm=hashes.SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(secret)


def _secret(path: Path, key_id: str, entry: _Entry) -> Secret:
    try:
        secret = Secret.of(b64decode(entry.secret, validate=True), created=entry.created)
    except ValueError:
        raise _damaged(path) from None
    if secret.key_id != key_id or len(b64decode(entry.secret)) != SECRET_BYTES:
        raise _damaged(path)
    return secret


def _with_another(content: _Content | None) -> _Content:
    secret, now = os.urandom(SECRET_BYTES), datetime.now(UTC).replace(microsecond=0)
    key_id = Secret.of(secret, created=now).key_id
    keys = {} if content is None else content.keys
    entry = _Entry(created=now, secret=b64encode(secret).decode("ascii"))
    return _Content.model_validate({"schema": 1, "current": key_id, "keys": {**keys, key_id: entry}})


def _read(path: Path) -> _Content:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OPEN_TO_OTHERS:
                raise SettingsInvalid(f"{path} can be read by others, and holds secrets: chmod 600 {path}")
            return _Content.model_validate_json(file.read(LARGEST))
    except FileNotFoundError:
        raise SettingsInvalid(f"{path}: there is no file of secrets; `{CREATE}` makes one") from None
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}") from None
    except ValidationError:
        raise _damaged(path) from None


def _written(content: _Content) -> bytes:
    return content.model_dump_json(by_alias=True, indent=2).encode("ascii") + b"\n"


def _damaged(path: Path) -> SettingsInvalid:
    return SettingsInvalid(f"{path} is not what `temperance audit keys` writes: restore it from a backup")


def _not_written(path: Path, error: OSError) -> SettingsInvalid:
    return SettingsInvalid(f"{path} cannot be written: {error.strerror or type(error).__name__}")
