"""What every SQL engine writes in the same way; what differs is left to it.

Tested in tests/store/test_promises.py.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import uuid_utils

from service.record_errors import StoreUnavailable
from service.store import canonical
from service.store.appending import Placed, placed
from service.store.entries import Event, Reservation, Write
from service.store.queries import Queries
from service.store.signing import Signer
from service.store.statements import (
    ANCHOR,
    CHAINED,
    CONTEXT,
    DOCUMENT,
    EVENT,
    OUTCOME,
    PREDICTION,
    SEALED,
    STREAM,
    SUBJECT_KEY,
    context_values,
    insertion,
    place_of,
    sequence_of,
    values_of,
)
from service.store.streams import Anchor, Head, Stream

Result = TypeVar("Result")
Statement = tuple[str, Sequence[Any]]


class Conflict(Exception):
    """What a transaction rests on is not what the database holds: it may succeed once that is read again."""


class SqlStore(Queries):
    """The writing half of a `Store`, over transactions of an engine."""

    def __init__(self, signer: Signer | None) -> None:
        self._signer = signer
        self._stream: Stream | None = None
        self._head: Head | None = None  # None: not begun, or not known since a fault
        self._next: Head | None = None  # where the transaction under way leads
        self._known: set[bytes] = set()  # digests of contexts and documents that are stored

    @abstractmethod
    def _in_transaction(self, body: Callable[[], Result]) -> Result:
        """What a function returns that runs in one transaction, durable when this returns; it may run twice.

        Raises
        ------
        StoreUnavailable
        Conflict
        ValueError
            If a value is none that a database can hold.
        """

    @abstractmethod
    def _run(self, query: str, values: Sequence[Any] = ()) -> int:
        """The number of rows that a statement changed."""

    @abstractmethod
    def _insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], *, new: bool = False) -> None:
        """Insert rows; of ``new`` ones only those whose key is not there."""

    @abstractmethod
    def _lock_streams(self) -> None:
        """Let no other transaction add to the list of streams before this one has ended."""

    def write(self, writes: Sequence[Write]) -> None:
        """As `Store.write`."""
        self._append(writes)

    def check(self) -> None:
        """As `Store.check`."""
        query = "INSERT INTO probe VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET checked = excluded.checked"
        self._in_transaction(partial(self._run, query, (_now(),)))

    def reserve(self, caller: bytes, *, owner: str, fingerprint: bytes, now: int, lease: int) -> Reservation | None:
        """As `Store.reserve`."""
        return self._in_transaction(partial(self._reserved, (caller, owner, fingerprint, now), now - lease))

    def release(self, caller: bytes, owner: str) -> None:
        """As `Store.release`."""
        query = "DELETE FROM replies WHERE caller = $1 AND owner = $2 AND content IS NULL"
        self._in_transaction(partial(self._run, query, (caller, owner)))

    def forget_replies(self, before: int) -> int:
        """As `Store.forget_replies`."""
        return self._in_transaction(partial(self._run, "DELETE FROM replies WHERE reserved < $1", (before,)))

    def keep_anchor(self, anchor: Anchor) -> None:
        """As `Store.keep_anchor`."""
        self._in_transaction(partial(self._insert, "anchors", ANCHOR, [values_of(anchor)], new=True))

    def keep_state(self, name: str, content: str, *, expected: str | None) -> bool:
        """As `Store.keep_state`."""
        if expected is None:
            query, values = "INSERT INTO states VALUES ($1, $2) ON CONFLICT DO NOTHING", [name, content]
        else:
            query = "UPDATE states SET content = $1 WHERE name = $2 AND content = $3"
            values = [content, name, expected]
        return self._in_transaction(partial(self._run, query, values)) > 0

    def head(self) -> Head | None:
        """As `Store.head`."""
        return self._head

    def erase(self, subject: bytes, event: Event) -> bool:
        """As `Store.erase`."""
        found = bool(self._rows("SELECT 1 FROM subject_keys WHERE subject = $1 LIMIT 1", (subject,)))
        if found:
            self._append([Write(events=[event])], [(query, (subject,)) for query in ERASE])
        self._remove_traces()
        return found

    @abstractmethod
    def _remove_traces(self) -> None:
        """Remove what was deleted from the engine's files, as far as it can."""

    def prune(self, segments: Mapping[int, int], event: Event) -> int:
        """As `Store.prune`."""
        places = [(place_of(stream, 0), place_of(stream, last)) for stream, last in segments.items()]
        before = sum(int(self._rows(query, place)[0][0]) for place in places for query in COUNT)
        removal = [(query, place) for place in places for query in PRUNE]
        self._append([Write(events=[event])], [*removal, *[(query, ()) for query in UNREFERENCED]])
        self._known.clear()  # what is gone must be written again
        return before

    def _append(self, writes: Sequence[Write], first: Sequence[Statement] = ()) -> None:
        try:
            known = self._in_transaction(partial(self._appended, writes, first))
        except Conflict:  # another process pruned what this one took as stored, or wrote on for it
            self._known.clear()
            known = self._again(writes, first)
        self._head = self._next
        self._known.update(known)

    def _again(self, writes: Sequence[Write], first: Sequence[Statement]) -> list[bytes]:
        try:
            return self._in_transaction(partial(self._appended, writes, first))
        except Conflict:
            raise ValueError("an entry is in the store already, or rests on one that is not") from None

    def _appended(self, writes: Sequence[Write], first: Sequence[Statement]) -> list[bytes]:
        for query, values in first:
            self._run(query, values)
        head = self._own_head()
        known = self._write_common(writes)
        entries = placed(self._arriving(writes), head)
        self._write_entries(entries)
        self._next = entries.head
        return known

    def _arriving(self, writes: Sequence[Write]) -> list[Write]:
        # Arrivals are given here, not by a column's default, for the chain covers them.
        count = sum(len(write.outcomes) for write in writes)
        if not count:
            return list(writes)
        # The row stays locked until the transaction ends, so that the order of arrival is the order of commits.
        last = self._rows("UPDATE arrivals SET last = last + $1 RETURNING last", (count,))[0][0]
        arrivals = iter(range(last - count + 1, last + 1))
        return [
            replace(write, outcomes=[replace(one, arrival=next(arrivals)) for one in write.outcomes])
            for write in writes
        ]

    def _write_entries(self, entries: Placed) -> None:
        self._insert("predictions", ("place", "link", *PREDICTION), entries.predictions)
        self._insert("outcomes", ("place", "link", *OUTCOME), entries.outcomes)
        self._insert("events", ("place", "link", *EVENT), entries.events)

    def _write_common(self, writes: Sequence[Write]) -> list[bytes]:
        # Sorted by key: two transactions that insert the same rows in different orders would wait for each other.
        documents = {one.digest: values_of(one) for write in writes for one in self._unknown(write.documents)}
        contexts = {one.digest: context_values(one) for write in writes for one in self._unknown(write.contexts)}
        keys = [values_of(key) for write in writes for key in write.subject_keys]
        self._insert("documents", DOCUMENT, [documents[digest] for digest in sorted(documents)], new=True)
        self._insert("contexts", CONTEXT, [contexts[digest] for digest in sorted(contexts)], new=True)
        self._insert("subject_keys", SUBJECT_KEY, keys, new=True)
        self._insert("sealed", SEALED, [values_of(one) for write in writes for one in write.sealed], new=True)
        for reply in [one for write in writes for one in write.replies]:
            values = (reply.content, reply.caller, reply.owner)
            self._run("UPDATE replies SET content = $1 WHERE caller = $2 AND owner = $3", values)
        return [*documents, *contexts]

    def _unknown(self, values: Iterable[Any]) -> Iterator[Any]:
        return (one for one in values if one.digest not in self._known)

    def _reserved(self, row: tuple[bytes, str, bytes, int], oldest: int) -> Reservation | None:
        self._run(
            "INSERT INTO replies (caller, owner, fingerprint, reserved, content) VALUES ($1, $2, $3, $4, NULL) "
            "ON CONFLICT (caller) DO UPDATE SET owner = excluded.owner, fingerprint = excluded.fingerprint, "
            "reserved = excluded.reserved WHERE replies.content IS NULL AND replies.reserved < $5",
            (*row, oldest),
        )
        found = self._rows("SELECT owner, fingerprint, content FROM replies WHERE caller = $1", row[:1])
        standing = Reservation(*found[0])
        return None if standing.owner == row[1] else standing

    def _own_head(self) -> Head:
        if self._head is not None:
            return self._head
        if self._stream is not None and self._rows("SELECT 1 FROM streams WHERE name = $1", (self._stream.name,)):
            return self._stored_head(self._stream)
        self._stream = own = self._new_stream()
        return Head(own.number, own.name, 0, own.link)

    def _stored_head(self, stream: Stream) -> Head:
        # Entries may have been pruned up to an anchor.
        anchors = [(one.sequence, one.link) for one in self.anchors(stream.number)[-1:]]
        place = self._last_place(stream.number)
        links = [(sequence_of(place), row[0]) for row in self._rows(LINK, (place,))]
        sequence, link = max([(0, stream.link), *anchors, *links])
        return Head(stream.number, stream.name, sequence, link)

    def _new_stream(self) -> Stream:
        if self._signer is None:
            raise StoreUnavailable("this connection only reads")
        self._lock_streams()
        last = self._rows("SELECT number, link FROM streams ORDER BY number DESC LIMIT 1")
        number, previous = (last[0][0] + 1, last[0][1]) if last else (1, canonical.ZEROS)
        name, started, key_id = str(uuid_utils.uuid7()), _now(), self._signer.key_id
        link = canonical.stream_link(previous, number=number, name=name, started=started, key_id=key_id)
        stream = Stream(number, name, started, previous, link, key_id, self._signer.sign(link))
        self._run(insertion("streams", STREAM), values_of(stream))
        return stream


