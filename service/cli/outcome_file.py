"""Files of outcomes: one row for every report, by the names of its columns.

Tested in tests/cli/test_outcomes_command.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.api.v1.outcome_requests import report_of
from service.data.blocks import Block, Source
from service.data.cells import Cells, Text, bare
from service.data.formats import parts_of
from service.data.sources import open_source
from service.errors import DataError
from service.monitoring.reported_outcomes import MOST_REPORTS, Report

COLUMNS: Final = ("prediction_id", "outcome", "observed_at", "source", "ascertainment")
NEEDED: Final = COLUMNS[:2]
FORMATS: Final = (".csv", ".parquet")
ZONELESS: Final = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?", re.ASCII)
NUMERIC_ZONE: Final = re.compile(r"[+-]\d{4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OutcomeChunk:
    """Some rows of a file.

    Attributes
    ----------
    reports : list of Report
    empty : int
        Rows without an outcome.
    """

    reports: list[Report]
    empty: int


def read_reports(path: Path, names: Mapping[str, str], *, now: int) -> Iterator[OutcomeChunk]:
    """Reports of a file, at most `MOST_REPORTS` at a time.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.parquet``, or a directory of such parts.
    names : mapping of str to str
        Columns of the file by what they hold, where their names differ from `COLUMNS`.
    now : int
        Microseconds since 1970.

    Raises
    ------
    DataError
        Naming the file, the row and the column at fault.
    """
    for part in parts_of(path):
        if part.suffix.lower() not in FORMATS:
            raise DataError(f"{part}: outcomes are read from {' and '.join(FORMATS)} files")
        source = open_source(part)
        columns = _columns(source, part, names)
        for block in source.blocks(tuple(columns.values()), rows=MOST_REPORTS):
            yield _chunk(block, columns, now)


def _columns(source: Source, part: Path, names: Mapping[str, str]) -> dict[str, str]:
    found = {role: names.get(role, role) for role in COLUMNS}
    missing = [name for role, name in found.items() if name not in source.names and (role in NEEDED or role in names)]
    if missing:
        raise DataError(f"{part} has no column {', '.join(missing)}{source.hint(missing)}; --map names others")
    return {role: name for role, name in found.items() if name in source.names}


def _chunk(block: Block, columns: Mapping[str, str], now: int) -> OutcomeChunk:
    for row, detail in block.faults:
        raise DataError(f"{_place(block, row)} {detail}")
    values = {role: _values(block.columns[name]) for role, name in columns.items()}
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    reports = [_report(entry, block, row, now) for row, entry in enumerate(rows) if entry["outcome"] is not None]
    return OutcomeChunk(reports, len(rows) - len(reports))


def _report(entry: Mapping[str, Any], block: Block, row: int, now: int) -> Report:
    stated = {role: value for role, value in entry.items() if value is not None}
    if isinstance(stated.get("observed_at"), str):
        stated["observed_at"] = _with_zone(stated["observed_at"])
    found = report_of(stated, now=now)
    if isinstance(found, Report):
        return found
    raise DataError(f"{_place(block, row)}, {'.'.join(map(str, found[0].path)) or 'outcome'}: {found[0].detail}")


def _with_zone(text: str) -> str:
    """A time as RFC 3339 has it: of a file, one without a zone is in UTC."""
    text = text.removesuffix(" UTC")
    if NUMERIC_ZONE.fullmatch(text[-5:]) and ":" in text:
        return f"{text[:-2]}:{text[-2:]}"
    return f"{text}Z" if ZONELESS.fullmatch(text[11:]) else text


def _values(cells: Cells) -> Sequence[Any]:
    if isinstance(cells, Text):
        return [bare(cell) or None for cell in cells.cells]
    values = [_plain(value) for value in cells.values.tolist()]
    if cells.missing is None:
        return values
    return [None if gap else value for value, gap in zip(values, cells.missing.tolist(), strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return None if value != value else value  # noqa: PLR0124  # NaN


def _place(block: Block, row: int) -> str:
    if block.lines is not None:
        return f"{block.path}, line {block.lines[row]}"
    return f"{block.path}, row {block.first + row} (from 0)"
