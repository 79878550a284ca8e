"""Rows of several kinds: numbers beside text, tensors, masks that the service fills itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from service.core.numerics import Array, Flags
from service.errors import MOST_FAULTS, Fault, InvalidInstances
from service.runtime.integers import Misfit, Wide, is_wide, misfits_of, nudged
from service.runtime.numbers import NumberInputs, misfits, refusal
from service.runtime.rows import Entry, Fields, Rows, Values, stretched
from service.runtime.session import Feeds

DRAWN_LENGTH = 8  # of a synthetic row that may have any
DRAWN_SIDE = 32  # of an undeclared dimension: most often an image's


@dataclass(frozen=True, slots=True)
class Texts:
    """A graph input of strings.

    Attributes
    ----------
    name : str
    columns : tuple of str
    categories : tuple of (tuple of str or None)
        By column, what it may hold; None is anything.
    substitutes : tuple of (str or None)
        By column, what stands in for a missing value; None refuses it.
    flat : bool
        Whether the graph takes rank 1.
    """

    name: str
    columns: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    substitutes: tuple[str | None, ...]
    flat: bool

    def check(self, others: dict[str, Values]) -> Iterator[Fault]:
        """Cells that are no text, or none that is allowed."""
        for column, categories, substitute in zip(self.columns, self.categories, self.substitutes, strict=True):
            known = None if categories is None else frozenset(categories)
            for row, cell in enumerate(others[column].tolist()):
                fault = _text_fault(cell, known, optional=substitute is not None)
                if fault is not None:
                    yield Fault(("instances", row, column), *fault)

    def feed(self, others: dict[str, Values]) -> Values:
        """Python strings in an array of objects: of bytes or fixed-width strings ONNX Runtime reads something else."""
        rows = len(others[self.columns[0]])
        feed = np.empty((rows, len(self.columns)), dtype=object)
        for i, (column, substitute) in enumerate(zip(self.columns, self.substitutes, strict=True)):
            feed[:, i] = [substitute if cell is None else cell for cell in others[column].tolist()]
        return feed[:, 0] if self.flat else feed

    def synthetic(self, rows: int) -> dict[str, Values]:
        """The categories of every column in turn, or none declared."""
        known = [("",) if categories is None else categories for categories in self.categories]
        return {
            column: np.array([texts[row % len(texts)] for row in range(rows)], dtype=object)
            for column, texts in zip(self.columns, known, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Mask:
    """A graph input that is 1 at a row's own positions and 0 where it was padded."""

    name: str
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Constant:
    """A graph input that holds one number everywhere; a dimension that is open is as long as the rows are."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    value: float


@dataclass(frozen=True, slots=True)
class FieldInputs:
    """Inputs of which not all are columns of numbers.

    Attributes
    ----------
    entries : tuple of Entry
        What a row holds, in manifest order.
    numbers : NumberInputs
        The columns of numbers among them.
    texts : tuple of Texts
    masks : tuple of Mask
    constants : tuple of Constant
    """

    entries: tuple[Entry, ...]
    numbers: NumberInputs
    texts: tuple[Texts, ...]
    masks: tuple[Mask, ...]
    constants: tuple[Constant, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return self.numbers.columns

    @property
    def wide(self) -> tuple[Wide, ...]:
        """Those of them that are 64-bit integers, which doubles do not all hold."""
        return self.numbers.wide

    @property
    def plausible_low(self) -> Array:
        """Lower ends of their plausible ranges, shape (F,)."""
        return self.numbers.plausible_low

    @property
    def plausible_high(self) -> Array:
        """Upper ends of their plausible ranges, shape (F,)."""
        return self.numbers.plausible_high

    @property
    def tensors(self) -> tuple[Entry, ...]:
        """Inputs that are no columns."""
        return tuple(entry for entry in self.entries if entry.shape)

    @property
    def varying(self) -> Entry | None:
        """An input whose rows may differ in length; all such inputs are alike in that."""
        return next((entry for entry in self.tensors if entry.pad is not None), None)

    def admit(self, rows: Rows) -> tuple[Array, Feeds]:
        """Columns of numbers, shape (N, F), and the arrays that the graph takes.

        Raises
        ------
        InvalidInstances
            With a fault for every place that is missing, not allowed, or does not fit the graph.
        """
        if not isinstance(rows, Fields):
            raise TypeError("this model takes fields, and was given columns of numbers")
        self._check_rows(rows)
        inside = self._inside(rows)
        columns, whole, faults = self.numbers.check(rows)
        faults += [fault for texts in self.texts for fault in islice(texts.check(rows.others), MOST_FAULTS)]
        tensors = {entry.name: _settled(entry, rows.others[entry.name], inside) for entry in self.tensors}
        faults += [fault for entry in self.tensors for fault in _unfit(entry, tensors[entry.name])]
        if faults:
            raise refusal(faults)
        feeds = {entry.name: np.ascontiguousarray(tensors[entry.name], entry.dtype) for entry in self.tensors}
        feeds |= self.numbers.feeds(columns, whole) | {texts.name: texts.feed(rows.others) for texts in self.texts}
        return nudged(columns, whole, self.numbers.wide), feeds | self._filled(len(rows), inside)

    def taken(self, columns: Array) -> Array:
        """`NumberInputs.taken`."""
        return self.numbers.taken(columns)

    def synthetic(self, rows: int = 1) -> Fields:
        """Numbers within their ranges, categories in turn, tensors of small numbers; the first row is the longest."""
        numbers = self.numbers.synthetic(rows)
        others: dict[str, Values] = dict(numbers.others) if isinstance(numbers, Fields) else {}
        numbers = numbers.numbers if isinstance(numbers, Fields) else numbers
        others |= {name: cells for texts in self.texts for name, cells in texts.synthetic(rows).items()}
        others |= {entry.name: np.stack([_drawn(entry, row) for row in range(rows)]) for entry in self.tensors}
        if self.varying is None:
            return Fields(numbers, others)
        lengths = np.maximum(others[self.varying.name].shape[1] - np.arange(rows), 1)
        return Fields(numbers, others, lengths)

    def cut(self, feeds: Feeds, row: int, length: int) -> Feeds:
        """What the graph takes of one row alone: arrays that follow the rows' length are as long as this one."""
        own = {name: feed[row : row + 1] for name, feed in feeds.items()}
        if self.varying is None or self.varying.fixed:
            return own
        following = {entry.name for entry in self.tensors if entry.pad is not None} | {mask.name for mask in self.masks}
        own |= {name: own[name][:, :length] for name in following}
        for constant in self.constants:
            part = tuple(slice(length) if size is None else slice(None) for size in constant.shape)
            own[constant.name] = own[constant.name][(slice(None), *part)]
        return own

    def _check_rows(self, rows: Fields) -> None:
        names = {cell for entry in self.entries if entry.is_text or entry.shape for cell in entry.cells}
        if rows.others.keys() - {one.name for one in self.numbers.wide} != names:
            raise TypeError("fields must be named as the model's columns of text and tensors are")
        counts = {len(rows), *(len(values) for values in rows.others.values())}
        if len(counts) > 1:
            raise InvalidInstances(f"the inputs have different numbers of rows: {', '.join(map(str, sorted(counts)))}")
        for entry in self.tensors:
            _check_shape(entry, rows.others[entry.name])
        if self.varying is not None:
            self._check_lengths(rows)

    def _check_lengths(self, rows: Fields) -> None:
        if rows.lengths is None or rows.lengths.shape != (len(rows),):
            raise TypeError("rows that vary in length need their lengths")
        varying = [entry for entry in self.tensors if entry.pad is not None]
        room = min(rows.others[entry.name].shape[1] for entry in varying)
        most = min(room, varying[0].shape[0] or room)
        bad = np.flatnonzero((rows.lengths < 1) | (rows.lengths > most))[:MOST_FAULTS]
        if len(bad):
            detail = f"must have 1 to {most} positions"
            raise refusal([Fault(("instances", int(row)), "wrong-length", detail) for row in bad])

    def _inside(self, rows: Fields) -> Flags | None:
        if self.varying is None or rows.lengths is None:
            return None
        # As long as the arrays are, not as the longest row: chunks of one data set then answer in one shape.
        longest = max(rows.others[entry.name].shape[1] for entry in self.tensors if entry.pad is not None)
        length = (self.varying.shape[0] if self.varying.fixed else None) or longest
        inside: Flags = np.arange(length) < rows.lengths[:, None]
        return inside

    def _filled(self, rows: int, inside: Flags | None) -> Feeds:
        length = 1 if inside is None else inside.shape[1]
        feeds = {} if inside is None else {mask.name: inside.astype(mask.dtype) for mask in self.masks}
        for constant in self.constants:
            shape = [length if size is None else size for size in constant.shape]
            feeds[constant.name] = np.full((rows, *shape), constant.value, dtype=constant.dtype)
        return feeds


