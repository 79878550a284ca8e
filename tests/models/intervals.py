"""What the tables of a card claim: paired differences with their intervals."""

import re
from typing import Any, Final

_INTERVAL: Final = re.compile(r"\((?P<low>[+-][\d.]+) to (?P<high>[+-][\d.]+)\)")


def sign(table: str, difference: str, measure: str) -> int:
    """1 or -1 where an interval lies on one side of zero, 0 where it does not: then nothing may be claimed."""
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    (cell,) = (row[header.index(measure)] for row in rows if row[0] == difference)
    found = _INTERVAL.search(cell)
    assert found is not None, cell
    return (float(found["low"]) > 0.0) - (float(found["high"]) < 0.0)


def signs(found: dict[str, Any], table: str, claims: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """The sign of every claimed difference, in a table of `metrics.json`."""
    return {(difference, measure): sign(found["tables"][table], difference, measure) for difference, measure in claims}
