"""Synthetic rows for the inputs of a graph.

Tested in tests/importer/test_analysis.py.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.importer.input_plan import DTYPES, LEAST_SIZE, PADDING, Domain, PlannedInput, is_integer, shared_domain
from service.importer.sandbox import Arrays

MOST_ROWS = 16
MOST_CELLS = 2_000_000
SIZES: Final = (LEAST_SIZE, 32, 48, 224)
"""Tried for dimensions that vary: some networks need more than a few pixels."""

SCALES: Final = np.array([1.0, 0.1, 1.0, 0.01])
"""Of synthetic rows in turn: some are small, or a saturating operator would saturate in all of them."""

LONGER = 3


def rows_at_once(filled: Sequence[PlannedInput], size: int, *, several: bool = False) -> int:
    """How many synthetic rows to run: a few of large ones; a fixed batch as it is, unless of ``several``."""
    fixed = next((f.input.batch for f in filled if f.input.batch is not None), None)
    most = max(2, min(MOST_ROWS, MOST_CELLS // max(cells_of(filled, size), 1)))
    return most if several or fixed is None else fixed


def cells_of(filled: Sequence[PlannedInput], size: int) -> int:
    """Numbers of one row whose dimensions that vary have a size."""
    return sum(math.prod(shape_of(f, 1, size)) for f in filled)


def draw(filled: Sequence[PlannedInput], rows: int, size: int, *, seed: int = 0) -> Arrays:
    """Synthetic rows; dimensions that vary have a size."""
    rng = np.random.default_rng(seed)
    scales = SCALES[(seed + np.arange(rows)) % len(SCALES)]
    return {f.input.name: _values(f, shape_of(f, rows, size), rng, scales) for f in filled}


def pad(filled: Sequence[PlannedInput], feeds: Arrays, positions: int) -> Arrays:
    """The same rows with positions added that a mask leaves out."""
    padded = {}
    for f in filled:
        value = feeds[f.input.name]
        if f.has_positions:
            widths = [(0, positions if axis == 1 else 0) for axis in range(value.ndim)]
            value = np.pad(value, widths, constant_values=PADDING)  # a mask's zeros, a segment's, or padding tokens
        padded[f.input.name] = value
    return padded


def shape_of(f: PlannedInput, rows: int, size: int) -> tuple[int, ...]:
    """Shape of an input for some rows; dimensions that vary have a size."""
    if f.features is not None:
        return (rows,) if f.input.is_flat else (rows, len(f.features))
    return (rows, *(d if isinstance(d, int) else size for d in (f.input.dims or ())[1:]))


def _values(
    f: PlannedInput, shape: tuple[int, ...], rng: np.random.Generator, scales: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    if f.mask or "mask" in f.input.name.lower():
        return np.ones(shape, DTYPES[f.input.type])
    if f.fill is not None:
        return np.full(shape, f.fill, DTYPES[f.input.type])
    if f.input.type == "STRING":
        return _text(f, shape, rng)
    if f.domains:
        return _within(f, shape, rng)
    if f.input.type == "UINT8":
        return rng.integers(0, min(f.input.table or 256, 256), shape).astype(np.uint8)
    values = np.abs(rng.normal(size=shape)) * 3
    if not is_integer(f.input):
        values = values * scales.reshape(-1, *[1] * (values.ndim - 1))
    if f.input.table is not None:
        values = np.minimum(values, f.input.table - 1)
    return values.astype(DTYPES[f.input.type])


def _within(f: PlannedInput, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Numbers that the graph knows; a tensor of another size than was probed holds what all cells may hold."""
    count = int(np.prod(shape[1:]))
    domains = f.domains if len(f.domains) == count else (shared_domain(f.domains),) * count
    columns = [_drawn(domain, shape[0], rng) for domain in domains]
    return np.stack(columns, axis=1).reshape(shape).astype(DTYPES[f.input.type])


def _drawn(domain: Domain | None, rows: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    normal = rng.normal(size=rows)
    if domain is None:
        return np.abs(normal) * 3
    if domain.categories is not None:
        return rng.choice(np.array([c for c in domain.categories if isinstance(c, int)], dtype=np.int64), size=rows)
    if domain.low is not None or domain.high is not None:
        low = domain.low if domain.low is not None else min(0, domain.high or 0)
        high = domain.high if domain.high is not None else max(low, 3)
        return rng.integers(low, high, size=rows, endpoint=True)
    return (domain.centre or 0.0) + (domain.spread or 1.0) * normal


def _text(f: PlannedInput, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    pools = f.input.words or (("a", "b c"),)
    width = len(f.features or ())
    columns = []
    for i in range(width):
        known = f.domains[i] if f.domains else None
        words = pools[i if len(pools) == width else 0] if known is None else known.categories or ("a",)
        columns.append(rng.choice(np.array(words, dtype=object), size=shape[0]).astype(str))
    return columns[0] if f.input.is_flat else np.stack(columns, axis=1)