def _text_fault(cell: object, known: frozenset[str] | None, *, optional: bool) -> tuple[str, str] | None:
    if cell is None:
        return None if optional else ("missing-value", "must be a string, it is missing")
    if not isinstance(cell, str):
        return "wrong-type", "must be a string"
    if known is not None and cell not in known:
        return "unknown-category", "is none of the categories that the model knows"
    if not cell.isascii() and any("\ud800" <= sign <= "\udfff" for sign in cell):
        return "wrong-type", "must be Unicode text, without lone surrogates"
    return None


def _check_shape(entry: Entry, values: Values) -> None:
    found, expected = values.shape[1:], entry.shape
    free = 0 if entry.pad is None else 1  # lengths are checked row by row
    fits = len(found) == len(expected) and all(
        size in (None, had) for size, had in zip(expected[free:], found[free:], strict=True)
    )
    if not fits or values.dtype.kind not in "iufb":
        needed = ", ".join("any" if size is None else str(size) for size in expected)
        raise InvalidInstances(f"{entry.name!r} must be numbers of shape [rows, {needed}], it has {list(values.shape)}")


def _settled(entry: Entry, values: Values, inside: Flags | None) -> Values:
    """A tensor as long as the graph takes it, with the input's own padding wherever a row has ended."""
    if entry.pad is None or inside is None:
        return values
    length = inside.shape[1]
    values = stretched(values, length)[:, :length]
    padding = np.array(int(entry.pad) if entry.pad.is_integer() else entry.pad)
    if values.dtype == entry.dtype:  # which the pad was found to fit; of an unsigned array NumPy would make doubles
        padding = padding.astype(entry.dtype)
    return np.where(inside.reshape(*inside.shape, *[1] * (values.ndim - 2)), values, padding)


