"""Rows of numbers: a table whose columns fill the graph's inputs.

Tested in `tests/runtime/test_inputs.py` and `tests/runtime/test_integers.py`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from service.core.numerics import Array, Flags
from service.errors import MOST_FAULTS, Fault, InvalidInstances
from service.runtime.integers import (
    Whole,
    Wide,
    beyond,
    fed,
    integers,
    is_among,
    is_wide,
    misfits_of,
    nudged,
    outside_of,
    parted,
    rows_with,
    with_substitutes,
)
from service.runtime.rows import Entry, Fields, Rows, Values
from service.runtime.session import Feeds

GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)  # its multiples fill an interval evenly
SPREAD = 4.0  # of columns without a range


@dataclass(frozen=True, slots=True)
class Slot:
    """A graph input: which columns of a row it takes, as what, and whether it has rank 1."""

    name: str
    dtype: np.dtype[Any]
    columns: slice
    flat: bool = False

    @property
    def place(self) -> slice | int:
        """Where a row has it."""
        return self.columns.start if self.flat else self.columns


@dataclass(frozen=True)
class NumberInputs:
    """All columns of a row, in manifest order, with what each may hold.

    Attributes
    ----------
    columns : tuple of str
    slots : tuple of Slot
    allowed_low, allowed_high, plausible_low, plausible_high : ndarray of shape (F,)
        Infinite where nothing is declared.
    may_miss : ndarray of shape (F,)
    substitutes : ndarray of shape (F,)
        What stands in for a missing value: a number, or NaN.
    codes : dict of int to ndarray
        By column, the whole numbers that it may hold where that is not any.
    wide : tuple of Wide
        Columns of 64-bit integers.
    """

    columns: tuple[str, ...]
    slots: tuple[Slot, ...]
    allowed_low: Array
    allowed_high: Array
    plausible_low: Array
    plausible_high: Array
    may_miss: Flags
    substitutes: Array
    codes: dict[int, Values] = field(default_factory=dict)
    wide: tuple[Wide, ...] = ()

    @cached_property
    def least(self) -> Array:
        """Smallest number of every column that is without fault, shape (1, F); infinite where each needs a look."""
        return np.maximum(-self._largest, self.allowed_low)[
            None
        ]  # of a row's shape: broadcasting costs half as much again

    @cached_property
    def most(self) -> Array:
        """Largest number of every column that is without fault, shape (1, F)."""
        return np.minimum(self._largest, self.allowed_high)[None]

    @cached_property
    def singles(self) -> bool:
        """Whether the graph takes every column as float32."""
        return all(slot.dtype == np.float32 for slot in self.slots)

    @property
    def _largest(self) -> Array:
        # What floats hold; of integers, truth values and categories no interval is free of faults.
        largest = np.full(len(self.columns), -np.inf)
        for slot in self.slots:
            if slot.dtype.kind == "f":
                largest[slot.columns] = float(np.finfo(slot.dtype).max)
        largest[list(self.codes)] = -np.inf
        return largest

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What a row holds for every graph input."""
        return tuple(Entry(slot.name, self.columns[slot.columns], slot.dtype) for slot in self.slots)

    def admit(self, rows: Rows) -> tuple[Array, Feeds]:
        """Checked columns, and the arrays that the graph takes.

        Parameters
        ----------
        rows : ndarray of shape (N, F)
            NaN where a value is missing; `Fields` belong to models with other inputs.

        Returns
        -------
        columns : ndarray of shape (N, F)
            With substitutes filled in.
        feeds : dict of str to ndarray

        Raises
        ------
        InvalidInstances
            With a fault for every cell that is missing, not allowed, or does not fit the graph's type.
        """
        if isinstance(rows, Fields) and not {one.name for one in self.wide}.issuperset(rows.others):
            raise TypeError("this model takes columns of numbers, and was given fields")
        columns, whole, faults = self.check(rows)
        if faults:
            raise refusal(faults)
        return nudged(columns, whole, self.wide), self.feeds(columns, whole)

    def check(self, rows: Rows) -> tuple[Array, Whole, list[Fault]]:
        """Columns with substitutes filled in, integers that doubles cannot hold, and every cell at fault."""
        numbers, whole = parted(rows, self.wide)
        if self._plain(numbers):
            return numbers, whole, []
        missing = np.isnan(numbers)
        faults = [*self._missing(missing), *self._not_allowed(numbers, whole)]
        if missing.any():
            numbers, whole = np.where(missing, self.substitutes, numbers), with_substitutes(missing, whole, self.wide)
        faults += [fault for slot in self.slots for fault in self._unfit(slot, numbers, whole)]
        return numbers, whole, faults + self._unknown(numbers, whole, {fault.path for fault in faults})

    def _plain(self, rows: Array) -> bool:
        plain = (rows >= self.least) & (rows <= self.most)
        return int(np.count_nonzero(plain)) == plain.size

    def feeds(self, columns: Array, whole: Whole) -> Feeds:
        """The arrays that the graph takes, of columns that were checked."""
        return {slot.name: self._fed(slot, columns, whole) for slot in self.slots}

    def taken(self, columns: Array) -> Array:
        """Columns as the graph takes them, in float64: what a client sends in float32 is then the same row as its text.

        Scores on inputs look at these, and so at what the model looks at.
        """
        if self.singles:
            return columns.astype(np.float32).astype(np.float64)
        rounded = columns.copy()
        for slot in self.slots:
            if slot.dtype.kind == "f":
                rounded[:, slot.columns] = columns[:, slot.columns].astype(slot.dtype)
        return rounded

    def _fed(self, slot: Slot, columns: Array, whole: Whole) -> Values:
        if not whole or not is_wide(slot.dtype):
            return np.ascontiguousarray(columns[:, slot.place], slot.dtype)
        places = range(slot.columns.start, slot.columns.stop)
        parts = [fed(columns[:, i], whole.get(self.columns[i]), slot.dtype) for i in places]
        return parts[0] if slot.flat else np.stack(parts, axis=1)

    def synthetic(self, rows: int = 1) -> Rows:
        """Rows within every declared range, the first in the middle, shape (N, F); synthetic."""
        low = np.maximum(self.plausible_low, self.allowed_low)
        high = np.minimum(self.plausible_high, self.allowed_high)
        bounded = np.isfinite(low) & np.isfinite(high)
        share = (0.5 + GOLDEN * np.outer(np.arange(rows), 1 + np.arange(len(low)))) % 1.0
        inside = np.where(bounded, low, 0.0) + share * np.where(bounded, high - np.where(bounded, low, 0.0), 0.0)
        values: Array = np.where(bounded, inside, np.clip(SPREAD * (share - 0.5), low, high))
        for slot in self.slots:
            if slot.dtype.kind != "f":
                least, most = (0, 1) if slot.dtype.kind == "b" else (np.iinfo(slot.dtype).min, np.iinfo(slot.dtype).max)
                whole = np.maximum(np.floor(values[:, slot.columns]), np.ceil(low[slot.columns]))
                values[:, slot.columns] = np.clip(whole, least, most)
        drawn = self._drawn(values)
        for column, codes in self.codes.items():
            chosen = codes[np.arange(rows) % len(codes)]
            values[:, column] = chosen
            if beyond(values[:, column]).any():
                drawn[self.columns[column]] = chosen
        return rows_with(values, drawn)

    def _drawn(self, values: Array) -> Whole:
        """Integers within bounds that doubles cannot hold."""
        drawn: Whole = {}
        for one in self.wide:
            doubles = values[:, one.index]
            if one.index in self.codes:
                codes = self.codes[one.index]
                drawn[one.name] = codes[np.arange(len(values)) % len(codes)]
            elif beyond(doubles).any():
                limits = np.iinfo(one.dtype)
                lows = [int(limits.min), *(b[0] for b in (one.allowed, one.plausible) if b[0] is not None)]
                highs = [int(limits.max), *(b[1] for b in (one.allowed, one.plausible) if b[1] is not None)]
                found = [min(max(int(value), *lows), *highs) for value in doubles.tolist()]
                drawn[one.name] = integers(found)
                values[:, one.index] = drawn[one.name].astype(np.float64)
        return drawn

    def _missing(self, missing: Flags) -> Iterator[Fault]:
        yield from self._faults(missing & ~self.may_miss, "missing-value", "must be a number, it is missing")

    def _not_allowed(self, rows: Array, whole: Whole) -> Iterator[Fault]:
        bad = (rows < self.allowed_low) | (rows > self.allowed_high)
        for one in self.wide:
            bad[:, one.index] |= outside_of(rows[:, one.index], whole.get(one.name), one.allowed)
        for fault in self._faults(bad, "not-allowed", ""):
            i = self.columns.index(str(fault.path[-1]))
            yield Fault(fault.path, fault.code, f"must lie between {' and '.join(self._bounds(i))}")

    def _bounds(self, column: int) -> list[str]:
        exact = next((one.allowed for one in self.wide if one.index == column), (None, None))
        ends = (self.allowed_low[column], self.allowed_high[column])
        return [f"{end:g}" if own is None else str(own) for own, end in zip(exact, ends, strict=True)]

    def _unknown(self, rows: Array, whole: Whole, reported: set[tuple[str | int, ...]]) -> list[Fault]:
        faults: list[Fault] = []
        for column, codes in self.codes.items():
            doubles, own = rows[:, column], whole.get(self.columns[column])
            bad = np.zeros(rows.shape, dtype=np.bool_)
            bad[:, column] = ~is_among(doubles, own, codes) & ~np.isnan(doubles)
            faults += self._faults(bad, "unknown-category", "is none of the categories that the model knows")
        return [fault for fault in faults if fault.path not in reported]

    def _unfit(self, slot: Slot, rows: Array, whole: Whole) -> Iterator[Fault]:
        if is_wide(slot.dtype):
            for i in range(slot.columns.start, slot.columns.stop):
                found = misfits(rows[:, i], slot.dtype)
                for bad, code, detail in misfits_of(rows[:, i], whole.get(self.columns[i]), slot.dtype, found):
                    yield from self._faults(bad[:, None], code, detail, first=i)
            return
        for bad, code, detail in misfits(rows[:, slot.columns], slot.dtype):
            yield from self._faults(bad, code, detail, first=slot.columns.start)

    def _faults(self, bad: Flags, code: str, detail: str, *, first: int = 0) -> Iterator[Fault]:
        if not bad.any():
            return
        for row, column in np.argwhere(bad)[:MOST_FAULTS]:
            yield Fault(("instances", int(row), self.columns[first + int(column)]), code, detail)


