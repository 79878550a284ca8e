"""An answer as the columns of its record, where one policy or none decides all rows.

Tested in tests/prediction/test_records.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple, Self

import numpy as np

from service.core.numerics import Array, Indices, largest
from service.core.sequence import flat, lengths_of
from service.prediction.answer import Answer
from service.prediction.answer_member import Column, Plan
from service.prediction.query import Query
from service.prediction.record_layout import (
    DTYPES,
    NULLS,
    Block,
    BlockKind,
    Layout,
    Pick,
    Values,
    block_of,
    places,
    widths,
)
from service.prediction.record_messages import Table

KEPT: Final = 32  # classes of a row, where not all are kept
KEPT_NAME: Final = "kept"
Given = tuple[Block, Any]
"""A block, and its values of all rows: what the request holds for every row."""


class Reader(NamedTuple):
    """What computes the values of a block, from which of a plan's sources, and where they go."""

    read: Callable[[Any], Any]
    source: int
    kind: BlockKind
    at: int | slice
    of_classes: bool


@dataclass(frozen=True, slots=True)
class Fill:
    """Fills columns over rows, or over positions."""

    widths: dict[BlockKind, int]
    readers: tuple[Reader, ...]

    def columns(self, sources: Sequence[Any], count: int, kept: Indices | None) -> dict[BlockKind, Values]:
        """Arrays of shape (count, width).

        Parameters
        ----------
        sources : sequence
            What the plan's sources made of the answer.
        count : int
        kept : ndarray of shape (count, k), or None
            Classes that are kept of every row.
        """
        found = {kind: np.empty((count, width), dtype=DTYPES[kind]) for kind, width in self.widths.items()}
        for read, source, kind, at, of_classes in self.readers:
            values = read(sources[source])
            if values is None:
                values = NULLS[kind]
            elif of_classes and kept is not None:
                values = np.take_along_axis(values, kept, axis=1)
            found[kind][:, at] = values
        return found


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Fills the columns of the records of one query.

    Attributes
    ----------
    layout : Layout
    sources : tuple of callable
        Of the plan of its members.
    rows, positions : Fill
    probable : callable or None
        Probabilities by which classes are kept; None where all are.
    """

    layout: Layout
    sources: tuple[Callable[..., Any], ...]
    rows: Fill
    positions: Fill
    probable: Callable[[Answer], Array] | None

    @classmethod
    def of(cls, query: Query, topics: Sequence[str], *, kept: int | None = None, given: Sequence[Given] = ()) -> Self:
        """Compile them.

        Parameters
        ----------
        query : Query
        topics : sequence of str
            As `Query.plan`.
        kept : int or None
            As `Layout.kept`.
        given : sequence of block and values
            Of every row of the one request with this query.
        """
        plan, task = replace(query, options=replace(query.options, top_k=None)).plan(topics), query.model.task
        leading = [] if kept is None else [_kept_block(query.model.classes, kept)]
        inner = task == "sequence"
        row_blocks, rows = _compiled(plan, [] if inner else leading, kept, given, positions=False)
        position_blocks, positions = _compiled(plan, leading if inner else [], kept, positions=True)
        layout = Layout(tuple(row_blocks), tuple(position_blocks), _picks(plan), kept)
        return cls(layout, plan.sources, rows, positions, None if kept is None else PROBABLE[task])

    def table(self, answer: Answer) -> Table:
        """The columns of an answer."""
        sources = [source(answer, ()) for source in self.sources]
        probable = None if self.probable is None else self.probable(answer)
        kept = None if probable is None or self.layout.kept is None else largest(probable, self.layout.kept)
        if not self.layout.positions:
            return Table(self.rows.columns([*sources, kept], len(answer), kept), {})
        lengths = lengths_of(answer.posterior)
        positions = self.positions.columns([*sources, kept], int(lengths.sum()), kept)
        return Table(self.rows.columns([*sources, kept], len(answer), None), positions, lengths)


def _compiled(
    plan: Plan, leading: Sequence[Block], kept: int | None, given: Sequence[Given] = (), *, positions: bool
) -> tuple[list[Block], Fill]:
    members = [
        (column, block)
        for column in plan.columns
        if column.positions is positions and (block := block_of(column, kept=kept)) is not None
    ]
    blocks = [*leading, *(block for _, block in members), *(block for block, _ in given)]
    sources: list[tuple[Callable[[Any], Any], int, bool]] = [(_unchanged, len(plan.sources), False)] * len(leading)
    sources += [(column.member.values, column.source, _is_of_classes(column)) for column, _ in members]
    sources += [(partial(_constant, values), 0, False) for _, values in given]
    readers = [
        Reader(read, source, block.kind, at.start if block.axis is None else at, of_classes)
        for (read, source, of_classes), block, at in zip(sources, blocks, places(blocks), strict=True)
    ]
    return blocks, Fill(widths(blocks), tuple(readers))


def _kept_block(classes: tuple[str, ...], kept: int) -> Block:
    return Block(KEPT_NAME, "names", tuple(map(str, range(kept))), classes)


def _unchanged(values: Any) -> Any:
    return values


def _constant(values: Any, source: object) -> Any:
    del source
    return values


def _is_of_classes(column: Column) -> bool:
    return "class" in (column.axis_of, column.member.of if column.member.kind == "names" else "")


def _picks(plan: Plan) -> tuple[Pick, ...]:
    return tuple(
        Pick(column.name, plan.columns[column.pick[0]].name, plan.columns[column.pick[1]].name)
        for column in plan.columns
        if column.pick is not None
    )


PROBABLE: Final[dict[str, Callable[[Answer], Array]]] = {
    "multiclass": lambda answer: answer.log_probs,
    "multilabel": lambda answer: answer.log_probs[..., 1],
    "sequence": lambda answer: flat(answer.log_probs, lengths_of(answer.posterior)),
}
"""By task: what orders the classes of a row or position, shape (N, K)."""
