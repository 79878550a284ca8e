"""Moves of aliases, kept in the record: who moved which, from where to where, and why.

Tested in tests/cli/test_alias_command.py.
"""

from dataclasses import asdict, dataclass
from typing import Final

import orjson

from service.store.engine import Store
from service.store.entries import Event, Write

ALIAS: Final = "alias"


@dataclass(frozen=True, slots=True)
class AliasChange:
    """What was changed.

    Attributes
    ----------
    model, label : str
    before, after : int or None
        Versions; None where the alias did not exist, or is removed.
    digest : str or None
        ``sha256:…`` of the version that it names now.
    share : float or None
        Of the requests that a shadow sees; None of an alias that answers.
    by : str
        Who.
    reason : str or None
        Why.
    """

    model: str
    label: str
    before: int | None
    after: int | None
    digest: str | None
    share: float | None
    by: str
    reason: str | None


def record_change(store: Store, change: AliasChange, *, now: int) -> None:
    """Append a change to the record; it is to be made once this has returned.

    Parameters
    ----------
    store : Store
        Opened with a signer.
    change : AliasChange
    now : int
        Microseconds since 1970.

    Raises
    ------
    StoreUnavailable
    """
    store.write([Write(events=[Event(now, ALIAS, orjson.dumps(asdict(change)).decode())])])
