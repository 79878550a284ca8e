"""What one cell of a data file may be, by the kind of its column: the one table of rules for every format and verb.

`docs/guide/data-files.md` shows the same table. Cells come as text from CSV files (`Text`) and as values of a type from
Parquet and NPZ files (`Typed`); `CONVERTERS` makes numbers, whole numbers and texts of both.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from service.core.numerics import EXACT, Flags

if TYPE_CHECKING:
    import polars as pl

Values = npt.NDArray[Any]
Faults = list[tuple[int, str]]
"""Rows of a block with what is wrong with them; never a value."""

MISSING: Final = frozenset({"", "nan", "-nan", "na", "n/a", "<na>", "#n/a", "null", "none"})
"""Spellings of a missing number, in any case."""
TRUTHS: Final = {"true": 1, "false": 0}
LISTS: Final = "lists"
LARGEST_WEIGHT: Final = 1e100

NOT_A_NUMBER: Final = "is not a number; a missing value is an empty cell"
INFINITE: Final = "is infinite; a number must be finite"
COMMA: Final = "has a comma inside a number; write a decimal point, and no thousands separators"
NOT_WHOLE: Final = "is not a whole number"
TOO_LARGE: Final = "does not fit a 64-bit whole number"
INEXACT: Final = (
    "is a whole number beyond 2^53 with a decimal point or exponent, which may have lost digits; write all its digits"
)
NO_GROUP: Final = "has no value, and every row needs its group"
BAD_WEIGHT: Final = "is no weight; weights are 0 or more"
LARGE_WEIGHT: Final = f"is a weight above {LARGEST_WEIGHT:g}, which cannot be summed safely; only their ratios matter"

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?0*\d{1,20}", re.ASCII)
_COMMAS: Final = re.compile(r"[+-]?[\d.]*,[\d.,]*\d([eE][+-]?\d{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Text:
    """Cells of a file that knows no types.

    Attributes
    ----------
    cells : sequence of str
        As they stand between two commas, without the quotation marks around them.
    decimal : bool
        Whether they are numbers of a typed file, which NumPy does not have.
    """

    cells: Sequence[str]
    decimal: bool = False

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True, slots=True)
class Typed:
    """Cells of a file that has types.

    Attributes
    ----------
    values : ndarray of shape (N, …)
        Of objects for text, None where it is missing.
    missing : ndarray of shape (N,) or None
        Which numbers are missing.
    opaque : str or None
        Name of a type that is neither number nor text, as a date; only an id may be of it, and is its text.
    """

    values: Values
    missing: Flags | None = None
    opaque: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def title(self) -> str:
        """What to call the type in an error."""
        return self.opaque or TITLES.get(self.values.dtype.kind, str(self.values.dtype))


Cells = Text | Typed


class WrongColumn(ValueError):
    """A column of a type that cannot be what the model needs there."""


def bare(cell: str) -> str:
    """A cell without spaces around it, and without quotation marks that come after a space."""
    word = cell.strip()
    quoted = len(word) > 1 and word != cell and word[0] == word[-1] == '"'
    return word[1:-1].replace('""', '"').strip() if quoted else word


def number_of(text: str) -> Decimal | None:
    """The exact number that a text spells, true and false being 1 and 0; None if it spells none."""
    word = bare(text)
    if _NUMBER.fullmatch(word):
        return Decimal(word)
    truth = TRUTHS.get(word.lower())
    return None if truth is None else Decimal(truth)


def is_missing(cell: str) -> bool:
    """Whether a cell spells a missing value."""
    return bare(cell).lower() in MISSING


def floats(cells: Cells) -> tuple[Values, Faults]:
    """Numbers as doubles, shape (N,), NaN where one is missing or at fault.

    Raises
    ------
    WrongColumn
        For a column of another type.
    """
    values, faults = _floats_of_text(cells.cells) if isinstance(cells, Text) else (_floats_of_type(cells), [])
    if np.isinf(values).any():
        faults += [(row, INFINITE) for row in np.flatnonzero(np.isinf(values)).tolist()]
        values = np.where(np.isinf(values), np.nan, values)
    return values, sorted(faults)


def integers(cells: Cells, *, unsigned: bool = False) -> tuple[Values, Flags, Faults]:
    """Whole numbers as they are, shape (N,), 0 where one is missing; which are missing; what is none.

    They never pass through a double: they are ``int64``, or ``uint64`` where ``unsigned``: the graph takes it.
    """
    if isinstance(cells, Text):
        return _integers_of_text(cells.cells, unsigned=unsigned)
    _refuse_type(cells, "iubf", "whole numbers")
    values = cells.values
    missing = np.zeros(len(values), dtype=np.bool_) if cells.missing is None else cells.missing
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
        return _integers_of_doubles(np.where(missing, 0.0, values.astype(np.float64)), missing, unsigned=unsigned)
    beyond = np.zeros(len(values), dtype=np.bool_)
    if unsigned and values.dtype.kind == "i":
        beyond = values < 0
    elif not unsigned and values.dtype == np.uint64:
        beyond = values >= np.uint64(2**63)
    faults = [(row, TOO_LARGE) for row in np.flatnonzero(beyond).tolist()]
    return values.astype(np.uint64 if unsigned else np.int64), missing, faults


def weights(cells: Cells) -> tuple[Values, Faults]:
    """Row weights as doubles, shape (N,): finite and not negative."""
    values, faults = floats(cells)
    known = {row for row, _ in faults}
    bad = ~(values >= 0.0) | (values > LARGEST_WEIGHT)
    faults += [
        (r, LARGE_WEIGHT if values[r] > 0 else BAD_WEIGHT) for r in np.flatnonzero(bad).tolist() if r not in known
    ]
    return values, sorted(faults)


def texts(cells: Cells) -> tuple[Values, Faults]:
    """Text exactly as it stands, an array of objects, shape (N,), None where a cell is empty."""
    if isinstance(cells, Text):
        if cells.decimal:
            raise WrongColumn("holds decimals, and must hold text")
        found = [(cell if cell[:1] != " " else _unquoted(cell)) or None for cell in cells.cells]
    elif cells.missing is not None and cells.missing.all():
        found = [None] * len(cells)
    else:
        _refuse_type(cells, "UO", "text")
        found = [cell or None for cell in cells.values.tolist()]
    return _objects(found), []


def labels(cells: Cells) -> tuple[Values, Faults]:
    """Labels as the file has them, an array of objects; `labels` makes classes of them."""
    if isinstance(cells, Text):
        return _objects([_decimal(cell) for cell in cells.cells] if cells.decimal else list(cells.cells)), []
    if cells.opaque == LISTS:
        return cells.values, []
    _refuse_type(cells, "iufbUO", "labels")
    if cells.values.ndim > 1:
        return cells.values, []
    found = cells.values.tolist()
    gaps = [] if cells.missing is None else np.flatnonzero(cells.missing).tolist()
    for row in gaps:
        found[row] = None
    return _objects(found), []


def groups(cells: Cells) -> tuple[Values, Faults]:
    """Names of groups as text; none may be missing."""
    found = _words(cells, "groups")
    return _objects(found), [(row, NO_GROUP) for row, cell in enumerate(found) if cell is None or is_missing(cell)]


def ids(cells: Cells) -> tuple[Values, Faults]:
    """Ids as text exactly as they stand, None where a cell is empty."""
    if isinstance(cells, Typed) and cells.opaque not in (None, LISTS) and cells.values.dtype.kind == "O":
        return cells.values, []
    return _objects(_words(cells, "ids", strip=False)), []


def _words(cells: Cells, what: str, *, strip: bool = True) -> list[str | None]:
    if isinstance(cells, Text):
        words = map(_digits, cells.cells) if cells.decimal else cells.cells
        return [(bare(cell) if strip else cell) or None for cell in words]
    _refuse_type(cells, "iufbUO", what)
    gaps = cells.missing
    found = [None if value is None or value != value else _spelt(value) for value in cells.values.tolist()]  # noqa: PLR0124
    return found if gaps is None else [None if gap else word for word, gap in zip(found, gaps.tolist(), strict=True)]


def _spelt(value: object) -> str:
    """A value as text; 7.0 is 7, because one part of a data set may hold as floats what another holds as integers."""
    return str(int(value)) if isinstance(value, float) and abs(value) < EXACT and value.is_integer() else str(value)


def _digits(cell: str) -> str:
    return cell.rstrip("0").rstrip(".") if "." in cell else cell


def _decimal(cell: str) -> int | float | None:
    if not cell:
        return None
    value = Decimal(cell)
    return int(value) if value == value.to_integral_value() else float(value)


def _unquoted(cell: str) -> str:
    word = cell.strip()
    return bare(cell) if not word or (word[0] == '"' and len(word) > 1 and word[-1] == '"') else cell


def _objects(found: list[Any]) -> Values:
    values = np.empty(len(found), dtype=object)
    values[:] = found
    return values


def _refuse_type(cells: Typed, kinds: str, what: str) -> None:
    if cells.opaque is not None or cells.values.dtype.kind not in kinds:
        raise WrongColumn(f"holds {cells.title}, and must hold {what}")


def _floats_of_type(cells: Typed) -> Values:
    _refuse_type(cells, "fiub", "numbers")
    values: Values = cells.values.astype(np.float64)
    return values if cells.missing is None else np.where(cells.missing, np.nan, values)


def _floats_of_text(cells: Sequence[str]) -> tuple[Values, Faults]:
    values = np.array(_cast(cells, "Float64").to_numpy(), dtype=np.float64)
    faults: Faults = []
    for row in np.flatnonzero(~np.isfinite(values)).tolist():
        values[row] = _float(cells[row], row, faults)
    return values, faults


def _cast(cells: Sequence[str], kind: str) -> "pl.Series":
    """Plain numbers among some cells, null for the rest: polars reads part of the rules four times as fast."""
    import polars as pl  # noqa: PLC0415  # rules for labels are needed where polars is not

    return pl.Series(cells, dtype=pl.String).cast(getattr(pl, kind), strict=False)


def _float(cell: str, row: int, faults: Faults) -> float:
    word = bare(cell)
    if _NUMBER.fullmatch(word):
        return float(word)
    low = word.lower()
    if low in TRUTHS:
        return float(TRUTHS[low])
    if low not in MISSING:
        faults.append((row, _why_none(low)))
    return np.nan


def _why_none(word: str) -> str:
    if word.lstrip("+-") in ("inf", "infinity", "1.#inf"):
        return INFINITE
    return COMMA if _COMMAS.fullmatch(word) else NOT_A_NUMBER


def _integers_of_text(cells: Sequence[str], *, unsigned: bool) -> tuple[Values, Flags, Faults]:
    plain = _cast(cells, "UInt64" if unsigned else "Int64")
    values = np.array(plain.fill_null(0).to_numpy(), dtype=np.uint64 if unsigned else np.int64)
    gaps, faults = np.zeros(len(values), dtype=np.bool_), Faults()
    low, high = (0, 2**64) if unsigned else (-(2**63), 2**63)
    for row in np.flatnonzero(plain.is_null().to_numpy()).tolist():
        found = _integer(cells[row], row, faults)
        if found is None:
            gaps[row] = not faults or faults[-1][0] != row
        elif low <= found < high:
            values[row] = found
        else:
            faults.append((row, TOO_LARGE))
    return values, gaps, faults


def _integer(cell: str, row: int, faults: Faults) -> int | None:
    word = bare(cell)
    if _WHOLE.fullmatch(word) and abs(int(word)) < 2**64:
        return int(word)
    if not _NUMBER.fullmatch(word):
        value = _float(cell, row, faults)
        return None if np.isnan(value) else int(value)
    return _rounded(Decimal(word), row, faults, digits=word.lstrip("+-").isdigit())


def _rounded(value: Decimal, row: int, faults: Faults, *, digits: bool) -> int | None:
    if digits or (value.adjusted() > 20 and value != 0):
        faults.append((row, TOO_LARGE))
    elif value != value.to_integral_value():
        faults.append((row, NOT_WHOLE))
    elif abs(value) > EXACT:
        faults.append((row, INEXACT))
    else:
        return int(value)
    return None


def _integers_of_doubles(values: Values, missing: Flags, *, unsigned: bool) -> tuple[Values, Flags, Faults]:
    faults: Faults = []
    bad = np.zeros(len(values), dtype=np.bool_)
    checks = [
        (np.isinf(values), INFINITE),
        (values != np.floor(values), NOT_WHOLE),
        (np.abs(values) > EXACT, INEXACT),
        (values < (0 if unsigned else -np.inf), TOO_LARGE),
    ]
    for wrong, detail in checks:
        faults += [(row, detail) for row in np.flatnonzero(wrong & ~bad).tolist()]
        bad |= wrong
    return np.where(bad, 0.0, values).astype(np.uint64 if unsigned else np.int64), missing, sorted(faults)


TITLES: Final = {
    "O": "text",
    "U": "text",
    "S": "bytes",
    "c": "complex numbers",
    "M": "dates",
    "m": "durations",
    "V": "records",
    "b": "true and false",
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers",
}
CONVERTERS: Final[dict[str, Callable[[Cells], tuple[Values, Faults]]]] = {
    "number": floats,
    "weight": weights,
    "text": texts,
    "label": labels,
    "group": groups,
    "id": ids,
}
"""By kind of column; whole numbers, which may be missing beside their values, have `integers`."""
