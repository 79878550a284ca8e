"""What a model's inputs accept: rows are checked and cast here, once, whatever door they came through."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Feature, Impute, Manifest
from service.core.numerics import Array, Flags
from service.errors import Fault, InvalidInstances, ManifestInvalid
from service.runtime.rows import Fields, Rows
from service.runtime.session import DTYPES, Feeds, Session, Tensor

ANYTHING = Feature()
MOST_FAULTS = 20  # of each kind; whoever sent more wrong cells than that learns nothing from the rest


@dataclass(frozen=True, slots=True)
class Slot:
    """A graph input: which columns of a row it takes, and as what."""

    name: str
    dtype: np.dtype[Any]
    columns: slice


@dataclass(frozen=True, slots=True)
class Inputs:
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
    """

    columns: tuple[str, ...]
    slots: tuple[Slot, ...]
    allowed_low: Array
    allowed_high: Array
    plausible_low: Array
    plausible_high: Array
    may_miss: Flags
    substitutes: Array

    def admit(self, rows: Rows) -> tuple[Array, Feeds]:
        """Rows that the model may judge, and the arrays its graph takes.

        Parameters
        ----------
        rows : ndarray of shape (N, F)
            NaN where a value is missing; `Fields` belong to models with other inputs.

        Returns
        -------
        features : ndarray of shape (N, F)
            With substitutes filled in.
        feeds : dict of str to ndarray

        Raises
        ------
        InvalidInstances
            With a fault for every cell that is missing, not allowed, or does not fit the graph's type.
        """
        if isinstance(rows, Fields):
            raise TypeError("this model takes columns of numbers, and was given fields")
        missing = np.isnan(rows)
        faults = [*self._missing(missing), *self._not_allowed(rows)]
        if missing.any():
            rows = np.where(missing, self.substitutes, rows)
        faults += [fault for slot in self.slots for fault in self._unfit(slot, rows)]
        if faults:
            raise InvalidInstances(_summary(faults), faults)
        return rows, {slot.name: np.ascontiguousarray(rows[:, slot.columns], slot.dtype) for slot in self.slots}

    def _missing(self, missing: Flags) -> Iterator[Fault]:
        yield from self._faults(missing & ~self.may_miss, "missing-value", "must be a number, it is missing")

    def _not_allowed(self, rows: Array) -> Iterator[Fault]:
        bad = (rows < self.allowed_low) | (rows > self.allowed_high)
        for fault in self._faults(bad, "not-allowed", ""):
            i = self.columns.index(str(fault.path[-1]))
            detail = f"must lie between {self.allowed_low[i]:g} and {self.allowed_high[i]:g}"
            yield Fault(fault.path, fault.code, detail)

    def _unfit(self, slot: Slot, rows: Array) -> Iterator[Fault]:
        part = rows[:, slot.columns]
        first = slot.columns.start
        if slot.dtype.kind == "f":
            large = np.abs(part) > np.finfo(slot.dtype).max
            yield from self._faults(large, "number-out-of-range", f"does not fit {slot.dtype}", first=first)
            return
        broken = (part != np.floor(part)) & ~np.isnan(part)
        yield from self._faults(broken, "wrong-type", "must be a whole number", first=first)
        limits = np.iinfo(slot.dtype)
        outside = (part < limits.min) | (part >= -float(limits.min))
        yield from self._faults(outside, "number-out-of-range", f"does not fit {slot.dtype}", first=first)

    def _faults(self, bad: Flags, code: str, detail: str, *, first: int = 0) -> Iterator[Fault]:
        for row, column in np.argwhere(bad)[:MOST_FAULTS]:
            yield Fault(("instances", int(row), self.columns[first + int(column)]), code, detail)


def bind_inputs(manifest: Manifest, session: Session) -> Inputs:
    """Match the manifest's inputs with the graph's.

    Raises
    ------
    ManifestInvalid
        If an input is missing on either side, has another width, or a type that rows of numbers cannot fill.
    """
    graph = {tensor.name: tensor for tensor in session.inputs}
    declared = [entry.name for entry in manifest.inputs]
    if sorted(graph) != sorted(declared):
        raise ManifestInvalid(f"[[inputs]] declares {', '.join(declared)}; the graph takes {', '.join(graph)}")
    slots = _slots(manifest, graph)
    features = [manifest.features.get(column, ANYTHING) for column in manifest.columns]
    return Inputs(
        manifest.columns,
        slots,
        *_bounds([feature.allowed for feature in features]),
        *_bounds([feature.plausible for feature in features]),
        np.array([feature.missing != "reject" for feature in features]),
        np.array([f.missing.impute if isinstance(f.missing, Impute) else np.nan for f in features]),
    )


def _slots(manifest: Manifest, graph: dict[str, Tensor]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    for entry in manifest.inputs:
        start = slots[-1].columns.stop if slots else 0
        dtype = _dtype(graph[entry.name], len(entry.columns))
        if dtype.kind == "i" and any(manifest.features.get(c, ANYTHING).missing == "nan" for c in entry.columns):
            raise ManifestInvalid(f"input {entry.name!r} takes whole numbers: none of its features can miss as NaN")
        slots.append(Slot(entry.name, dtype, slice(start, start + len(entry.columns))))
    return tuple(slots)


def _dtype(tensor: Tensor, width: int) -> np.dtype[Any]:
    if tensor.type not in DTYPES:
        raise ManifestInvalid(f"input {tensor.name!r} is {tensor.type}; rows of numbers fill {', '.join(DTYPES)}")
    if len(tensor.shape) != 2 or tensor.shape[1] not in (None, width):
        shape = ["rows" if d is None else d for d in tensor.shape]
        raise ManifestInvalid(f"input {tensor.name!r} has shape {shape}; the manifest names {width} columns for it")
    return np.dtype(DTYPES[tensor.type])


def _bounds(pairs: list[tuple[float, float] | None]) -> tuple[Array, Array]:
    ends: npt.NDArray[np.float64] = np.array([pair or (-np.inf, np.inf) for pair in pairs], dtype=np.float64)
    return ends[:, 0], ends[:, 1]


def _summary(faults: list[Fault]) -> str:
    _, row, column = faults[0].path
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"row {row}, {column!r}: {faults[0].detail}{more}"
