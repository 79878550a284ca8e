"""Arrow messages of records: the library writes a head once, and bodies are the bytes of arrays behind it.

A record-batch message is a head (a flatbuffer that states where every buffer lies) and a body of buffers, each at a
multiple of 8 bytes. The columns have a fixed width and no nulls, so the head depends on the numbers of rows and
positions alone. nanoarrow takes 90 microseconds to write a message; behind a remembered head it is the bytes of its
arrays. Where the library would write other bytes, it writes every message.

References
----------
Apache Arrow, *Columnar format*, "Serialization and interprocess communication (IPC)".

Tested in tests/prediction/test_records.py.
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import nanoarrow as na
import numpy as np
from nanoarrow.ipc import StreamWriter

from service.prediction.record_layout import DTYPES, BlockKind, Layout, Values, widths

Columns = Mapping[BlockKind, Values]
"""Arrays of shape (N, width) by column, in the order of `DTYPES`."""
Widths = tuple[tuple[BlockKind, int], ...]
PREFIX: Final = struct.Struct("<4xi")  # before a flatbuffer: a marker, and its length
END_OF_STREAM: Final = b"\xff\xff\xff\xff\0\0\0\0"
ALIGNED: Final = 8
_ITEMS: Final[dict[BlockKind, Any]] = {
    "logits": na.float32(nullable=False),
    "numbers": na.float64(nullable=False),
    "names": na.int32(nullable=False),
    "flags": na.int8(nullable=False),
}


@dataclass(frozen=True, slots=True)
class Table:
    """What one message holds.

    Attributes
    ----------
    rows : mapping of str to ndarray of shape (N, width)
    positions : mapping of str to ndarray of shape (P, width)
        Of sequences: of all positions of all rows.
    lengths : ndarray of shape (N,), or None
        Of sequences: positions of every row.
    """

    rows: Columns
    positions: Columns
    lengths: Values | None = None

    @property
    def count(self) -> int:
        """Rows."""
        return len(next(iter(self.rows.values())))

    def part(self, rows: slice) -> "Table":
        """Some of the rows."""
        own = {kind: values[rows] for kind, values in self.rows.items()}
        if self.lengths is None:
            return Table(own, {})
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        places = slice(ends[rows.start], ends[rows.stop])
        return Table(own, {kind: values[places] for kind, values in self.positions.items()}, self.lengths[rows])


@lru_cache(maxsize=64)  # every step of a session has a query of its own, and the same layout
def schema_message(layout: Layout) -> bytes:
    """The Arrow schema message of a layout, its blocks in the metadata."""
    stream = _stream(_sample(_widths(layout.rows), _widths(layout.positions), 1, 1), layout.metadata())
    return stream[: flatbuffer_end(stream)]


def message_of(table: Table) -> bytes:
    """A record-batch message."""
    rows, positions = (_widths_of(columns) for columns in (table.rows, table.positions))
    head = head_of(rows, positions, table.count, 0 if table.lengths is None else int(table.lengths.sum()))
    return _written(table) if head is None else head + _body(table)


def messages_of_rows(columns: Columns, rows: int) -> list[bytes]:
    """Messages of the same number of rows each, without sequences.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (messages x rows, width)
    rows : int
        In each message.
    """
    widths_of = _widths_of(columns)
    head = head_of(widths_of, (), rows, 0)
    count = len(next(iter(columns.values()))) // rows
    if head is None:
        table = Table(columns, {})
        return [_written(table.part(slice(i * rows, (i + 1) * rows))) for i in range(count)]
    sizes = {kind: DTYPES[kind].itemsize * width * rows for kind, width in widths_of}
    whole = np.zeros((count, len(head) + sum(map(_aligned, sizes.values()))), dtype=np.uint8)
    whole[:, : len(head)] = np.frombuffer(head, dtype=np.uint8)
    start = len(head)
    for kind, size in sizes.items():
        whole[:, start : start + size] = columns[kind].view(np.uint8).reshape(count, size)
        start += _aligned(size)
    content = whole.tobytes()
    return [content[i : i + start] for i in range(0, len(content), start)]


@lru_cache(maxsize=1024)  # a server has a few models, and their requests a few sizes; each takes half a kilobyte
def head_of(rows_of: Widths, positions_of: Widths, rows: int, positions: int) -> bytes | None:
    """Head of a message, for widths and numbers of rows and positions; None where bodies lie in another way.

    Examples
    --------
    >>> len(head_of((("numbers", 3),), (), 1, 0)) % 8
    0
    """
    sample = _sample(rows_of, positions_of, rows, positions)
    written = _written(sample)
    head = written[: flatbuffer_end(written)]
    return head if head + _body(sample) == written else None


def _widths(blocks: Any) -> Widths:
    return tuple(widths(blocks).items())


def _widths_of(columns: Columns) -> Widths:
    return tuple([(kind, values.shape[1]) for kind, values in columns.items()])


def _body(table: Table) -> bytes:
    pieces = [_padded(values.tobytes()) for values in table.rows.values()]
    if table.lengths is not None:
        pieces += [_padded(_offsets(table.lengths).tobytes())]
        pieces += [_padded(values.tobytes()) for values in table.positions.values()]
    return b"".join(pieces)


def _offsets(lengths: Values) -> Values:
    return np.concatenate([[0], np.cumsum(lengths)]).astype("<i4")


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _padded(content: bytes) -> bytes:
    return content.ljust(_aligned(len(content)), b"\0")


def flatbuffer_end(content: bytes) -> int:
    """Where the head of a message ends."""
    length: int = PREFIX.unpack_from(content)[0]
    return PREFIX.size + length


def _written(table: Table) -> bytes:
    """A record-batch message as the library writes it."""
    stream = _stream(table, {})
    return stream[flatbuffer_end(stream) : -len(END_OF_STREAM)]


def _stream(table: Table, metadata: Mapping[str, str]) -> bytes:
    fields, children = _lists(table.rows)
    if table.lengths is not None:
        inner, columns = _lists(table.positions)
        flat = na.c_array_from_buffers(_struct(inner), int(table.lengths.sum()), [None], children=columns, null_count=0)
        fields["positions"] = na.list_(_struct(inner), nullable=False)
        buffers = [None, _offsets(table.lengths)]
        children.append(
            na.c_array_from_buffers(fields["positions"], table.count, buffers, children=[flat], null_count=0)
        )
    schema = na.c_schema(_struct(fields)).modify(metadata=metadata)
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_stream(na.c_array_from_buffers(schema, table.count, [None], children=children, null_count=0))
    return out.getvalue()


def _struct(fields: Mapping[str, Any]) -> Any:
    return na.struct(fields, nullable=False)


def _lists(columns: Columns) -> tuple[dict[str, Any], list[Any]]:
    """Fields and arrays of columns."""
    fields: dict[str, Any] = {}
    arrays = []
    for kind, values in columns.items():
        fields[kind] = na.fixed_size_list(_ITEMS[kind], values.shape[1], nullable=False)
        items = na.c_array_from_buffers(_ITEMS[kind], values.size, [None, np.ascontiguousarray(values)], null_count=0)
        arrays.append(na.c_array_from_buffers(fields[kind], len(values), [None], children=[items], null_count=0))
    return fields, arrays


def _sample(rows_of: Widths, positions_of: Widths, rows: int, positions: int) -> Table:
    """Values in which no two buffers are alike."""
    columns = {kind: _counted(kind, rows, width) for kind, width in rows_of}
    if not positions_of:
        return Table(columns, {})
    lengths = np.full(rows, positions // rows)
    lengths[0] += positions - lengths.sum()
    return Table(columns, {kind: _counted(kind, positions, width) for kind, width in positions_of}, lengths)


def _counted(kind: BlockKind, count: int, width: int) -> Values:
    return (np.arange(count * width).reshape(count, width) % 101).astype(DTYPES[kind])
