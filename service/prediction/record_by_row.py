"""Records of requests whose options vary by row: what a request holds for every row becomes a column.

Policies that differ by row have their own actions; the record's axes hold those of all of them.

Tested in tests/prediction/test_records.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from service.core.numerics import Indices
from service.core.pipeline import Policy
from service.prediction.answer import Answer
from service.prediction.query import Query
from service.prediction.record_columns import Given, RecordColumns
from service.prediction.record_layout import DTYPES, NULLS, Block, BlockKind, Layout, Names, places, widths
from service.prediction.record_messages import Table

POLICY: Final = "decision.policy"
SITE: Final = "site"
PREVALENCE: Final = "prevalence"
COSTS: Final = "decision.costs"


class Columns(Protocol):
    """Fills the columns of records."""

    @property
    def layout(self) -> Layout:
        """Their blocks."""

    def table(self, answer: Answer) -> Table:
        """The columns of an answer."""


@dataclass(frozen=True, slots=True)
class Move:
    """Where the values of a policy's own block go among those of all policies.

    Attributes
    ----------
    kind : str
    at : slice
        Their own place.
    to : ndarray of shape (width,)
    renamed : ndarray or None
        Of names: their place among the names of all policies.
    """

    kind: BlockKind
    at: slice
    to: Indices
    renamed: Indices | None


@dataclass(frozen=True, slots=True)
class PolicyColumns:
    """Fills the columns of a request that names a policy for every row.

    Attributes
    ----------
    layout : Layout
    parts : tuple of RecordColumns and list of Move
        One for every policy, in the order of `Answer.by_policy`.
    given : sequence of block and values
    """

    layout: Layout
    parts: tuple[tuple[RecordColumns, list[Move]], ...]
    given: Sequence[Given]

    @classmethod
    def of(cls, query: Query, topics: Sequence[str], *, kept: int | None, given: Sequence[Given]) -> Self:
        """Compile them; as `RecordColumns.of`."""
        own = [RecordColumns.of(part, topics, kept=kept) for part in query.by_policy()]
        blocks = [*united(block for columns in own for block in columns.layout.rows), *(block for block, _ in given)]
        parts = tuple((columns, _moves(columns.layout.rows, blocks)) for columns in own)
        return cls(Layout(tuple(blocks), (), own[0].layout.picks, kept), parts, given)

    def table(self, answer: Answer) -> Table:
        """The columns of an answer."""
        found = {
            kind: np.full((len(answer), width), NULLS[kind], dtype=DTYPES[kind])
            for kind, width in widths(self.layout.rows).items()
        }
        for (columns, moves), own in zip(self.parts, answer.by_policy(), strict=True):
            table, rows = columns.table(own), own.decided[0].rows
            for move in moves:
                values = table.rows[move.kind][:, move.at]
                values = values if move.renamed is None else move.renamed[values]
                found[move.kind][np.ix_(rows, move.to)] = values
        for (block, values), at in zip(self.given[::-1], places(self.layout.rows)[::-1], strict=False):
            found[block.kind][:, at] = values if np.ndim(values) > 1 else np.asarray(values)[:, None]
        return Table(found, {})


def columns_of(query: Query, topics: Sequence[str], *, kept: int | None = None) -> Columns:
    """What fills the columns of a query's records.

    Parameters
    ----------
    query : Query
    topics : sequence of str
        As `Query.plan`.
    kept : int or None
        As `Layout.kept`.
    """
    given = list(_given(query))
    if isinstance(query.options.policy, tuple):
        return PolicyColumns.of(query, topics, kept=kept, given=given)
    return RecordColumns.of(query, topics, kept=kept, given=given)


def united(blocks: Iterable[Block]) -> list[Block]:
    """Blocks of several layouts, each once, with the names of all that are called the same."""
    found: dict[str, Block] = {}
    for block in blocks:
        known = found.get(block.name, block)
        found[block.name] = Block(
            block.name, block.kind, _both(known.axis, block.axis), _both(known.names, block.names)
        )
    return list(found.values())


def _both(one: Names | None, other: Names | None) -> Names | None:
    return None if one is None or other is None else tuple(dict.fromkeys((*one, *other)))


def _moves(own: Sequence[Block], blocks: Sequence[Block]) -> list[Move]:
    targets = {block.name: (block, at) for block, at in zip(blocks, places(blocks), strict=True)}
    return [_move(block, at, *targets[block.name]) for block, at in zip(own, places(own), strict=True)]


def _move(block: Block, at: slice, united_block: Block, to: slice) -> Move:
    items = [0] if block.axis is None else _places(block.axis, united_block.axis)
    renamed = None
    if block.names is not None:
        renamed = np.array([*_places(block.names, united_block.names), -1])  # the last is found under -1, none
    return Move(block.kind, at, to.start + np.array(items), renamed)


def _places(names: Names, among: Names | None) -> list[int]:
    known = among or ()
    return [known.index(name) for name in names]


def _given(query: Query) -> Iterator[Given]:
    options, model = query.options, query.model
    if isinstance(options.policy, tuple):
        names = tuple(name for name in model.manifest.policies if name in options.policy)
        yield Block(POLICY, "names", None, names), _places(options.policy, names)
    if isinstance(options.policy, Policy) and options.policy.cost.ndim > 2:
        cells = tuple(f"{action}.{name}" for action in options.policy.actions for name in model.classes)
        yield Block(COSTS, "numbers", cells), options.policy.cost.reshape(len(options.policy.cost), -1)
    if isinstance(options.site, tuple):
        names = tuple(name for name in model.manifest.sites if name in options.site)
        yield Block(SITE, "names", None, names), _places(options.site, names)
    if query.target is not None and query.target.ndim > 1 and model.task == "multiclass":
        yield Block(PREVALENCE, "numbers", model.classes), query.target
