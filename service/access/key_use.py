"""When each key was last used: a file of its own, because that of the keys may not be the service's to write."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from service.private_files import alone_in, replace_file

USE_FILE: Final = "keys-used.json"

log = logging.getLogger("temperance")


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    used: dict[str, AwareDatetime]


class KeyUse:
    """Last uses of keys, that all workers write together.

    Parameters
    ----------
    folder : Path
        Where the file lies; both are made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / USE_FILE
        self._fault = ""

    def read(self) -> dict[str, datetime]:
        """Ids of keys and when each was last used; nothing where the file is absent or damaged."""
        try:
            return dict(_Content.model_validate_json(self._path.read_bytes()).used)
        except (OSError, ValidationError):
            return {}

    def add(self, used: Mapping[str, float]) -> None:
        """Remember uses; where that fails, the log says so once, and the service goes on.

        Parameters
        ----------
        used : mapping of str to float
            Ids of keys and seconds since 1970.
        """
        if not used:
            return
        try:
            with alone_in(self._path.parent):
                replace_file(self._path, _merged(self.read(), used))
        except OSError as error:
            self._warn(f"{self._path}: {error.strerror}")
        else:
            self._fault = ""

    def _warn(self, fault: str) -> None:
        if fault != self._fault:
            log.warning("the last uses of keys cannot be written: %s", fault)
        self._fault = fault


def _merged(before: dict[str, datetime], used: Mapping[str, float]) -> bytes:
    now = {key_id: datetime.fromtimestamp(int(seconds), UTC) for key_id, seconds in used.items()}
    latest = {key_id: max(filter(None, (before.get(key_id), now.get(key_id)))) for key_id in before | now}
    content = _Content.model_validate({"schema": 1, "used": latest})
    return content.model_dump_json(by_alias=True, indent=2).encode() + b"\n"