def _now() -> int:
    return time.time_ns() // 1000


LINK: Final = " UNION ALL ".join(f"SELECT link FROM {table} WHERE place = $1" for table in CHAINED)  # noqa: S608
COUNT: Final = [f"SELECT count(*) FROM {table} WHERE place BETWEEN $1 AND $2" for table in CHAINED]  # noqa: S608
_OF_SUBJECT: Final = "(SELECT request_id FROM subject_keys WHERE subject = $1)"
ERASE: Final = (
    f"DELETE FROM replies WHERE owner IN {_OF_SUBJECT}",  # noqa: S608  # our own words
    "DELETE FROM sealed WHERE subject = $1",
    "DELETE FROM subject_keys WHERE subject = $1",
)
_OF_PLACES: Final = "(SELECT request_id FROM predictions WHERE place BETWEEN $1 AND $2)"
PRUNE: Final = (
    "INSERT INTO pruning VALUES ($1, $2)",  # triggers let nothing else be deleted
    f"DELETE FROM sealed WHERE request_id IN {_OF_PLACES}",  # noqa: S608  # our own words
    f"DELETE FROM subject_keys WHERE request_id IN {_OF_PLACES}",  # noqa: S608
    *[f"DELETE FROM {table} WHERE place BETWEEN $1 AND $2" for table in CHAINED],  # noqa: S608
)
UNREFERENCED: Final = (
    "DELETE FROM contexts WHERE NOT EXISTS (SELECT 1 FROM predictions WHERE context = contexts.digest)",
    (
        "DELETE FROM documents WHERE NOT EXISTS "
        "(SELECT 1 FROM contexts WHERE documents.digest IN (contexts.basis, contexts.schema))"
    ),
    "DELETE FROM pruning",
)
