"""What a model's inputs accept: rows are checked and cast here, once, for every protocol."""

from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Manifest
from service.bundle.sections import Feature, Impute, Input
from service.core.numerics import EXACT, Array
from service.errors import ManifestInvalid
from service.runtime.fields import Constant, FieldInputs, Mask, Texts
from service.runtime.integers import Wide, integers, is_wide
from service.runtime.numbers import NumberInputs, Slot, misfits
from service.runtime.rows import Entry, Rows
from service.runtime.session import DTYPES, TEXT, Feeds, Session, Tensor

ANYTHING = Feature()


class Inputs(Protocol):
    """What a model takes: a table of numbers (`NumberInputs`), or fields of several kinds (`FieldInputs`)."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What a row holds for every graph input that is not the service's to fill, in manifest order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of numbers."""

    @property
    def wide(self) -> tuple[Wide, ...]:
        """Those of them that are 64-bit integers, which doubles do not all hold."""

    @property
    def plausible_low(self) -> Array:
        """Lower ends of the columns' plausible ranges, shape (F,)."""

    @property
    def plausible_high(self) -> Array:
        """Upper ends of the columns' plausible ranges, shape (F,)."""

    def admit(self, rows: Rows) -> tuple[Array, Feeds]:
        """Columns of numbers, shape (N, F), and the arrays that the graph takes.

        Raises
        ------
        InvalidInstances
            With a fault for every place that is missing, not allowed, or does not fit the graph.
        """

    def taken(self, columns: Array) -> Array:
        """Columns of numbers as the graph takes them, rounded to its types, in float64."""

    def synthetic(self, rows: int = 1) -> Rows:
        """Synthetic rows that the model should be able to take."""


def bind_inputs(manifest: Manifest, session: Session) -> Inputs:
    """Match the manifest's inputs with the graph's.

    Raises
    ------
    ManifestInvalid
        If an input is missing on either side, has another shape, or a type that no row can fill.
    """
    graph = {tensor.name: tensor for tensor in session.inputs}
    declared = [entry.name for entry in manifest.inputs]
    if sorted(graph) != sorted(declared):
        raise ManifestInvalid(f"[[inputs]] declares {', '.join(declared)}; the graph takes {', '.join(graph)}")
    rows = [entry for entry in manifest.inputs if not entry.is_filled]
    entries = tuple(_entry(entry, graph[entry.name], manifest) for entry in rows)
    numbers = _numbers(entries, manifest, graph)
    if len(numbers.slots) == len(manifest.inputs):
        return numbers
    _check_lengths(entries)
    texts = tuple(_texts(entry, manifest, graph[entry.name]) for entry in entries if entry.is_text and not entry.shape)
    masks = tuple(Mask(entry.name, _dtype(graph[entry.name])) for entry in manifest.inputs if entry.mask)
    constants = tuple(_constant(entry, graph[entry.name]) for entry in manifest.inputs if entry.fill is not None)
    return FieldInputs(entries, numbers, texts, masks, constants)


def _entry(entry: Input, tensor: Tensor, manifest: Manifest) -> Entry:
    dtype = _dtype(tensor)
    if not _is_tensor(entry, tensor):
        _check_width(tensor, len(entry.columns))
        _check_features(entry, dtype, manifest)
        if entry.allowed is not None:
            raise ManifestInvalid(f"input {entry.name!r} is a column: declare what it may hold under [features]")
        return Entry(entry.name, entry.columns, dtype)
    if dtype.kind == "O":
        raise ManifestInvalid(f"input {entry.name!r} takes text: name its columns in features")
    if entry.name in manifest.features:
        raise ManifestInvalid(
            f"features.{entry.name}: the input is a tensor, and what a feature declares is a column's"
        )
    if entry.pad is not None and any(bad.any() for bad, _, _ in misfits(np.array([entry.pad]), dtype)):
        raise ManifestInvalid(f"input {entry.name!r}: its pad does not fit {dtype}")
    fixed = len(tensor.shape) > 1 and tensor.shape[1] is not None
    return Entry(entry.name, entry.columns, dtype, _row_shape(entry, tensor), entry.pad, fixed, entry.allowed)


def _is_tensor(entry: Input, tensor: Tensor) -> bool:
    if entry.features is not None:
        return False
    declared = entry.pad is not None or entry.shape is not None
    return declared or len(tensor.shape) > 2 or (len(tensor.shape) == 2 and tensor.shape[1] != 1)


def _row_shape(entry: Input, tensor: Tensor) -> tuple[int | None, ...]:
    known = tensor.shape[1:]
    declared: tuple[int | None, ...] = entry.shape or known
    agree = len(known) == len(declared) and all(a in (None, b) for a, b in zip(known, declared, strict=True))
    if not declared:
        raise ManifestInvalid(f"input {entry.name!r}: the graph gives it no shape; declare one row's shape")
    if known and not agree:
        raise ManifestInvalid(f"input {entry.name!r}: shape {list(declared)} contradicts the graph's {_shape(tensor)}")
    return declared


def _check_width(tensor: Tensor, width: int) -> None:
    fits = not tensor.shape or (len(tensor.shape) == 2 and tensor.shape[1] in (None, width))
    if not fits and not (len(tensor.shape) == 1 and width == 1):
        raise ManifestInvalid(
            f"input {tensor.name!r} has shape {_shape(tensor)}; the manifest names {width} columns for it"
        )


