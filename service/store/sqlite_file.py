"""The file of the embedded engine: where it may lie, who may read it, how a connection is set up.

References
----------
SQLite, *Write-Ahead Logging*, section 11: the WAL-reset bug, absent from 3.51.3, 3.50.7 and 3.44.6 on.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import apsw

from service.errors import SettingsInvalid
from service.private_files import FILE_MODE, FOLDER_MODE
from service.record_errors import StoreUnavailable
from service.store.mounts import MOUNTS, NETWORK, VOLATILE, kind_of

BUSY_SECONDS: Final = 5.0
LOG_BYTES: Final = 64 << 20
"""To which a write-ahead log is cut down that grew during a read."""

log = logging.getLogger("temperance")


def path_of(url: str) -> Path:
    """The file behind ``sqlite:///PATH``.

    Raises
    ------
    SettingsInvalid
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or path.endswith("/"):
        raise SettingsInvalid("TEMPERANCE_STORE must be sqlite:/// and the absolute path of a file")
    if "\0" in path:
        raise SettingsInvalid("TEMPERANCE_STORE must name a file; its path holds a zero byte")
    return Path(path).resolve()


def connected(path: Path, scripts: Sequence[str]) -> apsw.Connection:
    """A connection whose commits are durable, to a database whose schema is that of this version.

    Raises
    ------
    SettingsInvalid, StoreUnavailable
    """
    check_version(apsw.sqlite_lib_version())
    check_place(path)
    _make(path)
    with faults():
        connection = apsw.Connection(str(path))
        try:
            _prepare(connection)
            migrate(connection, scripts)
        except BaseException:
            connection.close()
            raise
    return connection


def check_version(version: str) -> None:
    """Refuse an SQLite that can lose commits of several processes.

    Raises
    ------
    SettingsInvalid
    """
    number = tuple(int(part) for part in version.split(".")[:3])
    if number < (3, 51, 3) and not any(fixed <= number < (*fixed[:2], 999) for fixed in ((3, 44, 6), (3, 50, 7))):
        raise SettingsInvalid(f"SQLite {version} can lose records; install an apsw with SQLite 3.51.3 or later")


def check_place(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a file system that several machines share, and warn of one that does not last.

    Raises
    ------
    SettingsInvalid
    """
    kind = kind_of(path, mounts)
    if kind in NETWORK:
        raise SettingsInvalid(
            f"{path}: SQLite loses records on a file system of kind {kind}; choose a local disk or postgresql://"
        )
    if kind in VOLATILE:
        log.warning("%s lies on a file system of kind %s: records end with the container or the machine", path, kind)


@contextmanager
def faults() -> Iterator[None]:
    """Errors of SQLite's as kinds of fault; its messages may quote values, and go no further."""
    try:
        yield
    except apsw.Error as error:
        raise StoreUnavailable(REASONS.get(type(error), "the database reports an error")) from None


def migrate(connection: apsw.Connection, scripts: Sequence[str]) -> None:
    """Bring the schema up to date, in one transaction.

    Raises
    ------
    SettingsInvalid
        If a later version made it.
    """
    if connection.pragma("user_version") == len(scripts):
        return  # without a lock, and on a read-only file too
    connection.execute("BEGIN IMMEDIATE")
    try:
        _run_scripts(connection, scripts)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run_scripts(connection: apsw.Connection, scripts: Sequence[str]) -> None:
    done = connection.pragma("user_version")
    if done > len(scripts):
        raise SettingsInvalid("the store was made by a later version of Temperance; use that one")
    for script in scripts[done:]:
        connection.execute(script)
    connection.pragma("user_version", len(scripts))


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))  # SQLite would ask the umask alone
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}") from None


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
    for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    if [connection.pragma(name) for name in EXPECTED] != list(EXPECTED.values()):
        raise SettingsInvalid("SQLite cannot keep a write-ahead log there, so records would not be durable")


EXPECTED: Final = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}
REASONS: Final[dict[type[apsw.Error], str]] = {
    apsw.FullError: "the disk is full",
    apsw.ReadOnlyError: "the database is read-only",
    apsw.BusyError: "another process holds the database locked",
    apsw.LockedError: "another process holds the database locked",
    apsw.IOError: "the disk reports an error",
    apsw.CantOpenError: "the database cannot be opened",
    apsw.PermissionsError: "the database may not be opened",
    apsw.AuthError: "the database may not be opened",
    apsw.CorruptError: "the database is damaged",
    apsw.NotADBError: "the file is no SQLite database",
    apsw.NoMemError: "there is no memory left",
}
