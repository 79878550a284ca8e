"""Records back as arrays.

Many records are read at once: messages with the same head hold their values at the same places, so they are one array.
What another writer laid out in another way is read by the library.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import nanoarrow as na
import numpy as np

from service.core.numerics import Indices
from service.prediction.answer_member import ABSENT, picked
from service.prediction.record_layout import DTYPES, KEY, Block, BlockKind, Layout, Values, places, widths
from service.prediction.record_messages import (
    ALIGNED,
    END_OF_STREAM,
    Table,
    Widths,
    flatbuffer_end,
    head_of,
)
from service.record_errors import StoreDamaged
from service.store.entries import Document, Prediction

POSITIONS: Final = "positions"
OFFSET: Final = np.dtype("<i4")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Values of records with the same schema.

    Attributes
    ----------
    layout : Layout
    table : Table
        Of the rows of all records, in order.
    sizes : tuple of int
        Rows of every record.
    """

    layout: Layout
    table: Table
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        """Rows."""
        return self.table.count

    def __contains__(self, name: object) -> bool:
        """Whether the records have a member of that path."""
        return name in self.names

    @property
    def names(self) -> list[str]:
        """Paths of the members."""
        blocks = (*self.layout.rows, *self.layout.positions)
        return [*(block.name for block in blocks), *(pick.name for pick in self.layout.picks)]

    @property
    def lengths(self) -> Indices | None:
        """Of sequences: positions of every row, shape (N,)."""
        return self.table.lengths

    def block(self, name: str) -> Block:
        """What is known of a member's values: the names of its axis, and those that its values are places in.

        Raises
        ------
        KeyError
        """
        for block, _, _ in self._blocks():
            if block.name == name:
                return block
        raise KeyError(name)

    def values(self, name: str) -> Values:
        """Values of a member.

        Returns
        -------
        ndarray of shape (N,) or (N, width)
            NaN where there is no number, -1 where there is no name or flag; of positions, one line for each position
            of every row.

        Raises
        ------
        KeyError
            If the records have no such member.
        """
        for pick in self.layout.picks:
            if pick.name == name:
                return _picked(self.values(pick.of), self.values(pick.by))
        for block, at, columns in self._blocks():
            if block.name == name:
                values = columns[block.kind][:, at]
                return values[:, 0] if block.axis is None else values
        raise KeyError(name)

    def get(self, name: str) -> Values | None:
        """As `values`; None where the records have no such member."""
        return self.values(name) if name in self else None

    def texts(self, name: str) -> list[str | None]:
        """Of a member with one name for every row: that name."""
        names, found = self.block(name).names or (), self.values(name)
        return [None if place == ABSENT else names[place] for place in found.tolist()]

    def _blocks(self) -> Iterable[tuple[Block, slice, dict[BlockKind, Values]]]:
        for blocks, columns in ((self.layout.rows, self.table.rows), (self.layout.positions, self.table.positions)):
            for block, at in zip(blocks, places(blocks), strict=True):
                yield block, at, dict(columns)


def _picked(values: Values, places_of: Values) -> Values:
    found = picked(values, places_of)
    return np.full(len(values), np.nan) if found is None else found


def read_layout(schema: Document) -> Layout:
    """The layout of columns, from the metadata of their schema.

    Raises
    ------
    KeyError
        If the metadata is not that of a record.
    """
    with na.ArrayStream.from_readable(schema.content + END_OF_STREAM) as stream:
        metadata = dict(na.c_schema(stream.schema).metadata.items())
    return Layout.of_metadata(metadata[KEY.encode()])


def read_columns(prediction: Prediction, schema: Document) -> dict[str, Values]:
    """Values of every member of one record, by its path; as `Recorded.values`."""
    recorded = read_records([prediction], schema)
    return {name: recorded.values(name) for name in recorded.names}


def read_records(predictions: Sequence[Prediction], schema: Document) -> Recorded:
    """Records with the same schema as arrays, their rows in order.

    Parameters
    ----------
    predictions : sequence of Prediction
        At least one; with columns.
    schema : Document
        Of their context.

    Raises
    ------
    StoreDamaged
        If a message or the schema cannot be read.
    """
    try:
        return _read(predictions, schema)
    except (LookupError, RuntimeError, ValueError, struct.error) as error:
        raise StoreDamaged(f"the columns of a record cannot be read: {type(error).__name__}") from None