def _check_features(entry: Input, dtype: np.dtype[Any], manifest: Manifest) -> None:
    for column in entry.columns:
        feature = manifest.features.get(column, ANYTHING)
        says_number = (
            feature.plausible
            or feature.allowed
            or feature.missing == "nan"
            or _imputes(feature, float)
            or _imputes(feature, int)
        )
        if dtype.kind == "O" and says_number:
            raise ManifestInvalid(f"features.{column}: the graph takes text there, and what is declared is a number's")
        if dtype.kind == "O" and isinstance((feature.categories or ("",))[0], int):
            raise ManifestInvalid(f"features.{column}: the graph takes text there, and its categories are numbers")
        if dtype.kind != "O" and (isinstance((feature.categories or (0,))[0], str) or _imputes(feature, str)):
            raise ManifestInvalid(f"features.{column}: the graph takes numbers there, and what is declared is a text's")
        if dtype.kind not in "fO" and feature.missing == "nan":
            raise ManifestInvalid(f"input {entry.name!r} takes whole numbers: none of its features can miss as NaN")


def _imputes(feature: Feature, kind: type) -> bool:
    return isinstance(feature.missing, Impute) and isinstance(feature.missing.impute, kind)


def _check_lengths(entries: tuple[Entry, ...]) -> None:
    varying = [entry for entry in entries if entry.pad is not None]
    for entry in entries if varying else ():
        alike = (entry.shape[:1], entry.fixed) == (varying[0].shape[:1], varying[0].fixed)
        if entry.shape and (entry.shape[0] is None if entry.pad is None else not alike):
            raise ManifestInvalid(
                f"inputs {varying[0].name!r} and {entry.name!r} vary in length: both need pad, and to be equally long"
            )


def _numbers(entries: tuple[Entry, ...], manifest: Manifest, graph: dict[str, Tensor]) -> NumberInputs:
    slots: list[Slot] = []
    tables = [entry for entry in entries if not entry.shape and not entry.is_text]
    for entry in tables:
        start = slots[-1].columns.stop if slots else 0
        flat = len(graph[entry.name].shape) == 1
        slots.append(Slot(entry.name, entry.dtype, slice(start, start + len(entry.cells)), flat))
    columns = tuple(column for entry in tables for column in entry.cells)
    features = [manifest.features.get(column, ANYTHING) for column in columns]
    return NumberInputs(
        columns,
        tuple(slots),
        *_bounds([feature.allowed for feature in features]),
        *_bounds([feature.plausible for feature in features]),
        np.array([feature.missing != "reject" for feature in features], dtype=np.bool_),
        np.array([f.missing.impute if isinstance(f.missing, Impute) else np.nan for f in features], dtype=np.float64),
        {i: codes for i, f in enumerate(features) if (codes := _codes(f)) is not None},
        tuple(_wide(slot, i, columns[i], features[i]) for slot in slots if is_wide(slot.dtype) for i in _places(slot)),
    )


def _places(slot: Slot) -> range:
    return range(slot.columns.start, slot.columns.stop)


def _wide(slot: Slot, index: int, name: str, feature: Feature) -> Wide:
    substitute = feature.missing.impute if isinstance(feature.missing, Impute) else None
    return Wide(
        name,
        index,
        slot.dtype,
        _whole_ends(feature.allowed),
        _whole_ends(feature.plausible),
        int(substitute) if _is_beyond(substitute) and _fits(int(substitute), slot.dtype) else None,
    )


def _whole_ends(pair: tuple[float, float] | None) -> tuple[int | None, int | None]:
    """Bounds beyond those whole numbers that doubles hold; doubles of that size are whole."""
    low, high = (int(end) if _is_beyond(end) else None for end in pair or (None, None))
    return low, high


def _is_beyond(number: float | str | None) -> TypeGuard[float]:
    return isinstance(number, int | float) and abs(number) >= EXACT


def _fits(number: int, dtype: np.dtype[Any]) -> bool:
    return int(np.iinfo(dtype).min) <= number <= int(np.iinfo(dtype).max)


def _codes(feature: Feature) -> npt.NDArray[Any] | None:
    """The whole numbers that a column may hold."""
    return None if feature.categories is None else integers([c for c in feature.categories if isinstance(c, int)])


def _texts(entry: Entry, manifest: Manifest, tensor: Tensor) -> Texts:
    features = [manifest.features.get(column, ANYTHING) for column in entry.cells]
    substitutes = [f.missing.impute if isinstance(f.missing, Impute) else None for f in features]
    return Texts(
        entry.name,
        entry.cells,
        tuple(None if f.categories is None else tuple(map(str, f.categories)) for f in features),
        tuple(None if value is None else str(value) for value in substitutes),
        len(tensor.shape) == 1,
    )


def _constant(entry: Input, tensor: Tensor) -> Constant:
    if entry.fill is None:
        raise TypeError("only an input with a fill is a constant")
    return Constant(entry.name, _dtype(tensor), tensor.shape[1:], entry.fill)


def _dtype(tensor: Tensor) -> np.dtype[Any]:
    if tensor.type == TEXT:
        return np.dtype(object)
    if tensor.type not in DTYPES:
        raise ManifestInvalid(f"input {tensor.name!r} is {tensor.type}; rows fill {', '.join((*DTYPES, TEXT))}")
    return np.dtype(DTYPES[tensor.type])


def _shape(tensor: Tensor) -> list[int | str]:
    first, *rest = tensor.shape
    return ["rows" if first is None else first, *("open" if d is None else d for d in rest)]


def _bounds(pairs: list[tuple[float, float] | None]) -> tuple[Array, Array]:
    ends: npt.NDArray[np.float64] = np.array([pair or (-np.inf, np.inf) for pair in pairs], dtype=np.float64)
    ends = ends.reshape(-1, 2)
    return ends[:, 0], ends[:, 1]
