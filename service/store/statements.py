"""Columns of the tables, in the order of the values' attributes, and rows read back as values.

Tested in tests/store/test_promises.py.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from service.store.entries import Context, Document, Event, Outcome, Prediction, Sealed, SubjectKey
from service.store.streams import Anchor, Stream

SEQUENCE_BITS: Final = 40
PREDICTION: Final = tuple(field.name for field in fields(Prediction))
OUTCOME: Final = tuple(field.name for field in fields(Outcome))
CONTEXT: Final = tuple(field.name for field in fields(Context))
EVENT: Final = tuple(field.name for field in fields(Event))
DOCUMENT: Final = tuple(field.name for field in fields(Document))
SEALED: Final = tuple(field.name for field in fields(Sealed))
SUBJECT_KEY: Final = tuple(field.name for field in fields(SubjectKey))
STREAM: Final = tuple(field.name for field in fields(Stream))
ANCHOR: Final = tuple(field.name for field in fields(Anchor))
CHAINED: Final = {"predictions": PREDICTION, "outcomes": OUTCOME, "events": EVENT}
"""Tables of the entries of a chain, and what is read of them."""


def place_of(stream: int, sequence: int) -> int:
    """One whole number for an entry's place: entries of a stream follow each other."""
    return stream << SEQUENCE_BITS | sequence


def sequence_of(place: int) -> int:
    """The sequence number in a place."""
    return place & ((1 << SEQUENCE_BITS) - 1)


def stream_of(place: int) -> int:
    """The stream in a place."""
    return place >> SEQUENCE_BITS


def prediction_values(entry: Prediction) -> tuple[Any, ...]:
    """As `PREDICTION`; `dataclasses.astuple` copies deeply, and takes ten times as long."""
    return (
        entry.request_id,
        entry.created,
        entry.caller,
        entry.x_request_id,
        entry.traceparent,
        entry.rows,
        entry.latency,
        entry.context,
        entry.columns,
        entry.row_digests,
        entry.ids,
        entry.subjects,
        entry.groups,
        entry.key_id,
        entry.shadow_of,
    )


def outcome_values(entry: Outcome) -> tuple[Any, ...]:
    """As `OUTCOME`."""
    return (
        entry.request_id,
        entry.row,
        entry.truth,
        entry.observed_at,
        entry.received,
        entry.source,
        entry.ascertainment,
        entry.caller,
        int(entry.contradicts),
        entry.arrival,
    )


def outcome_of(row: Sequence[Any]) -> Outcome:
    """A row of `OUTCOME`."""
    *values, contradicts, arrival = row
    return Outcome(*[*values, bool(contradicts), arrival])


def context_values(context: Context) -> tuple[Any, ...]:
    """As `CONTEXT`."""
    return tuple([getattr(context, name) for name in CONTEXT])


def event_values(event: Event) -> tuple[Any, ...]:
    """As `EVENT`."""
    return (event.created, event.kind, event.detail)


def entry_of(table: str, row: Sequence[Any]) -> Prediction | Outcome | Event:
    """A row of one of the tables of `CHAINED`."""
    if table == "predictions":
        return Prediction(*row)
    return outcome_of(row) if table == "outcomes" else Event(*row)


def values_of(value: Document | Sealed | SubjectKey | Stream | Anchor) -> tuple[Any, ...]:
    """The attributes of a flat value, in their order."""
    return tuple([getattr(value, field.name) for field in fields(value)])


def insertion(table: str, names: Sequence[str], *, rows: int = 1, new: bool = False) -> str:
    """A statement that inserts rows.

    Parameters
    ----------
    table : str
    names : sequence of str
        Of the columns.
    rows : int, optional
    new : bool, optional
        Whether only those are inserted whose key is not there.
    """
    numbers = iter(range(1, rows * len(names) + 1))
    places = ", ".join(f"({', '.join(f'${next(numbers)}' for _ in names)})" for _ in range(rows))
    conflict = " ON CONFLICT DO NOTHING" if new else ""
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {places}{conflict}"  # noqa: S608  # our own names
