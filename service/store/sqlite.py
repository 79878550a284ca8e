"""The embedded engine: SQLite through apsw, in write-ahead mode, every commit synced.

Entries of a group are inserted by few statements of many rows. apsw lets go of the interpreter's lock at each step of a
statement, and beside a busy thread getting it back may take the switch interval, 5 ms: a statement for every row made
a group of 64 wait for it 64 times. Tested in tests/store/test_promises.py and
tests/store/test_sqlite.py.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import apsw

from service.record_errors import StoreUnavailable
from service.store.migrations import migrations
from service.store.signing import Signer
from service.store.sql_store import Conflict, Result, SqlStore
from service.store.sqlite_file import BUSY_SECONDS, connected, faults, path_of
from service.store.statements import insertion

TRIES: Final = 3  # to begin: SQLite refuses at once, without waiting, where waiting could end in a deadlock
LEAST_FREE_BYTES: Final = 1 << 20
"""With which a disk that was full counts as usable again."""
CHUNKS: Final = (64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement; few different ones, so that their compiled forms are kept."""


class SqliteStore(SqlStore):
    """One connection to a file."""

    def __init__(self, connection: apsw.Connection, path: Path, signer: Signer | None) -> None:
        super().__init__(signer)
        self._connection = connection
        self._path = path
        self._process = os.getpid()
        self._file = _identity(path)

    @classmethod
    def opened(cls, url: str, *, signer: Signer | None) -> Self:
        """As `Store.opened`."""
        path = path_of(url)
        return cls(connected(path, migrations("sqlite.sql")), path, signer)

    def close(self) -> None:
        """As `Store.close`."""
        with faults():
            self._connection.close()

    def check(self) -> None:
        """As `Store.check`."""
        # A small write may find room in the log when the next record will not: ready and not ready in alternation.
        with suppress(OSError):
            disk = os.statvfs(self._path)
            if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
                raise StoreUnavailable("the disk is full")
        super().check()

    def size(self) -> int:
        """As `Store.size`."""
        files = [self._path.with_name(f"{self._path.name}{ending}") for ending in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())

    def _in_transaction(self, body: Callable[[], Result]) -> Result:
        self._check_process()
        with faults():
            try:
                with self._transaction():
                    result = body()
            except BaseException as error:
                self._head = None  # what became of a commit that failed is read again
                _refuse(error)
                raise
        return result

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._begin()
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _begin(self) -> None:
        # IMMEDIATE: a transaction that only later wants to write is refused at once when another wrote meanwhile.
        deadline = time.monotonic() + BUSY_SECONDS
        for left in reversed(range(TRIES)):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except apsw.BusyError:
                if not left or time.monotonic() >= deadline:
                    raise
            else:
                return

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError("a connection to SQLite does not survive a fork; open one in each process")
        if _identity(self._path) != self._file:  # SQLite would write on into a file that has no name any more
            raise StoreUnavailable(f"{self._path} was removed or replaced; start the service again")

    def _run(self, query: str, values: Sequence[Any] = ()) -> int:
        self._connection.execute(query, values)
        return self._connection.changes()

    def _insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], *, new: bool = False) -> None:
        start = 0
        while start < len(rows):
            count = next(size for size in CHUNKS if size <= len(rows) - start)
            query = insertion(table, names, rows=count, new=new)
            self._connection.execute(query, list(chain.from_iterable(rows[start : start + count])))
            start += count

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        if self._connection.in_transaction:
            return self._connection.execute(query, values).fetchall()
        with faults():
            return self._connection.execute(query, values).fetchall()

    def _lock_streams(self) -> None:
        """Nothing to do: one transaction writes at a time."""

    def _remove_traces(self) -> None:
        # `secure_delete` has zeroed the pages; older states of them are in the log until it is cut to nothing.
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            raise StoreUnavailable("erased, but a reader still needs the log that holds traces; erase again") from None
        except apsw.Error:
            with faults():
                raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse(error: BaseException) -> None:
    if isinstance(error, apsw.ConstraintError) and error.extendedresult in _CONFLICTS:  # type: ignore[attr-defined]  # not in apsw's stubs
        raise Conflict from None
    if isinstance(error, _UNFIT):
        raise ValueError("a value is none that the store holds") from None  # noqa: TRY004  # its type is right


_UNFIT: Final = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError, OverflowError, UnicodeEncodeError)
_CONFLICTS: Final = frozenset(
    (
        apsw.SQLITE_CONSTRAINT_FOREIGNKEY,
        apsw.SQLITE_CONSTRAINT_PRIMARYKEY,
        apsw.SQLITE_CONSTRAINT_ROWID,
        apsw.SQLITE_CONSTRAINT_UNIQUE,
    )
)
