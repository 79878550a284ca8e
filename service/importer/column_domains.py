"""The values that a row's cells may hold: found by running the part of a graph that reads them on numbers and words.

The table of an embedding has a number of rows. The operators before it (offsets, differences, a clip, a remainder)
decide which codes reach them. There is no rule for every operator, so a search over their outputs finds the codes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.errors import GraphError
from service.graph.encodings import Encoder, Encodings, Lookup, Scaling, find_encodings, write_excerpt
from service.graph.inspect import Findings
from service.importer.domain_search import Reach, search, split_table
from service.importer.input_plan import DTYPES, Domain, PlannedInput
from service.importer.sandbox import Arrays, Sandbox
from service.importer.synthetic_rows import SIZES, shape_of

MOST_CELLS: Final = 1024
"""Cells whose bounds are searched: every one is moved by itself."""

MOST_READ: Final = 8192
"""Cells for which two rows show what reads them."""

MOST_CATEGORIES: Final = 1000
Array = npt.NDArray[Any]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a row, numbered through all inputs that rows fill."""

    filled: tuple[PlannedInput, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)

    @property
    def limits(self) -> tuple[Whole, Whole]:
        """Least and largest whole number of every cell, shape (C,)."""
        pairs = [_limits(DTYPES[f.input.type]) for f in self.filled]
        low, high = (np.repeat([pair[i] for pair in pairs], self.counts).astype(np.int64) for i in (0, 1))
        return low, high

    @property
    def texts(self) -> list[bool]:
        """Whether a cell holds text."""
        return [
            f.input.type == "STRING" for f, count in zip(self.filled, self.counts, strict=True) for _ in range(count)
        ]

    def feeds(self, values: Whole, others: Sequence[PlannedInput]) -> Arrays:
        """Rows of whole numbers, shape (R, C); where an input is text, words that end in the number."""
        feeds, start = {}, 0
        for f, count in zip(self.filled, self.counts, strict=True):
            part = values[:, start : start + count]
            shape = shape_of(f, len(values), SIZES[0])
            text = f.input.type == "STRING"
            flat = np.char.add("v", part.astype(str)) if text else part.astype(DTYPES[f.input.type])
            feeds[f.input.name] = flat.reshape(shape)
            start += count
        for f in others:
            feeds[f.input.name] = np.ones(shape_of(f, len(values), SIZES[0]), DTYPES[f.input.type])
        return feeds


