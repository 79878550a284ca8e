"""The whole numbers whose index lies inside a table, cell by cell, searched ever closer between two answers.

Tested in tests/importer/test_column_domains.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.graph.encodings import Lookup

POINTS: Final = 128
ROUNDS: Final = 12
SMALL: Final = 260
STEPS: Final = (1, 2, 5)
Array = npt.NDArray[Any]
Whole = npt.NDArray[np.int64]
Run = Callable[[Whole], list[Array]]


@dataclass(frozen=True, slots=True)
class Owner:
    """The table that a cell is an index into, and the index of a cell that is zero, where it moves one by one."""

    table: str
    size: int
    start: int | None
    words: str


@dataclass
class Reach:
    """The values that every cell may hold.

    Attributes
    ----------
    low, high : ndarray of shape (C,)
    owners : list of (Owner or None)
        Of every cell the table that bounds it.
    """

    low: Whole
    high: Whole
    owners: list[Owner | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Elements:
    """Elements of index tensors, each with its lookup, its table's size, and the cell that alone moves it."""

    lookups: list[Lookup]
    sizes: Whole
    cells: Whole


def search(run: Run, lookups: Sequence[Lookup], reach: Reach) -> Reach:
    """Narrow the values of cells to those that reach rows of the tables that they are indices into."""
    base = np.clip(np.zeros_like(reach.low), reach.low, reach.high)
    elements = _moved(run, lookups, base, reach)
    cells = np.unique(elements.cells[elements.cells >= 0])
    if not len(cells):
        return reach
    points = np.clip(_points(lookups)[:, None], reach.low, reach.high)
    inside, backwards = _valid(run, elements, points, cells)
    narrowed = Reach(reach.low.copy(), reach.high.copy(), list(reach.owners))
    held: dict[int, Span] = {}
    turned = set()
    for i, cell in enumerate(cells.tolist()):
        plain, negative = (_span(points[:, cell], flags[:, i]) for flags in (inside, backwards))
        # Codes from 0 or 1 on that are counted from the table's end; other codes are counted from its front.
        turn = negative is not None and negative[1] in (0, 1) and (plain is None or plain[1] > 1)
        if (span := negative if turn else plain) is not None:
            held[cell] = span
            turned |= {cell} if turn else set()
    _refine(run, elements, narrowed, held, frozenset(turned))
    _own(run, elements, narrowed, sorted(held))
    return narrowed


def split_table(reach: Reach) -> None:
    """Divide the rows of a table among cells that reach it with different offsets: each has those before the next."""
    owners = dict(enumerate(reach.owners))
    for table in {owner.table for owner in reach.owners if owner is not None}:
        placed = {i: o for i, o in owners.items() if o is not None and o.table == table and o.start is not None}
        base = max(0, *(int(reach.low[i]) for i in placed), 0)
        first = {i: base + (o.start or 0) for i, o in placed.items()}
        starts = sorted(set(first.values()))
        sizes = np.diff([*starts, max((o.size for o in placed.values()), default=0)])
        if len(starts) > 1 and starts[0] >= 0 and sizes.min() > 1:
            for i, owner in placed.items():
                after = next((s for s in starts if s > first[i]), owner.size)
                reach.low[i] = max(int(reach.low[i]), base)
                reach.high[i] = min(int(reach.high[i]), after - 1 - (owner.start or 0))
                reach.owners[i] = replace(owner, words=f"{owner.words}; the rest of its rows are other columns'")


def _moved(run: Run, lookups: Sequence[Lookup], base: Whole, reach: Reach) -> _Elements:
    """Change one cell after the other, and see which indices follow."""
    count = len(base)
    rows = np.repeat(base[None], 1 + count * len(STEPS), axis=0)
    for s, step in enumerate(STEPS):
        at = 1 + s * count + np.arange(count)
        rows[at, np.arange(count)] += step
    answers = run(np.clip(rows, reach.low, reach.high))
    owners, sizes, of = [], [], []
    for lookup, answer in zip(lookups, answers, strict=True):
        changed = (answer[1:] != answer[0]).reshape(len(STEPS), count, -1).any(axis=0)
        for element in range(answer.shape[1]):
            cells = np.flatnonzero(changed[:, element])
            of.append(int(cells[0]) if len(cells) == 1 else -1)
            owners.append(lookup)
            sizes.append(lookup.sizes[element % len(lookup.sizes)])
    return _Elements(owners, np.array(sizes, dtype=np.int64), np.array(of, dtype=np.int64))


