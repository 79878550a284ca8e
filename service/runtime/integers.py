"""Whole numbers beyond the precision of doubles: kept beside a row's doubles, checked and fed as the integers they are.

A column of INT64 or UINT64 is held as doubles like every other, which is exact below 2^53. Where a number lies beyond,
the column's integers travel along under its name (`Fields.others`); a double beyond 2^53 without one is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.core.numerics import EXACT, Array, Flags
from service.runtime.rows import Fields, Rows, Values

INEXACT: Final = "must be given as a whole number without a decimal point or exponent: it is too large to be exact"
Misfit = tuple[Flags, str, str]


@dataclass(frozen=True, slots=True)
class Wide:
    """A column of 64-bit integers, and what is declared of it beyond what doubles hold.

    Attributes
    ----------
    name : str
    index : int
        Its place among the columns of numbers.
    dtype : dtype
    allowed, plausible : tuple of (int or None)
        Lowest and highest, None where nothing is declared that doubles cannot compare.
    substitute : int or None
        What stands in for a missing value, where doubles cannot hold it.
    """

    name: str
    index: int
    dtype: np.dtype[Any]
    allowed: tuple[int | None, int | None] = (None, None)
    plausible: tuple[int | None, int | None] = (None, None)
    substitute: int | None = None


Whole = dict[str, Values]
"""Integers of columns by name; only where a double is beyond `EXACT` are they read."""


def is_wide(dtype: np.dtype[Any]) -> bool:
    """Whether a type holds whole numbers that doubles do not."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def beyond(doubles: Array) -> Flags:
    """From here on doubles no longer hold every whole number."""
    large: Flags = np.abs(doubles) >= EXACT
    return large


def integers(cells: Sequence[object]) -> Values:
    """Integers among cells, 0 where a cell is none; of objects where 64 bits cannot hold them all.

    Examples
    --------
    >>> integers([2**53 + 1, None, 1.5])
    array([9007199254740993,                0,                0])
    """
    found = [cell if type(cell) is int else 0 for cell in cells]
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(found, dtype=dtype)
        except OverflowError:
            continue
    return np.array(found, dtype=object)


def gathered(columns: Mapping[str, Values], wide: Sequence[Wide], *, every: bool = False) -> tuple[Array, Whole]:
    """Columns of numbers as one table of doubles, and the integers that it cannot hold.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (N,)
        In the model's order: floats, NaN where a value is missing; or whole numbers.
    wide : sequence of Wide
    every : bool
        Keep integers that doubles hold, too: chunks of one data set are then alike.
    """
    table = np.column_stack([column.astype(np.float64) for column in columns.values()])
    whole = {one.name: _integers(columns[one.name]) for one in wide if columns[one.name].dtype.kind in "iuO"}
    return table, {one.name: whole[one.name] for one in wide if one.name in whole and (every or _any_large(table, one))}


def _integers(column: Values) -> Values:
    return column if column.dtype.kind in "iu" else integers(column.tolist())


def among(rows: Sequence[Sequence[object]], table: Array, wide: Sequence[Wide]) -> Whole:
    """Integers among the cells of rows, where the table of their doubles cannot hold them."""
    return {one.name: integers([row[one.index] for row in rows]) for one in wide if _any_large(table, one)}


def _any_large(table: Array, one: Wide) -> bool:
    return bool(beyond(table[:, one.index]).any())


def rows_with(numbers: Array, whole: Whole) -> Rows:
    """Rows of numbers, with integers where there are any."""
    return Fields(numbers, whole) if whole else numbers


def parted(rows: Rows, wide: Sequence[Wide]) -> tuple[Array, Whole]:
    """Doubles and integers of rows; an array of integers is both."""
    numbers = rows.numbers if isinstance(rows, Fields) else rows
    own = (
        {one.name: rows.others[one.name] for one in wide if one.name in rows.others} if isinstance(rows, Fields) else {}
    )
    if numbers.dtype.kind == "f":
        return numbers, own
    doubles = numbers.astype(np.float64)
    return doubles, {one.name: numbers[:, one.index] for one in wide if _any_large(doubles, one)} | own


def with_substitutes(missing: Flags, whole: Whole, wide: Sequence[Wide]) -> Whole:
    """Integers with those that stand in for missing values, where ``missing`` (N, F) is true."""
    filled = dict(whole)
    for one in wide:
        gaps = missing[:, one.index]
        if one.substitute is not None and gaps.any():
            known = whole[one.name].tolist() if one.name in whole else [0] * len(gaps)
            filled[one.name] = integers([one.substitute if gap else n for gap, n in zip(gaps, known, strict=True)])
    return filled


def misfits_of(doubles: Array, own: Values | None, dtype: np.dtype[Any], found: Iterator[Misfit]) -> Iterator[Misfit]:
    """What is wrong with a column, of which ``found`` is what would be wrong with its doubles."""
    large = beyond(doubles)
    exact = np.zeros_like(large) if own is None else large & (own.astype(np.float64) == doubles)
    for bad, code, detail in found:
        yield bad & ~exact, code, detail
        large = large & ~bad
    yield large & ~exact, "wrong-type", INEXACT
    if own is not None:
        limits = np.iinfo(dtype)
        outside: Flags = exact & ((own > limits.max) | (own < limits.min))
        yield outside, "number-out-of-range", f"does not fit {dtype}"


def outside_of(doubles: Array, own: Values | None, bounds: tuple[int | None, int | None]) -> Flags:
    """Where integers lie outside bounds that doubles cannot compare."""
    bad: Flags = np.zeros(len(doubles), dtype=np.bool_)
    if own is not None:
        low, high = bounds
        large = beyond(doubles)
        bad |= large & (own < low) if low is not None else False
        bad |= large & (own > high) if high is not None else False
    return bad


def is_among(doubles: Array, own: Values | None, codes: Values) -> Flags:
    """Whether numbers are some of ``codes``; integers are compared as such."""
    found: Flags = np.isin(doubles, codes.astype(np.float64))
    if own is not None:
        known = set(codes.tolist())
        for row in np.flatnonzero(beyond(doubles)).tolist():
            found[row] = int(own[row]) in known
    return found


def fed(doubles: Array, own: Values | None, dtype: np.dtype[Any]) -> Values:
    """A checked column as the graph takes it."""
    large = beyond(doubles)
    if own is None or not large.any():
        return doubles.astype(dtype)
    small = np.where(large, 0.0, doubles).astype(dtype)
    return np.where(large, np.where(large, own, 0).astype(dtype), small)


def nudged(columns: Array, whole: Whole, wide: Sequence[Wide]) -> Array:
    """Doubles for scores and rules: an integer outside a plausible bound is not rounded onto it."""
    moved = columns
    for one in wide:
        low, high = one.plausible
        own, doubles = whole.get(one.name), columns[:, one.index]
        below, above = outside_of(doubles, own, (low, None)), outside_of(doubles, own, (None, high))
        if (below | above).any():
            moved = moved.copy()
            aside = np.nextafter(doubles, np.where(below, -np.inf, np.inf))
            moved[:, one.index] = np.where(below | above, aside, doubles)
    return moved