@dataclass
class Probe:
    """Runs parts of a graph on rows of whole numbers."""

    child: Sandbox
    findings: Findings
    folder: Path
    cells: Cells
    others: tuple[PlannedInput, ...]

    def open(self, tensors: list[str]) -> "Excerpt":
        """The part that computes some tensors."""
        path = self.folder / "excerpt.onnx"
        return Excerpt(self, path, write_excerpt(self.findings.model, tensors, path))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a graph, written to a file."""

    probe: Probe
    path: Path
    names: list[str]

    def run(self, values: Whole) -> list[Array]:
        """Its outputs for rows of cells, shape (R, C); each (R, E), or (R, 0) where rows merge."""
        probe = self.probe
        batch = next((f.input.batch for f in (*probe.cells.filled, *probe.others) if f.input.batch is not None), None)
        size = batch or len(values)
        padded = np.concatenate([values, np.repeat(values[-1:], -len(values) % size, axis=0)])
        parts = [padded[i : i + size] for i in range(0, len(padded), size)]
        answers = probe.child.run(self.path, self.names, [probe.cells.feeds(part, probe.others) for part in parts])
        return [np.concatenate([_by_row(a[name], size) for a in answers])[: len(values)] for name in self.names]


def with_domains(
    child: Sandbox, findings: Findings, folder: Path, filled: tuple[PlannedInput, ...]
) -> tuple[PlannedInput, ...]:
    """The inputs, with the values that their cells may hold wherever the graph proves it."""
    encodings = find_encodings(findings.model)
    probed = tuple(f for f in filled if f.fill is None and not f.mask and f.input.type != "BOOL")
    cells = Cells(probed, tuple(math.prod(shape_of(f, 1, SIZES[0])[1:]) for f in probed))
    if not (encodings.lookups or encodings.tensors) or not 0 < cells.total <= MOST_READ:
        return filled
    names = {f.input.name for f in probed}
    others = tuple(f for f in filled if f.input.name not in names)
    domains = _domains(Probe(child, findings, folder, cells, others), encodings)
    ends = np.cumsum(cells.counts)
    spans = {f.input.name: domains[end - n : end] for f, n, end in zip(probed, cells.counts, ends, strict=True)}
    known = {name: tuple(span) for name, span in spans.items() if any(d is not None for d in span)}
    return tuple(replace(f, domains=known.get(f.input.name, ())) for f in filled)


def _domains(probe: Probe, encodings: Encodings) -> list[Domain | None]:
    few = probe.cells.total <= MOST_CELLS
    bounds = _bounds(probe, encodings.lookups) if few else [None] * probe.cells.total
    known = _encoded(probe, encodings)
    return [known[i] if known[i] is not None and bounds[i] is None else bounds[i] for i in range(probe.cells.total)]


def _bounds(probe: Probe, lookups: tuple[Lookup, ...]) -> list[Domain | None]:
    """Bounds of the cells that are indices into tables; those that lie behind other tables after these."""
    low, high = probe.cells.limits
    reach = Reach(low, high, [None] * len(low))
    for inner in sorted({lookup.inner for lookup in lookups}):
        level = [lookup for lookup in lookups if lookup.inner == inner]
        try:
            part = probe.open([lookup.indices for lookup in level])
            reach = search(part.run, level, reach)
        except GraphError:
            continue  # the dry run reports the error
    split_table(reach)
    found: list[Domain | None] = []
    for i, owner in enumerate(reach.owners):
        least, most = int(reach.low[i]), int(reach.high[i])
        open_end = 0 if low[i] == 0 and most < high[i] else None  # numbers without a sign
        bounded = (least if least > low[i] else open_end, most if most < high[i] else None)
        known = owner is not None and bounded != (None, None) and least <= most
        found.append(Domain(*bounded, why=owner.words) if known and owner is not None else None)
    return found


def _encoded(probe: Probe, encodings: Encodings) -> list[Domain | None]:
    """Categories, and centres and spreads, of the cells that encoders and scalers read as they are."""
    total, tensors = probe.cells.total, list(encodings.tensors)
    found: list[Domain | None] = [None] * total
    rows = np.stack([2 + np.arange(total), 3 + 2 * np.arange(total)]).astype(np.int64)
    low, high = probe.cells.limits
    try:
        answers = probe.open(tensors).run(np.clip(rows, low, high)) if tensors else []
    except GraphError:
        return found
    read = {name: _sources(answer, rows) for name, answer in zip(tensors, answers, strict=True)}
    for encoder in encodings.encoders:
        for cell in (c for c in read[encoder.tensor] if c is not None):
            if encoder.of_text == probe.cells.texts[cell]:
                found[cell] = found[cell] or _categories(encoder)
    for scaling in encodings.scalings:
        if len(scaling.centre) not in (1, len(read[scaling.tensor])):
            continue  # of channels, not of columns
        for element, source in enumerate(read[scaling.tensor]):
            if source is not None and found[source] is None:
                found[source] = _scaled(scaling, element)
    return found


def _categories(encoder: Encoder) -> Domain | None:
    if not 1 <= len(encoder.categories) <= MOST_CATEGORIES:
        return None
    other = "the graph fails on any other" if encoder.closed else "the graph takes any other for none of them"
    return Domain(categories=encoder.categories, why=f"{encoder.operator} knows these; {other}")


def _scaled(scaling: Scaling, element: int) -> Domain | None:
    at = element % len(scaling.centre)
    centre, spread = scaling.centre[at], scaling.spread[at]
    if not np.isfinite([centre, spread]).all() or spread <= 0:
        return None
    return Domain(centre=centre, spread=spread, why=f"{scaling.operator}: centre {centre:.4g}, spread {spread:.4g}")


def _sources(answer: Array, rows: Whole) -> list[int | None]:
    """Of every element the cell whose value it is, in two rows of values that no two cells share."""
    known = {tuple(pair): cell for cell, pair in enumerate(rows.T.tolist())}
    return [known.get((_whole(a), _whole(b))) for a, b in zip(*answer.tolist(), strict=True)]


def _whole(value: object) -> int | None:
    text = str(value).removeprefix("v").removesuffix(".0")
    return int(text) if text.isdigit() else None


def _by_row(values: Array, rows: int) -> Array:
    return values.reshape(rows, -1) if values.size and values.size % rows == 0 else np.zeros((rows, 0))


def _limits(dtype: str) -> tuple[int, int]:
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        return max(np.iinfo(kind).min, -(2**40)), min(np.iinfo(kind).max, 2**40)
    return {"float16": (-2048, 2048), "float32": (-(2**24), 2**24)}.get(dtype, (-(2**40), 2**40))