def _points(lookups: Sequence[Lookup]) -> Whole:
    """Numbers near which an index may enter or leave a table."""
    near = {0, *(size for lookup in lookups for size in lookup.sizes)}
    known = {number for lookup in lookups for number in lookup.numbers if abs(number) < 2**40}
    shifts = sorted(near)[:SMALL] if len(known) < SMALL else [0]
    near |= {sign * number + shift for number in known for sign in (1, -1) for shift in shifts}
    wide = {sign * 2**i for i in range(41) for sign in (1, -1)}
    return np.array(sorted({n + d for n in near for d in (-1, 0, 1)} | wide | set(range(-2, SMALL))), dtype=np.int64)


def _valid(run: Run, elements: _Elements, rows: Whole, cells: Whole) -> tuple[Array, Array]:
    """By row and cell, whether all of its indices lie in their tables: from the front, and counted from the end."""
    answers = np.concatenate(run(rows), axis=1)
    front = (answers >= 0) & (answers < elements.sizes)
    back = (answers < 0) & (answers >= -elements.sizes)
    by_cell = [[flags[:, elements.cells == cell].all(axis=1) for cell in cells] for flags in (front, back)]
    return np.stack(by_cell[0], axis=1), np.stack(by_cell[1], axis=1)


Span = tuple[int | None, int, int, int | None]
"""The last invalid number below, the least and the largest valid ones, the first invalid number above."""


def _span(points: Whole, inside: Array) -> Span | None:
    """The run of numbers inside that starts at or after zero, or else the last one."""
    found = np.flatnonzero(inside)
    if not len(found):
        return None
    begin = next((int(i) for i in found if points[i] >= 0), int(found[-1]))
    first = last = begin
    while first > 0 and inside[first - 1]:
        first -= 1
    while last + 1 < len(points) and inside[last + 1]:
        last += 1
    below = int(points[first - 1]) if first > 0 else None
    above = int(points[last + 1]) if last + 1 < len(points) else None
    return below, int(points[first]), int(points[last]), above


def _refine(run: Run, elements: _Elements, reach: Reach, held: dict[int, Span], turned: frozenset[int]) -> None:
    cells = np.array(sorted(held), dtype=np.int64)
    base = np.clip(np.zeros_like(reach.low), reach.low, reach.high)
    for _ in range(ROUNDS):
        open_ends = {c: s for c, s in held.items() if _gap(s[0], s[1]) > 1 or _gap(s[2], s[3]) > 1}
        if not open_ends:
            break
        rows = np.repeat(base[None], 2 * POINTS, axis=0)
        for cell, (below, first, last, above) in open_ends.items():
            rows[:POINTS, cell] = _between(first if below is None else below, first)
            rows[POINTS:, cell] = _between(last, last if above is None else above)
        front, back = _valid(run, elements, rows, cells)
        for i, cell in enumerate(cells.tolist()):
            if cell in open_ends:
                flags = (back if cell in turned else front)[:, i]
                held[cell] = _narrowed(held[cell], rows[:, cell], flags)
    for cell, (below, first, last, above) in held.items():
        reach.low[cell] = first if below is not None else reach.low[cell]
        reach.high[cell] = last if above is not None else reach.high[cell]


def _gap(one: int | None, other: int | None) -> int:
    return 0 if one is None or other is None else abs(one - other)


def _between(first: int, last: int) -> Whole:
    return np.linspace(first, last, POINTS).round().astype(np.int64)


def _narrowed(span: Span, points: Whole, inside: Array) -> Span:
    below, first, last, above = span
    under, over = zip(points[:POINTS], inside[:POINTS], strict=True), zip(points[POINTS:], inside[POINTS:], strict=True)
    for point, good in reversed(list(under)):
        if below is None or not good:
            below = below if below is None else max(below, int(point))
            break
        first = min(first, int(point))
    for point, good in over:
        if above is None or not good:
            above = above if above is None else min(above, int(point))
            break
        last = max(last, int(point))
    return below, first, last, above


def _own(run: Run, elements: _Elements, reach: Reach, cells: list[int]) -> None:
    """Note which table bounds a cell, and the row that a cell of zero points to."""
    bottom = np.stack([reach.low, np.minimum(reach.low + 1, reach.high)])
    first, second = np.concatenate(run(bottom), axis=1)
    for cell in cells:
        (of,) = np.nonzero(elements.cells == cell)
        lookup, size = elements.lookups[of[0]], int(elements.sizes[of].min())
        begin = int(first[of[0]]) - int(reach.low[cell])
        alone = bool((first[of] == first[of[0]]).all() and (second[of] - first[of] == 1).all())
        behind = f", behind an offset of {begin}" if alone and begin else ""
        words = f"{lookup.operator} has a table of {size} rows{behind}"
        reach.owners[cell] = Owner(lookup.table, size, begin if alone else None, words)
