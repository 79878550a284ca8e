"""How the members of an answer lie in the columns of its record.

A column gathers values of one type, side by side: ``logits`` (single precision), ``numbers`` (double precision),
``names`` (places in a list of names, -1 for none) and ``flags`` (1, 0, and -1 for null). A `Block` names neighbouring
items of a column: a member has one item, or one for every name of its axis. Gathered so, a record of one row is half as
large as with a column for each member, and is filled in one go. What varies by position of a sequence lies in the same
four columns within the column ``positions``. The blocks are in the metadata of the schema.

Tested in tests/prediction/test_records.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import orjson

from service.prediction.answer_member import Column

BlockKind = Literal["logits", "numbers", "names", "flags"]
DTYPES: Final[dict[BlockKind, np.dtype[Any]]] = {
    "logits": np.dtype("<f4"),
    "numbers": np.dtype("<f8"),
    "names": np.dtype("<i4"),
    "flags": np.dtype("i1"),
}
"""Types of the columns, in their order."""
NULLS: Final[dict[BlockKind, float]] = {"logits": np.nan, "numbers": np.nan, "names": -1, "flags": -1}
"""What stands where there is no value."""
KINDS: Final[dict[str, BlockKind]] = {
    "number": "numbers",
    "count": "numbers",
    "flag": "flags",
    "names": "flags",
    "name": "names",
}
"""Columns by the kind of a member; texts are the same for all rows, and JSON is derived from other members."""
KEY: Final = "temperance"
Values = npt.NDArray[Any]
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring items of a column.

    Attributes
    ----------
    name : str
        Dotted path of the member, as in ``decision.risks``.
    kind : str
        The column.
    axis : tuple of str or None
        What each item is of; None where there is one item of the row itself.
    names : tuple of str or None
        Of ``names``: what its values are places in.
    """

    name: str
    kind: BlockKind
    axis: Names | None = None
    names: Names | None = None

    @property
    def width(self) -> int:
        """How many items."""
        return 1 if self.axis is None else len(self.axis)


@dataclass(frozen=True, slots=True)
class Pick:
    """A number that is not kept, because it is one of others.

    Attributes
    ----------
    name, of, by : str
        ``name`` is that item of block ``of`` that the block ``by`` holds the place of.
    """

    name: str
    of: str
    by: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks of a record's columns, in their order.

    Attributes
    ----------
    rows, positions : tuple of Block
        Of every row, and of every position of a row.
    picks : tuple of Pick
    kept : int or None
        How many of the classes are kept, the most probable first; None where all are.
    """

    rows: tuple[Block, ...]
    positions: tuple[Block, ...] = ()
    picks: tuple[Pick, ...] = ()
    kept: int | None = None

    def metadata(self) -> dict[str, str]:
        """What the schema states about its columns: JSON under one key."""
        lists: dict[Names, int] = {}
        content = {
            "format": 1,
            "rows": [_stated(block, lists) for block in self.rows],
            "positions": [_stated(block, lists) for block in self.positions],
            "picks": [[pick.name, pick.of, pick.by] for pick in self.picks],
            "kept": self.kept,
        }
        return {KEY: orjson.dumps({**content, "lists": [list(names) for names in lists]}).decode()}

    @classmethod
    def of_metadata(cls, text: str | bytes) -> Self:
        """What `metadata` stated."""
        content = orjson.loads(text)
        lists = [tuple(names) for names in content["lists"]]
        rows, positions = ([_block(entry, lists) for entry in content[key]] for key in ("rows", "positions"))
        picks = tuple(Pick(*entry) for entry in content["picks"])
        return cls(tuple(rows), tuple(positions), picks, content["kept"])


def widths(blocks: Sequence[Block]) -> dict[BlockKind, int]:
    """Items of every column that has any, in the order of `DTYPES`."""
    counts = {kind: sum(block.width for block in blocks if block.kind == kind) for kind in DTYPES}
    return {kind: width for kind, width in counts.items() if width}


def places(blocks: Sequence[Block]) -> list[slice]:
    """Where every block lies in its column."""
    ends: dict[BlockKind, int] = dict.fromkeys(DTYPES, 0)
    found = []
    for block in blocks:
        start = ends[block.kind]
        ends[block.kind] = start + block.width
        found.append(slice(start, ends[block.kind]))
    return found


def block_of(column: Column, *, kept: int | None = None) -> Block | None:
    """The block of a member; None where a record has no values of it.

    Parameters
    ----------
    column : Column
    kept : int or None
        As `Layout.kept`.
    """
    kind = KINDS.get(column.member.kind)
    if kind is None or column.pick is not None:
        return None
    if column.member.kind == "names":
        return Block(column.name, kind, _kept(column.names, column.member.of, kept))
    axis = None if column.axis is None else _kept(column.axis, column.axis_of, kept)
    return Block(column.name, "logits" if column.member.single else kind, axis, column.names or None)


def _kept(names: Names, axis_of: str, kept: int | None) -> Names:
    return names if kept is None or axis_of != "class" else tuple(map(str, range(kept)))


def _stated(block: Block, lists: dict[Names, int]) -> list[Any]:
    numbered = [None if names is None else lists.setdefault(names, len(lists)) for names in (block.axis, block.names)]
    return [block.name, block.kind, *numbered]


def _block(entry: Sequence[Any], lists: Sequence[Names]) -> Block:
    name, kind, axis, names = entry
    return Block(name, kind, None if axis is None else lists[axis], None if names is None else lists[names])