def _unfit(entry: Entry, values: Values) -> Iterator[Fault]:
    checks = [(~np.isfinite(values), "not-finite", "must be a finite number"), *_misfits(values, entry.dtype)]
    if entry.allowed is not None:
        low, high = entry.allowed
        bad = ((values < low) | (values > high)) & (values != (np.nan if entry.pad is None else entry.pad))
        checks.append((bad, "not-allowed", f"must lie between {low:g} and {high:g}"))
    for bad, code, detail in checks:
        for row, *index in np.argwhere(bad)[:MOST_FAULTS].tolist():
            yield Fault(("instances", row, entry.name, *index), code, detail)


def _misfits(values: Values, dtype: np.dtype[Any]) -> Iterator[Misfit]:
    found = misfits(values, dtype)
    return misfits_of(values, None, dtype, found) if is_wide(dtype) and values.dtype.kind == "f" else found


def _drawn(entry: Entry, row: int) -> Values:
    first, *rest = entry.shape
    if entry.pad is not None:
        first = min(first or DRAWN_LENGTH, DRAWN_LENGTH)
    shape = [DRAWN_SIDE if size is None else size for size in (first, *rest)]
    count = int(np.prod(shape))
    low, high = entry.allowed or (-np.inf, np.inf)
    if entry.dtype.kind == "f":
        return np.clip(np.linspace(0.0, 1.0, count) / (1 + row), low, high).reshape(shape)
    return np.clip(np.arange(count) // (1 + row) % 2, low, high).reshape(shape)  # two ids that any vocabulary has
