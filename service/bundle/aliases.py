"""`aliases.toml`: movable names of versions, and which of them only run beside the one that answers.

.. code-block:: toml

    stable = 2
    candidate = { version = 3, shadow = true, share = 0.25 }
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import tomlkit

LAST_VERSION: Final = 999_999_999
KEYS: Final = frozenset({"version", "shadow", "share"})


@dataclass(frozen=True, slots=True)
class Alias:
    """What a label stands for.

    Attributes
    ----------
    version : int
    share : float or None
        Of the requests to `stable` that this version sees too, once they were answered; None for a version that
        answers requests itself.
    """

    version: int
    share: float | None = None

    @property
    def is_shadow(self) -> bool:
        """Whether its answers are recorded and never returned."""
        return self.share is not None


def parse_alias(value: Any) -> Alias:
    """The alias that a value of `aliases.toml` is: a version, or a table of version, shadow and share.

    Raises
    ------
    ValueError
        In words that say what it must be.
    """
    if not isinstance(value, dict):
        return Alias(_version(value))
    if not value.keys() <= KEYS:
        raise ValueError(f"has keys other than {', '.join(sorted(KEYS))}")
    version, share = _version(value.get("version")), value.get("share", 1.0)
    if value.get("shadow") is not True:
        raise ValueError("must be a version, or a table with shadow = true")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share <= 1.0:
        raise ValueError("must have a share above 0 and at most 1")
    return Alias(version, float(share))


def aliases_text(aliases: Mapping[str, Alias]) -> str:
    """The text of `aliases.toml`, by label; a file without shadows is what every release reads."""
    document = tomlkit.document()
    for label, alias in sorted(aliases.items()):
        document[label] = alias.version if alias.share is None else _table(alias)
    return tomlkit.dumps(document)


def _table(alias: Alias) -> Any:
    table = tomlkit.inline_table()
    table.update({"version": alias.version, "shadow": True, "share": alias.share})
    return table


def _version(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LAST_VERSION:
        raise ValueError("does not name a published version")
    return value