def misfits(values: Values, dtype: np.dtype[Any]) -> Iterator[tuple[Flags, str, str]]:
    """Which numbers an element of ``dtype`` cannot hold: flags of their shape, a fault's code and its words.

    NaN fits a float; nothing else holds it: for other types a substitute was filled in before.
    """
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        yield (values > most) | (values < -most), "number-out-of-range", f"does not fit {dtype}"
    elif dtype.kind == "b":
        yield (values != 0) & (values != 1) & ~np.isnan(values), "wrong-type", "must be true or false"
    else:
        limits, whole = np.iinfo(dtype), values.dtype.kind != "f"
        if not whole:
            yield (values != np.floor(values)) & ~np.isnan(values), "wrong-type", "must be a whole number"
        # A double cannot hold the largest int64, but the number after it.
        above = values > limits.max if whole else values >= float(limits.max) + 1.0
        yield above | (values < limits.min), "number-out-of-range", f"does not fit {dtype}"


def refusal(faults: list[Fault]) -> InvalidInstances:
    """The error with the place of the first fault, and how many more there are."""
    _, row, *place = faults[0].path
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    where = ", ".join([f"row {row}", *(repr(step) if isinstance(step, str) else f"position {step}" for step in place)])
    return InvalidInstances(f"{where}: {faults[0].detail}{more}", faults)
