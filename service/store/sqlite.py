"""The embedded engine: SQLite through apsw, in write-ahead mode, every commit synced.

References
----------
SQLite, *Write-Ahead Logging*, section 11: the WAL-reset bug, absent from 3.51.3, 3.50.7 and 3.44.6 on.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from heapq import merge
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import apsw
import uuid_utils

from service.errors import SettingsInvalid, StoreUnavailable
from service.store import canonical
from service.store.entries import (
    Anchor,
    Context,
    Document,
    Event,
    Head,
    Linked,
    Origin,
    Outcome,
    Prediction,
    Reservation,
    Sealed,
    Selection,
    Stream,
    SubjectKey,
    Write,
    entries_of,
)
from service.store.migrations import migrations
from service.store.signing import Signer
from service.store.statements import (
    CONTEXT,
    EVENT,
    OUTCOME,
    PREDICTION,
    context_values,
    outcome_of,
    outcome_values,
    place_of,
    prediction_values,
    sequence_of,
    stream_of,
)

BUSY_MILLISECONDS: Final = 5000
CHUNK: Final = 500  # request ids in one query


class SqliteStore:
    """One connection to a file."""

    def __init__(self, connection: apsw.Connection, path: Path, signer: Signer | None) -> None:
        self._connection = connection
        self._path = path
        self._signer = signer
        self._stream: Stream | None = None
        self._sequence = 0
        self._link = canonical.ZEROS
        self._known: set[bytes] = set()  # digests of contexts and documents that are stored

    @classmethod
    def opened(cls, url: str, *, signer: Signer | None) -> Self:
        """As `Store.opened`."""
        path = Path(unquote(urlsplit(url).path))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = apsw.Connection(str(path))
            _prepare(connection)
            _migrate(connection)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}") from None
        except apsw.Error as error:
            raise _unavailable(error) from None
        return cls(connection, path, signer)

    def close(self) -> None:
        """As `Store.close`."""
        self._connection.close()

    # Writing.
    def write(self, writes: Sequence[Write]) -> None:
        """As `Store.write`."""
        self._write(writes)

    def check(self) -> None:
        """As `Store.check`."""
        with self._transaction():
            self._run("INSERT OR REPLACE INTO probe VALUES (1, ?)", (time.time_ns() // 1000,))

    def reserve(self, caller: bytes, *, owner: str, fingerprint: bytes, now: int, lease: int) -> Reservation | None:
        """As `Store.reserve`."""
        with self._transaction():
            self._run(
                "DELETE FROM replies WHERE caller = ? AND content IS NULL AND reserved < ?", (caller, now - lease)
            )
            found = self._rows("SELECT owner, fingerprint, content FROM replies WHERE caller = ?", (caller,))
            if found:
                return Reservation(*found[0])
            self._run("INSERT INTO replies VALUES (?, ?, ?, ?, NULL)", (caller, owner, fingerprint, now))
        return None

    def release(self, caller: bytes, owner: str) -> None:
        """As `Store.release`."""
        with self._transaction():
            self._run("DELETE FROM replies WHERE caller = ? AND owner = ? AND content IS NULL", (caller, owner))

    def forget_replies(self, before: int) -> int:
        """As `Store.forget_replies`."""
        with self._transaction():
            self._run("DELETE FROM replies WHERE reserved < ?", (before,))
            return self._connection.changes()

    def keep_anchor(self, anchor: Anchor) -> None:
        """As `Store.keep_anchor`."""
        with self._transaction():
            self._run(
                "INSERT OR IGNORE INTO anchors (stream, name, sequence, link, created, key_id, signature) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    anchor.stream,
                    anchor.name,
                    anchor.sequence,
                    anchor.link,
                    anchor.created,
                    anchor.key_id,
                    anchor.signature,
                ),
            )

    def keep_state(self, name: str, content: str, *, expected: str | None) -> bool:
        """As `Store.keep_state`."""
        with self._transaction():
            if self.state(name) != expected:
                return False
            self._run("INSERT OR REPLACE INTO states VALUES (?, ?)", (name, content))
        return True

    def head(self) -> Head | None:
        """As `Store.head`."""
        own = self._stream
        return None if own is None else Head(own.number, own.name, self._sequence, self._link)

    def erase(self, subject: bytes, event: Event) -> bool:
        """As `Store.erase`."""
        found = bool(self._rows("SELECT 1 FROM subject_keys WHERE subject = ? LIMIT 1", (subject,)))
        if found:
            self._write([Write(events=[event])], [(query, (subject,)) for query in ERASE])
        with _faults():
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return found

    def prune(self, segments: Mapping[int, int], event: Event) -> int:
        """As `Store.prune`."""
        places = [(place_of(stream, 0), place_of(stream, last)) for stream, last in segments.items()]
        before = self._entries_in(places)
        removal = [(query, place) for place in places for query in PRUNE]
        self._write([Write(events=[event])], [*removal, *[(query, ()) for query in UNREFERENCED]])
        self._known.clear()  # what is gone must be written again
        return before

    # Reading.
    def state(self, name: str) -> str | None:
        """As `Store.state`."""
        found = self._rows("SELECT content FROM states WHERE name = ?", (name,))
        return found[0][0] if found else None

    def prediction(self, request_id: str) -> Prediction | None:
        """As `Store.prediction`."""
        return self.predictions_of([request_id]).get(request_id)

    def predictions(self, selection: Selection) -> Iterator[Prediction]:
        """As `Store.predictions`."""
        where, values = _where(selection)
        columns = ", ".join(f"predictions.{name}" for name in PREDICTION)
        query = (
            f"SELECT {columns} FROM predictions JOIN contexts ON contexts.digest = predictions.context "  # noqa: S608
            f"WHERE {where} ORDER BY request_id"
        )
        with _faults():
            for row in self._connection.execute(query, values):
                yield Prediction(*row)

    def predictions_of(self, request_ids: Iterable[str]) -> dict[str, Prediction]:
        """As `Store.predictions_of`."""
        query = f"SELECT {', '.join(PREDICTION)} FROM predictions WHERE request_id IN"  # noqa: S608
        return {row[0]: Prediction(*row) for row in self._in(query, request_ids)}

    def origins_of(self, request_ids: Iterable[str]) -> dict[str, Origin]:
        """As `Store.origins_of`."""
        query = "SELECT request_id, rows, context, shadow_of FROM predictions WHERE request_id IN"
        return {row[0]: Origin(*row) for row in self._in(query, request_ids)}

    def linked(self, request_id: str) -> Linked | None:
        """As `Store.linked`."""
        query = f"SELECT place, link, {', '.join(PREDICTION)} FROM predictions WHERE request_id = ?"  # noqa: S608
        found = self._rows(query, (request_id,))
        if not found:
            return None
        place, link, *values = found[0]
        return Linked(stream_of(place), sequence_of(place), link, Prediction(*values))

    def shadows_of(self, request_id: str) -> list[Prediction]:
        """As `Store.shadows_of`."""
        query = f"SELECT {', '.join(PREDICTION)} FROM predictions WHERE shadow_of = ?"  # noqa: S608
        return [Prediction(*row) for row in self._rows(query, (request_id,))]

    def context(self, digest: bytes) -> Context | None:
        """As `Store.context`."""
        found = self._rows(f"SELECT {', '.join(CONTEXT)} FROM contexts WHERE digest = ?", (digest,))  # noqa: S608
        return Context(*found[0]) if found else None

    def contexts(self, *, model: str | None = None, version: int | None = None) -> dict[bytes, Context]:
        """As `Store.contexts`."""
        query = (
            f"SELECT {', '.join(CONTEXT)} FROM contexts "  # noqa: S608
            "WHERE coalesce(model = ?1, TRUE) AND coalesce(version = ?2, TRUE)"
        )
        return {row[0]: Context(*row) for row in self._rows(query, (model, version))}

    def document(self, digest: bytes) -> Document | None:
        """As `Store.document`."""
        found = self._rows("SELECT digest, kind, content FROM documents WHERE digest = ?", (digest,))
        return Document(*found[0]) if found else None

    def outcomes_of(self, request_ids: Iterable[str]) -> list[Outcome]:
        """As `Store.outcomes_of`."""
        query = f"SELECT {', '.join(OUTCOME)} FROM outcomes WHERE request_id IN"  # noqa: S608
        return sorted([outcome_of(row) for row in self._in(query, request_ids)], key=lambda one: one.arrival)

    def outcomes_after(self, arrival: int, *, model: str | None = None, most: int = 10_000) -> list[Outcome]:
        """As `Store.outcomes_after`."""
        query = (
            f"SELECT {', '.join(f'outcomes.{name}' for name in OUTCOME)} FROM outcomes "  # noqa: S608
            "JOIN predictions USING (request_id) JOIN contexts ON contexts.digest = predictions.context "
            "WHERE arrival > ?1 AND coalesce(contexts.model = ?2, TRUE) ORDER BY arrival LIMIT ?3"
        )
        return [outcome_of(row) for row in self._rows(query, (arrival, model, most))]

    def events(self, *, kind: str | None = None, since: int | None = None) -> Iterator[Event]:
        """As `Store.events`."""
        query = (
            f"SELECT {', '.join(EVENT)} FROM events "  # noqa: S608
            "WHERE coalesce(kind = ?1, TRUE) AND coalesce(created >= ?2, TRUE) ORDER BY created, place"
        )
        with _faults():
            for row in self._connection.execute(query, (kind, since)):
                yield Event(*row)

    def sealed_of(self, request_id: str) -> list[Sealed]:
        """As `Store.sealed_of`."""
        query = "SELECT request_id, row, kind, subject, key_id, content FROM sealed WHERE request_id = ?"
        return [Sealed(*row) for row in self._rows(query, (request_id,))]

    def subject_keys(self, request_id: str) -> dict[bytes, SubjectKey]:
        """As `Store.subject_keys`."""
        query = "SELECT request_id, subject, key_id, wrapped FROM subject_keys WHERE request_id = ?"
        return {row[1]: SubjectKey(*row) for row in self._rows(query, (request_id,))}

    def streams(self) -> list[Stream]:
        """As `Store.streams`."""
        query = "SELECT number, name, started, previous, link, key_id, signature FROM streams ORDER BY number"
        return [Stream(*row) for row in self._rows(query)]

    def entries(self, stream: int) -> Iterator[Linked]:
        """As `Store.entries`."""
        places = (place_of(stream, 0), place_of(stream + 1, 0))
        kinds = (("predictions", PREDICTION, _prediction), ("outcomes", OUTCOME, outcome_of), ("events", EVENT, _event))
        with _faults():
            found = [
                self._linked(stream, f"SELECT place, link, {', '.join(names)} FROM {table}", made, places)  # noqa: S608
                for table, names, made in kinds
            ]
            yield from merge(*found, key=lambda one: one.sequence)

    def anchors(self, stream: int | None = None) -> list[Anchor]:
        """As `Store.anchors`."""
        query = (
            "SELECT stream, name, sequence, link, created, key_id, signature FROM anchors "
            "WHERE coalesce(stream = ?1, TRUE) ORDER BY stream, sequence"
        )
        return [Anchor(*row) for row in self._rows(query, (stream,))]

    def size(self) -> int:
        """As `Store.size`."""
        return sum(path.stat().st_size for path in self._path.parent.glob(f"{self._path.name}*"))

    def _write(self, writes: Sequence[Write], first: Iterable[tuple[str, Sequence[Any]]] = ()) -> None:
        with self._transaction():
            for query, values in first:
                self._run(query, values)
            stream = self._own_stream()
            known: list[bytes] = []
            link, sequence = self._link, self._sequence
            for write in writes:
                known += self._write_common(write)
                link, sequence = self._append(write, stream.number, sequence, link)
        self._link, self._sequence = link, sequence
        self._known.update(known)

    def _entries_in(self, places: Iterable[tuple[int, int]]) -> int:
        queries = [f"SELECT count(*) FROM {table} WHERE place BETWEEN ? AND ?" for table in CHAINED]  # noqa: S608
        return sum(self._rows(query, place)[0][0] for place in places for query in queries)

    def _linked(self, stream: int, query: str, made: Any, places: tuple[int, int]) -> Iterator[Linked]:
        rows = self._connection.execute(f"{query} WHERE place > ? AND place < ? ORDER BY place", places)
        for place, link, *values in rows:
            yield Linked(stream, sequence_of(place), link, made(values))

    def _own_stream(self) -> Stream:
        if self._stream is None:
            self._stream = self._new_stream()
            self._link = self._stream.link
        return self._stream

    def _new_stream(self) -> Stream:
        if self._signer is None:
            raise StoreUnavailable("this connection only reads")
        last = self._rows("SELECT number, link FROM streams ORDER BY number DESC LIMIT 1")
        number, previous = (last[0][0] + 1, last[0][1]) if last else (1, canonical.ZEROS)
        name, started, key_id = str(uuid_utils.uuid7()), time.time_ns() // 1000, self._signer.key_id
        link = canonical.stream_link(previous, number=number, name=name, started=started, key_id=key_id)
        stream = Stream(number, name, started, previous, link, key_id, self._signer.sign(link))
        values = (number, name, started, previous, link, key_id, stream.signature)
        self._run("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return stream

    def _write_common(self, write: Write) -> list[bytes]:
        documents = [one for one in write.documents if one.digest not in self._known]
        contexts = [one for one in write.contexts if one.digest not in self._known]
        self._many(
            "INSERT OR IGNORE INTO documents VALUES (?, ?, ?)", [(d.digest, d.kind, d.content) for d in documents]
        )
        self._many(_insert("contexts", CONTEXT, "OR IGNORE"), [context_values(context) for context in contexts])
        self._many(
            "INSERT OR IGNORE INTO subject_keys VALUES (?, ?, ?, ?)",
            [(key.request_id, key.subject, key.key_id, key.wrapped) for key in write.subject_keys],
        )
        self._many(
            "INSERT OR IGNORE INTO sealed VALUES (?, ?, ?, ?, ?, ?)",
            [(s.request_id, s.row, s.kind, s.subject, s.key_id, s.content) for s in write.sealed],
        )
        self._many(
            "UPDATE replies SET content = ? WHERE caller = ? AND owner = ?",
            [(reply.content, reply.caller, reply.owner) for reply in write.replies],
        )
        return [*[one.digest for one in documents], *[one.digest for one in contexts]]

    def _append(self, write: Write, stream: int, sequence: int, link: bytes) -> tuple[bytes, int]:
        tables: dict[type, list[tuple[Any, ...]]] = {Prediction: [], Outcome: [], Event: []}
        for entry in self._arriving(write):
            sequence += 1
            link = canonical.link(link, entry)
            tables[type(entry)].append((place_of(stream, sequence), link, *_VALUES[type(entry)](entry)))
        self._many(_insert("predictions", ("place", "link", *PREDICTION)), tables[Prediction])
        self._many(_insert("outcomes", ("place", "link", *OUTCOME)), tables[Outcome])
        self._many(_insert("events", ("place", "link", *EVENT)), tables[Event])
        return link, sequence

    def _arriving(self, write: Write) -> Iterator[Prediction | Outcome | Event]:
        # Arrivals are given here, not by the database, for the chain covers them; those of deleted outcomes stay used.
        arrival = self._last_arrival() if write.outcomes else 0
        for entry in entries_of(write):
            if isinstance(entry, Outcome):
                arrival += 1
                yield replace(entry, arrival=arrival)
            else:
                yield entry

    def _last_arrival(self) -> int:
        found = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'outcomes'")
        return int(found[0][0]) if found else 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _faults():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _run(self, query: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(query, values)

    def _many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self._connection.executemany(query, rows)

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with _faults():
            return self._connection.execute(query, values).fetchall()

    def _in(self, query: str, values: Iterable[str]) -> Iterator[Any]:
        found = list(values)
        for start in range(0, len(found), CHUNK):
            chunk = found[start : start + CHUNK]
            yield from self._rows(f"{query} ({', '.join('?' * len(chunk))})", chunk)


def _prediction(row: Sequence[Any]) -> Prediction:
    return Prediction(*row)


def _event(row: Sequence[Any]) -> Event:
    return Event(*row)


def _event_values(event: Event) -> tuple[Any, ...]:
    return (event.created, event.kind, event.detail)


def _insert(table: str, names: Sequence[str], otherwise: str = "") -> str:
    places = ", ".join("?" * len(names))
    return f"INSERT {otherwise} INTO {table} ({', '.join(names)}) VALUES ({places})"  # noqa: S608  # our own names


def _where(selection: Selection) -> tuple[str, list[Any]]:
    limits = {
        "contexts.model = ?": selection.model,
        "contexts.version = ?": selection.version,
        "created >= ?": selection.since,
        "created < ?": selection.until,
    }
    given = {text: value for text, value in limits.items() if value is not None}
    own = f"predictions.shadow_of IS {'NOT ' if selection.shadows else ''}NULL"
    return " AND ".join([*given, own]), list(given.values())


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise _unavailable(error) from None


def _unavailable(error: apsw.Error) -> StoreUnavailable:
    # The name of the kind alone: a message of SQLite's may quote values.
    return StoreUnavailable(_REASONS.get(type(error), type(error).__name__))


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    if (connection.pragma("journal_mode"), connection.pragma("synchronous")) != ("wal", 2):
        raise SettingsInvalid("SQLite cannot keep a write-ahead log there, so records would not be durable")


def _migrate(connection: apsw.Connection) -> None:
    scripts = migrations("sqlite.sql")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        done = connection.pragma("user_version")
        if done > len(scripts):
            raise SettingsInvalid("the store was made by a later version of Temperance")
        for number, script in enumerate(scripts[done:], done + 1):
            connection.execute(script)
            connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("COMMIT")


CHAINED: Final = ("predictions", "outcomes", "events")
_OF_SUBJECT: Final = "(SELECT request_id FROM subject_keys WHERE subject = ?)"
ERASE: Final = (
    f"DELETE FROM replies WHERE owner IN {_OF_SUBJECT}",  # noqa: S608  # our own words
    "DELETE FROM sealed WHERE subject = ?",
    "DELETE FROM subject_keys WHERE subject = ?",
)
_OF_PLACES: Final = "(SELECT request_id FROM predictions WHERE place BETWEEN ? AND ?)"
PRUNE: Final = (
    f"DELETE FROM sealed WHERE request_id IN {_OF_PLACES}",  # noqa: S608  # our own words
    f"DELETE FROM subject_keys WHERE request_id IN {_OF_PLACES}",  # noqa: S608
    *[f"DELETE FROM {table} WHERE place BETWEEN ? AND ?" for table in CHAINED],  # noqa: S608
)
UNREFERENCED: Final = (
    "DELETE FROM contexts WHERE digest NOT IN (SELECT context FROM predictions)",
    """
    DELETE FROM documents WHERE digest NOT IN (SELECT basis FROM contexts)
    AND digest NOT IN (SELECT schema FROM contexts WHERE schema IS NOT NULL)
    """,
)
_VALUES: Final[dict[type, Any]] = {Prediction: prediction_values, Outcome: outcome_values, Event: _event_values}
_REASONS: Final[dict[type[apsw.Error], str]] = {
    apsw.FullError: "the disk is full",
    apsw.ReadOnlyError: "the database is read-only",
    apsw.BusyError: "the database is locked",
    apsw.LockedError: "the database is locked",
    apsw.IOError: "the disk reports an error",
    apsw.CantOpenError: "the database cannot be opened",
    apsw.CorruptError: "the database is damaged",
    apsw.NotADBError: "the file is no SQLite database",
}