def _read(predictions: Sequence[Prediction], schema: Document) -> Recorded:
    layout = read_layout(schema)
    by_head: dict[tuple[int, bytes], list[int]] = {}
    for place, prediction in enumerate(predictions):
        content = prediction.columns
        by_head.setdefault((prediction.rows, content[: flatbuffer_end(content)]), []).append(place)
    groups = [
        (members, _alike(layout, rows, head, [predictions[place].columns for place in members], schema))
        for (rows, head), members in by_head.items()
    ]
    sizes = [prediction.rows for prediction in predictions]
    return Recorded(layout, _ordered(groups, sizes), tuple(sizes))


def _ordered(groups: Sequence[tuple[list[int], Table]], sizes: Sequence[int]) -> Table:
    if len(groups) == 1:
        return groups[0][1]
    first = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.concatenate([np.arange(first[place], first[place + 1]) for members, _ in groups for place in members])
    order = np.argsort(rows)
    tables = [table for _, table in groups]
    columns = {kind: np.concatenate([table.rows[kind] for table in tables])[order] for kind in tables[0].rows}
    if tables[0].lengths is None:
        return Table(columns, {})
    lengths = np.concatenate([table.lengths for table in tables if table.lengths is not None])
    ends = np.cumsum(lengths)
    moved = np.concatenate([np.arange(ends[row] - lengths[row], ends[row]) for row in order])
    inner = {kind: np.concatenate([table.positions[kind] for table in tables])[moved] for kind in tables[0].positions}
    return Table(columns, inner, lengths[order])


def _alike(layout: Layout, rows: int, head: bytes, contents: Sequence[bytes], schema: Document) -> Table:
    """Records with the same head."""
    rows_of, positions_of = tuple(widths(layout.rows).items()), tuple(widths(layout.positions).items())
    bodies = np.frombuffer(b"".join(contents), np.uint8).reshape(len(contents), -1)[:, len(head) :]
    end = sum(_aligned(DTYPES[kind].itemsize * width * rows) for kind, width in rows_of)
    ends = _ends(bodies, end, rows) if positions_of else None
    count = 0 if ends is None else int(ends[0, -1])
    if count < 0 or head != head_of(rows_of, positions_of, rows, count):
        return _by_library(contents, schema)
    if ends is None:
        return Table(_cut(bodies, rows_of, rows, 0), {})
    inner = _cut(bodies, positions_of, count, end + _aligned(OFFSET.itemsize * (rows + 1)))
    return Table(_cut(bodies, rows_of, rows, 0), inner, np.diff(ends, axis=1).ravel())


def _ends(bodies: Values, start: int, rows: int) -> Values:
    """Number of positions up to every row, shape (messages, rows + 1); -1 where the bodies end before."""
    found = np.ascontiguousarray(bodies[:, start : start + OFFSET.itemsize * (rows + 1)])
    whole = found.shape[1] == OFFSET.itemsize * (rows + 1)
    return found.view(OFFSET) if whole else np.full((len(bodies), rows + 1), -1, dtype=OFFSET)


def _cut(bodies: Values, columns: Widths, count: int, start: int) -> dict[BlockKind, Values]:
    found: dict[BlockKind, Values] = {}
    for kind, width in columns:
        size = DTYPES[kind].itemsize * width * count
        part = np.ascontiguousarray(bodies[:, start : start + size])
        found[kind] = part.view(DTYPES[kind]).reshape(len(bodies) * count, width)  # a body that is cut off does not fit
        start += _aligned(size)
    return found


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _by_library(contents: Sequence[bytes], schema: Document) -> Table:
    with na.ArrayStream.from_readable(b"".join([schema.content, *contents, END_OF_STREAM])) as stream:
        batches = [na.c_array(chunk) for chunk in stream.read_all().iter_chunks()]
    tables = [_of_batch(batch) for batch in batches]
    return _ordered([([place], table) for place, table in enumerate(tables)], [table.count for table in tables])


def _of_batch(batch: na.c_array) -> Table:
    names = [batch.schema.child(i).name for i in range(batch.schema.n_children)]
    fields = {name: batch.child(i) for i, name in enumerate(names)}
    inner = fields.pop(POSITIONS, None)
    columns = {kind: _matrix(fields[kind], batch.length) for kind in DTYPES if kind in fields}
    if inner is None:
        return Table(columns, {})
    offsets = np.asarray(inner.view().buffer(1))[: batch.length + 1]
    flat = inner.child(0)
    own = {flat.schema.child(i).name: flat.child(i) for i in range(flat.schema.n_children)}
    positions = {kind: _matrix(own[kind], int(offsets[-1])) for kind in DTYPES if kind in own}
    return Table(columns, positions, np.diff(offsets))


def _matrix(lists: na.c_array, count: int) -> Values:
    return np.asarray(lists.child(0).view().buffer(1)).reshape(count, -1)
