"""What is read of a database, in SQL that every engine understands.

Parameters are written ``$1``, ``$2``, … and first occur in this order, so that SQLite numbers them as PostgreSQL does.
What may be large is read in pages, each a query of its own: no transaction stays open during a read, which would
hold up SQLite's checkpoints and PostgreSQL's vacuum. Tested in tests/store/test_promises.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from service.store.entries import Context, Document, Event, Origin, Outcome, Prediction, Sealed, Selection, SubjectKey
from service.store.statements import (
    ANCHOR,
    CHAINED,
    CONTEXT,
    EVENT,
    OUTCOME,
    PREDICTION,
    SEALED,
    STREAM,
    SUBJECT_KEY,
    entry_of,
    outcome_of,
    place_of,
    sequence_of,
    stream_of,
)
from service.store.streams import Anchor, Linked, Stream

PAGE: Final = 200  # rows of one query: the columns of a large request may take megabytes
MOST_IDS: Final = 500  # in one query
Row = Sequence[Any]
_FIRST: Final = -(1 << 63)
_LAST: Final = (1 << 63) - 1


class Queries(ABC):
    """The reading half of a `Store`."""

    @abstractmethod
    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query.

        Raises
        ------
        StoreUnavailable
        """

    def state(self, name: str) -> str | None:
        """As `Store.state`."""
        found = self._rows("SELECT content FROM states WHERE name = $1", (name,))
        return found[0][0] if found else None

    def prediction(self, request_id: str) -> Prediction | None:
        """As `Store.prediction`."""
        return self.predictions_of([request_id]).get(request_id)

    def predictions(self, selection: Selection) -> Iterator[Prediction]:
        """As `Store.predictions`."""
        columns = ", ".join(f"predictions.{name}" for name in PREDICTION)
        query = (
            f"SELECT created, place, {columns} FROM predictions "  # noqa: S608  # our own names
            "JOIN contexts ON contexts.digest = predictions.context "
            "WHERE created >= $1 AND (created > $1 OR place > $2) AND created < $3 "
            "AND coalesce(contexts.model = $4, TRUE) AND coalesce(contexts.version = $5, TRUE) "
            f"AND predictions.shadow_of IS {'NOT ' if selection.shadows else ''}NULL "
            "ORDER BY created, place LIMIT $6"
        )
        limits = (_LAST if selection.until is None else selection.until, selection.model, selection.version)
        for row in self._pages(query, (_FIRST if selection.since is None else selection.since, -1), limits):
            yield Prediction(*row)

    def predictions_of(self, request_ids: Iterable[str]) -> dict[str, Prediction]:
        """As `Store.predictions_of`."""
        query = f"SELECT {', '.join(PREDICTION)} FROM predictions WHERE request_id"  # noqa: S608
        return {row[0]: Prediction(*row) for row in self._among(query, request_ids)}

    def origins_of(self, request_ids: Iterable[str]) -> dict[str, Origin]:
        """As `Store.origins_of`."""
        query = "SELECT request_id, rows, context, shadow_of FROM predictions WHERE request_id"
        return {row[0]: Origin(*row) for row in self._among(query, request_ids)}

    def linked(self, request_id: str) -> Linked | None:
        """As `Store.linked`."""
        query = f"SELECT place, link, {', '.join(PREDICTION)} FROM predictions WHERE request_id = $1"  # noqa: S608
        for place, link, *values in self._rows(query, (request_id,)):
            return Linked(stream_of(place), sequence_of(place), link, Prediction(*values))
        return None

    def shadows_of(self, request_id: str) -> list[Prediction]:
        """As `Store.shadows_of`."""
        query = f"SELECT {', '.join(PREDICTION)} FROM predictions WHERE shadow_of = $1 ORDER BY place"  # noqa: S608
        return [Prediction(*row) for row in self._rows(query, (request_id,))]

    def context(self, digest: bytes) -> Context | None:
        """As `Store.context`."""
        found = self._rows(f"SELECT {', '.join(CONTEXT)} FROM contexts WHERE digest = $1", (digest,))  # noqa: S608
        return Context(*found[0]) if found else None

    def contexts(self, *, model: str | None = None, version: int | None = None) -> dict[bytes, Context]:
        """As `Store.contexts`."""
        query = (
            f"SELECT {', '.join(CONTEXT)} FROM contexts "  # noqa: S608
            "WHERE coalesce(model = $1, TRUE) AND coalesce(version = $2, TRUE)"
        )
        return {row[0]: Context(*row) for row in self._rows(query, (model, version))}

    def document(self, digest: bytes) -> Document | None:
        """As `Store.document`."""
        found = self._rows("SELECT digest, kind, content FROM documents WHERE digest = $1", (digest,))
        return Document(*found[0]) if found else None

    def outcomes_of(self, request_ids: Iterable[str]) -> list[Outcome]:
        """As `Store.outcomes_of`."""
        query = f"SELECT {', '.join(OUTCOME)} FROM outcomes WHERE request_id"  # noqa: S608
        return sorted([outcome_of(row) for row in self._among(query, request_ids)], key=lambda one: one.arrival)

    def outcomes_after(self, arrival: int, *, model: str | None = None, most: int = 10_000) -> list[Outcome]:
        """As `Store.outcomes_after`."""
        query = (
            f"SELECT {', '.join(f'outcomes.{name}' for name in OUTCOME)} FROM outcomes "  # noqa: S608
            "JOIN predictions ON predictions.request_id = outcomes.request_id "
            "JOIN contexts ON contexts.digest = predictions.context "
            "WHERE arrival > $1 AND coalesce(contexts.model = $2, TRUE) ORDER BY arrival LIMIT $3"
        )
        return [outcome_of(row) for row in self._rows(query, (arrival, model, most))]

    def events(self, *, kind: str | None = None, since: int | None = None) -> Iterator[Event]:
        """As `Store.events`."""
        query = (
            f"SELECT created, place, {', '.join(EVENT)} FROM events "  # noqa: S608
            "WHERE created >= $1 AND (created > $1 OR place > $2) AND coalesce(kind = $3, TRUE) "
            "ORDER BY created, place LIMIT $4"
        )
        for row in self._pages(query, (_FIRST if since is None else since, -1), (kind,)):
            yield Event(*row)

    def sealed_of(self, request_id: str) -> list[Sealed]:
        """As `Store.sealed_of`."""
        query = f"SELECT {', '.join(SEALED)} FROM sealed WHERE request_id = $1 ORDER BY row, kind"  # noqa: S608
        return [Sealed(*row) for row in self._rows(query, (request_id,))]

    def subject_keys(self, request_id: str) -> dict[bytes, SubjectKey]:
        """As `Store.subject_keys`."""
        query = f"SELECT {', '.join(SUBJECT_KEY)} FROM subject_keys WHERE request_id = $1"  # noqa: S608
        keys = [SubjectKey(*row) for row in self._rows(query, (request_id,))]
        return {key.subject: key for key in keys}

    def streams(self) -> list[Stream]:
        """As `Store.streams`."""
        return [Stream(*row) for row in self._rows(f"SELECT {', '.join(STREAM)} FROM streams ORDER BY number")]  # noqa: S608

    def entries(self, stream: int) -> Iterator[Linked]:
        """As `Store.entries`."""
        # What is appended while this reads would show in one table and not yet in another: the end is fixed first.
        last = self._last_place(stream)
        kinds = [self._linked(table, names, (place_of(stream, 0), last)) for table, names in CHAINED.items()]
        return merge(*kinds, key=lambda one: one.sequence)

    def anchors(self, stream: int | None = None) -> list[Anchor]:
        """As `Store.anchors`."""
        query = (
            f"SELECT {', '.join(ANCHOR)} FROM anchors "  # noqa: S608
            "WHERE coalesce(stream = $1, TRUE) ORDER BY stream, sequence"
        )
        return [Anchor(*row) for row in self._rows(query, (stream,))]

    def _last_place(self, stream: int) -> int:
        latest = " UNION ALL ".join(
            f"SELECT max(place) AS place FROM {table} WHERE place > $1 AND place < $2"  # noqa: S608
            for table in CHAINED
        )
        limits = (place_of(stream, 0), place_of(stream + 1, 0))
        return int(self._rows(f"SELECT coalesce(max(place), $1) FROM ({latest}) AS latest", limits)[0][0])  # noqa: S608

    def _linked(self, table: str, names: Sequence[str], limits: tuple[int, int]) -> Iterator[Linked]:
        query = (
            f"SELECT place, place, link, {', '.join(names)} FROM {table} "  # noqa: S608
            "WHERE place > $1 AND place <= $2 ORDER BY place LIMIT $3"
        )
        for place, link, *values in self._pages(query, limits[:1], limits[1:]):
            yield Linked(stream_of(place), sequence_of(place), link, entry_of(table, values))

    def _pages(self, query: str, start: Row, limits: Row) -> Iterator[Row]:
        while rows := self._rows(query, (*start, *limits, PAGE)):
            for row in rows:
                yield row[len(start) :]
            start = rows[-1][: len(start)]

    def _among(self, query: str, request_ids: Iterable[str]) -> Iterator[Row]:
        left = iter(request_ids)
        while page := list(islice(left, MOST_IDS)):
            numbers = ", ".join(f"${number}" for number in range(1, len(page) + 1))
            yield from self._rows(f"{query} IN ({numbers})", page)
