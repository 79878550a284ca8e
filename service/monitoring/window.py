"""Which answers a report is of: from when, until when, of which version, site and caller.

Tested in tests/monitoring/test_observed.py.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MOMENT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2}))?", re.ASCII
)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
EXPECTED: Final = "must be a date such as 2026-01-31, or an RFC 3339 time with its zone, from 1970 on"


@dataclass(frozen=True, slots=True)
class Window:
    """Which answers a report is of.

    Attributes
    ----------
    since, until : str or None
        RFC 3339: answered at the first or later, and before the second.
    site, caller : str or None
        Answered for this site, to this caller.
    version : int or None
        Answered by this version.
    """

    since: str | None = None
    until: str | None = None
    site: str | None = None
    caller: str | None = None
    version: int | None = None


def read_moment(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time with its zone, or of the begin of a day in UTC.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> read_moment("1970-01-02"), read_moment("1970-01-01T01:00:00.5+01:00")
    (86400000000, 500000)
    """
    try:
        found = datetime.fromisoformat(text.upper() if MOMENT.fullmatch(text) else "")
        moment = ((found if found.tzinfo else found.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        raise ValueError(EXPECTED) from None
    if moment < 0:
        raise ValueError(EXPECTED)
    return moment


def moment_text(microseconds: int) -> str:
    """A time as RFC 3339 has it.

    Examples
    --------
    >>> moment_text(86_400_000_000)
    '1970-01-02T00:00:00Z'
    """
    return (EPOCH + microseconds * MICROSECOND).isoformat().replace("+00:00", "Z")
