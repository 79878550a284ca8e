"""The engine of several machines: PostgreSQL through psycopg, any number of writers.

A stream has one writer, so writers of predictions do not wait for each other. What has one order among all writers
waits for a lock that lasts until the commit: numbers of streams, and the arrival of outcomes. Tested in
tests/store/test_promises.py and tests/store/test_postgresql.py.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Self

import psycopg
from psycopg import errors

from service.record_errors import StoreUnavailable
from service.store.migrations import migrations
from service.store.postgresql_connection import STREAMS_LOCK, ConnectionLost, checked, connected, faults, unavailable
from service.store.signing import Signer
from service.store.sql_store import LINK, Conflict, Result, SqlStore
from service.store.statements import insertion, place_of
from service.store.streams import Head

TRIES: Final = 3
RECONNECT_SECONDS: Final = 3.0
"""In which a lost connection is made anew before a use of it fails."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class PostgresqlStore(SqlStore):
    """One connection to a server; when it is lost, the next use makes another."""

    def __init__(self, url: str, connection: psycopg.Connection, signer: Signer | None) -> None:
        super().__init__(signer)
        self._url = url
        self._connection = connection
        self._pause, self._not_before = FIRST_PAUSE, 0.0
        self._is_inside = False  # a transaction, whose statements must not reach another connection

    @classmethod
    def opened(cls, url: str, *, signer: Signer | None) -> Self:
        """As `Store.opened`."""
        checked(url)
        return cls(url, connected(url, migrations("postgresql.sql")), signer)

    def close(self) -> None:
        """As `Store.close`."""
        self._connection.close()

    def size(self) -> int:
        """As `Store.size`."""
        return int(self._rows("SELECT pg_database_size(current_database())")[0][0])

    def _in_transaction(self, body: Callable[[], Result]) -> Result:
        for left in reversed(range(TRIES)):
            self._connect()
            try:
                return self._tried(body)
            except (ConnectionLost, errors.DeadlockDetected, errors.SerializationFailure):
                self._head = None  # read again
                if not left:
                    raise StoreUnavailable("the connection to the database server was lost") from None
        raise AssertionError  # the last try returns or raises

    def _tried(self, body: Callable[[], Result]) -> Result:
        self._next, self._is_inside = None, True
        try:
            self._connection.execute("BEGIN")
            result = body()
        except BaseException as error:
            self._rolled_back(error)
            raise
        finally:
            self._is_inside = False
        return self._committed(result)

    def _committed(self, result: Result) -> Result:
        try:
            self._connection.execute("COMMIT")
        except psycopg.Error as error:
            self._head = None
            if not self._connection.closed:
                self._roll_back()
                raise unavailable(error) from None
            # Whether the server committed is not known: neither a failure nor a second copy may be assumed.
            if not self._reached(self._next):
                raise ConnectionLost from None
        return result

    def _reached(self, head: Head | None) -> bool:
        if head is None:  # no entry tells; what such a transaction does can be done again
            return False
        self._connect()
        place = place_of(head.stream, head.sequence)
        return (head.link,) in [tuple(row) for row in self._rows(LINK, (place,))]

    def _rolled_back(self, error: BaseException) -> None:
        self._head = None
        if self._connection.closed:
            if isinstance(error, psycopg.Error | StoreUnavailable):
                raise ConnectionLost from None
            return
        self._roll_back()
        _refuse(error)

    def _roll_back(self) -> None:
        with suppress(psycopg.Error):
            self._connection.execute("ROLLBACK")

    def _connect(self) -> None:
        deadline = time.monotonic() + RECONNECT_SECONDS
        while self._connection.closed:
            now = time.monotonic()
            if self._not_before > deadline:
                raise StoreUnavailable("the database server cannot be reached")
            time.sleep(max(0.0, self._not_before - now))
            self._connect_once(deadline)

    def _connect_once(self, deadline: float) -> None:
        try:
            self._connection = connected(self._url, migrations("postgresql.sql"))
        except StoreUnavailable:
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if self._not_before > deadline:
                raise
        else:
            self._pause, self._not_before = FIRST_PAUSE, 0.0

    def _run(self, query: str, values: Sequence[Any] = ()) -> int:
        return self._connection.execute(_text(query), values).rowcount

    def _insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], *, new: bool = False) -> None:
        if rows:
            with self._connection.cursor() as cursor:
                cursor.executemany(_text(insertion(table, names, new=new)), rows)

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        if self._is_inside:
            return self._fetched(query, values)
        for left in (True, False):
            self._connect()
            try:
                with faults():
                    return self._fetched(query, values)
            except StoreUnavailable:
                if not (left and self._connection.closed):
                    raise
        raise AssertionError  # the last try returns or raises

    def _fetched(self, query: str, values: Sequence[Any]) -> list[Any]:
        return self._connection.execute(_text(query), values, binary=True).fetchall()

    def _lock_streams(self) -> None:
        self._rows("SELECT 1 FROM (SELECT pg_advisory_xact_lock($1, $2)) AS held", STREAMS_LOCK)

    def _remove_traces(self) -> None:
        # Freed for others' use; the server's own log and its backups hold old states until they are dropped.
        with faults():
            for table in ("sealed", "subject_keys", "replies"):
                self._connection.execute(_text(f"VACUUM {table}"))


def _text(query: str) -> Any:
    return query  # psycopg's types want a literal; ours are put together of our own words


def _refuse(error: BaseException) -> None:
    if isinstance(error, errors.UniqueViolation | errors.ForeignKeyViolation):
        raise Conflict from None
    if isinstance(error, _UNFIT):
        raise ValueError("a value is none that the store holds") from None  # noqa: TRY004  # its type is right
    if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
        return
    if isinstance(error, psycopg.Error):
        raise unavailable(error) from None


_UNFIT: Final = (psycopg.DataError, psycopg.IntegrityError, OverflowError, UnicodeEncodeError)
