"""Rows of numbers: a table whose columns fill the graph's inputs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import le
from typing import Any

import numpy as np

from service.core.numerics import Array, Flags
from service.core.pipeline import FEW_COLUMNS
from service.errors import Fault, InvalidInstances
from service.runtime.rows import Entry, Fields, Rows, Values
from service.runtime.session import Feeds

GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)  # its multiples fill an interval evenly
SPREAD = 4.0  # of what nobody gave a range
MOST_FAULTS = 20  # of each kind; whoever sent more wrong cells than that learns nothing from the rest


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


@dataclass(frozen=True, slots=True)
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
    least: Array = field(init=False, repr=False, compare=False)
    most: Array = field(init=False, repr=False, compare=False)
    limits: tuple[list[float], list[float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A row of numbers from least to most has no fault; where a slot is not of floats, no numbers are that plain.
        low, high = (np.full(len(self.columns), limit) for limit in (np.inf, -np.inf))
        for slot in self.slots:
            if slot.dtype.kind == "f":
                largest = float(np.finfo(slot.dtype).max)
                low[slot.columns], high[slot.columns] = -largest, largest
        low[list(self.codes)] = np.inf
        object.__setattr__(self, "least", np.maximum(low, self.allowed_low))
        object.__setattr__(self, "most", np.minimum(high, self.allowed_high))
        object.__setattr__(self, "limits", (self.least.tolist(), self.most.tolist()))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What a row holds for every graph input."""
        return tuple(Entry(slot.name, self.columns[slot.columns], slot.dtype) for slot in self.slots)

    def admit(self, rows: Rows) -> tuple[Array, Feeds]:
        """Rows that the model may judge, and the arrays its graph takes.

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
        if isinstance(rows, Fields):
            raise TypeError("this model takes columns of numbers, and was given fields")
        columns, faults = self.check(rows)
        if faults:
            raise refusal(faults)
        return columns, self.feeds(columns)

    def check(self, rows: Array) -> tuple[Array, list[Fault]]:
        """Columns with substitutes filled in, and every cell at fault."""
        if self._plain(rows):
            return rows, []
        missing = np.isnan(rows)
        faults = [*self._missing(missing), *self._not_allowed(rows)]
        if missing.any():
            rows = np.where(missing, self.substitutes, rows)
        faults += [fault for slot in self.slots for fault in self._unfit(slot, rows)]
        return rows, faults + list(self._unknown(rows))

    def _plain(self, rows: Array) -> bool:
        if len(rows) == 1 and rows.size <= FEW_COLUMNS:
            values = rows[0].tolist()
            return all(map(le, self.limits[0], values)) and all(map(le, values, self.limits[1]))
        return bool(np.logical_and.reduce((rows >= self.least) & (rows <= self.most), axis=None))

    def feeds(self, columns: Array) -> Feeds:
        """The arrays that the graph takes, of columns that were checked."""
        return {slot.name: np.ascontiguousarray(columns[:, slot.place], slot.dtype) for slot in self.slots}

    def synthetic(self, rows: int = 1) -> Array:
        """Rows within every declared range, the first in the middle, shape (N, F); nobody's measurements."""
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
        for column, codes in self.codes.items():
            values[:, column] = codes[np.arange(rows) % len(codes)]
        return values

    def _missing(self, missing: Flags) -> Iterator[Fault]:
        yield from self._faults(missing & ~self.may_miss, "missing-value", "must be a number, it is missing")

    def _not_allowed(self, rows: Array) -> Iterator[Fault]:
        bad = (rows < self.allowed_low) | (rows > self.allowed_high)
        for fault in self._faults(bad, "not-allowed", ""):
            i = self.columns.index(str(fault.path[-1]))
            detail = f"must lie between {self.allowed_low[i]:g} and {self.allowed_high[i]:g}"
            yield Fault(fault.path, fault.code, detail)

    def _unknown(self, rows: Array) -> Iterator[Fault]:
        for column, codes in self.codes.items():
            bad = np.zeros(rows.shape, dtype=np.bool_)
            bad[:, column] = ~np.isin(rows[:, column], codes) & ~np.isnan(rows[:, column])
            yield from self._faults(bad, "unknown-category", "is none of the categories that the model knows")

    def _unfit(self, slot: Slot, rows: Array) -> Iterator[Fault]:
        for bad, code, detail in misfits(rows[:, slot.columns], slot.dtype):
            yield from self._faults(bad, code, detail, first=slot.columns.start)

    def _faults(self, bad: Flags, code: str, detail: str, *, first: int = 0) -> Iterator[Fault]:
        if not bad.any():
            return
        for row, column in np.argwhere(bad)[:MOST_FAULTS]:
            yield Fault(("instances", int(row), self.columns[first + int(column)]), code, detail)


def misfits(values: Values, dtype: np.dtype[Any]) -> Iterator[tuple[Flags, str, str]]:
    """Which numbers an element of ``dtype`` cannot hold: flags of their shape, a fault's code and its words.

    NaN fits a float; nothing else holds it, and whoever lets it through to here has given a substitute for it.
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
    """The error that says where the first fault lies, and how many more there are."""
    _, row, *place = faults[0].path
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    where = ", ".join([f"row {row}", *(repr(step) if isinstance(step, str) else f"position {step}" for step in place)])
    return InvalidInstances(f"{where}: {faults[0].detail}{more}", faults)
