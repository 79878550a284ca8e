"""Where keys are kept: a file that is written atomically, by one writer at a time."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import jiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.access.keys import ApiKey
from service.bundle.manifest import describe
from service.errors import KeysInvalid
from service.private_files import alone_in, replace_file

KEYS_FILE: Final = "keys.json"
"""Its name in the data directory."""
LARGEST: Final = 4 << 20
"""Bytes of a key file, enough for ten thousand keys: one that is larger is another file."""


class KeyStore(Protocol):
    """Where keys are kept."""

    def revision(self) -> bytes | None:
        """What changes whenever a key does; None where none was ever kept."""

    def read(self) -> tuple[ApiKey, ...]:
        """Every key, those that are revoked or have expired too."""

    def add(self, key: ApiKey) -> None:
        """Keep one more."""

    def revoke(self, id_or_name: str, *, now: datetime) -> tuple[ApiKey, ...]:
        """Refuse the key of an id, or all of a name, from now on; those that were revoked by this."""


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    keys: tuple[ApiKey, ...]


class KeyFile:
    """Keys in a file.

    Parameters
    ----------
    path : Path
        It may be a link and lie in a folder that cannot be written, as a secret of Kubernetes does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def revision(self) -> bytes | None:
        """The file's bytes; None where there is none.

        Raises
        ------
        KeysInvalid
            If it cannot be read.
        """
        try:
            if not self.path.exists():  # which is seen though no file can be opened, for want of descriptors
                return None
            if not self.path.is_file():  # a pipe would never answer
                raise KeysInvalid(f"{self.path} is no regular file")
            with self.path.open("rb") as file:
                return file.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysInvalid(f"{self.path} cannot be read: {error.strerror}{_hint(error)}") from None

    def read(self) -> tuple[ApiKey, ...]:
        """Every key; none where there is no file.

        Raises
        ------
        KeysInvalid
            If the file cannot be read, or is not what `temperance keys` writes.
        """
        content = self.revision()
        return () if content is None else self._parse(content)

    def add(self, key: ApiKey) -> None:
        """Keep one more key; the file is made where there is none.

        Raises
        ------
        KeysInvalid
            If the file is damaged or cannot be written.
        """
        self._change(lambda keys: (*keys, key))

    def revoke(self, id_or_name: str, *, now: datetime) -> tuple[ApiKey, ...]:
        """Refuse the key of an id, or all of a name, from now on.

        Returns
        -------
        tuple of ApiKey
            Those that were revoked by this.

        Raises
        ------
        KeysInvalid
            If there is no such key that could be revoked, or the file cannot be written.
        """
        when = now.astimezone(UTC).replace(microsecond=0)
        changed: dict[str, ApiKey] = {}

        def change(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
            found = [key for key in keys if id_or_name in {key.id, key.name} and key.revoked is None]
            changed.update({key.id: key.model_copy(update={"revoked": when}) for key in found})
            if not changed:
                raise KeysInvalid(f"{self.path} has no key of that id or name, or it was revoked before")
            return tuple(changed.get(key.id, key) for key in keys)

        self._change(change)
        return tuple(changed.values())

    def _change(self, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
        try:
            with alone_in(self.path.resolve().parent):
                content = _Content.model_validate({"schema": 1, "keys": change(self.read())})
                replace_file(self.path, content.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
        except OSError as error:
            raise KeysInvalid(f"{self.path} cannot be written: {error.strerror}") from None

    def _parse(self, content: bytes) -> tuple[ApiKey, ...]:
        if len(content) > LARGEST:
            raise KeysInvalid(f"{self.path} is larger than {LARGEST >> 20} MiB, so it is no file of keys")
        try:
            jiter.from_json(content, catch_duplicate_keys=True)
            keys = _Content.model_validate_json(content, by_alias=True).keys
        except ValidationError as error:
            raise KeysInvalid(f"{self.path} is no file of keys: {describe(error)}") from None
        except ValueError:  # its text would quote the file
            raise KeysInvalid(f"{self.path} is no file of keys: it is not JSON, or names a key twice") from None
        if len({key.id for key in keys}) != len(keys):
            raise KeysInvalid(f"{self.path} has two keys of one id")
        return keys


def _hint(error: OSError) -> str:
    return "; the user of the service must be able to read it" if isinstance(error, PermissionError) else ""
