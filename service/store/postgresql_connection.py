"""A connection to PostgreSQL whose commits are durable: how it is made, what is required of the server.

Tested in tests/store/test_postgresql.py.

References
----------
PostgreSQL, *Asynchronous Commit*: with ``synchronous_commit = off`` a commit that was confirmed may be lost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from service.errors import SettingsInvalid
from service.record_errors import StoreUnavailable

CONNECT_SECONDS: Final = 5
STATEMENT_MILLISECONDS: Final = 30_000
LOCK_MILLISECONDS: Final = 5000
OLDEST_SERVER: Final = 140_000
DURABLE: Final = ("on", "remote_apply")
"""Of ``synchronous_commit``: written to this server's disk, and to its synchronous standby's where it has one.
``remote_write`` and ``local`` lose what a standby has not written when it takes over."""
MIGRATION_LOCK: Final = (0x54454D50, 1)
STREAMS_LOCK: Final = (0x54454D50, 2)
PARAMETERS: Final[dict[str, Any]] = {
    "autocommit": True,
    "connect_timeout": CONNECT_SECONDS,
    "client_encoding": "utf8",
    "application_name": "temperance",
    "keepalives_idle": 5,  # a server that vanishes without a word is noticed within seconds
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class ConnectionLost(Exception):
    """The server went away; what became of a transaction under way has to be looked up."""


def checked(url: str) -> None:
    """Refuse a URL that libpq does not understand; the message quotes none of it, for it may hold a password.

    Raises
    ------
    SettingsInvalid
    """
    try:
        ports = str(conninfo_to_dict(url).get("port") or "0").split(",")  # one for each of several hosts
        _ = [int(port or 0) for port in ports]
    except (psycopg.Error, ValueError):
        raise SettingsInvalid(
            "TEMPERANCE_STORE is no URL that PostgreSQL understands: postgresql://USER@HOST:PORT/DATABASE"
        ) from None


def connected(url: str, scripts: Sequence[str]) -> psycopg.Connection:
    """A connection whose commits are durable, to a database whose schema is that of this version.

    Raises
    ------
    SettingsInvalid, StoreUnavailable
    """
    try:
        connection = psycopg.connect(url, cursor_factory=psycopg.RawCursor, **PARAMETERS)
    except (psycopg.Error, OSError, UnicodeError):  # its message may quote a user's name
        raise StoreUnavailable("the database server cannot be reached, or refuses all logins") from None
    try:
        _prepare(connection)
        migrate(connection, scripts)
    except psycopg.Error as error:
        connection.close()
        raise unavailable(error) from None
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def faults() -> Iterator[None]:
    """Errors of the driver's as kinds of fault; its messages may quote values, and go no further."""
    try:
        yield
    except psycopg.Error as error:
        raise unavailable(error) from None


def unavailable(error: psycopg.Error) -> StoreUnavailable:
    """The kind of fault of an error."""
    state = error.sqlstate or ""
    return StoreUnavailable(REASONS.get(state) or REASONS.get(state[:2]) or "the database reports an error")


def migrate(connection: psycopg.Connection, scripts: Sequence[str]) -> None:
    """Bring the schema up to date, in one transaction; other processes wait.

    Raises
    ------
    SettingsInvalid
        If a later version made it.
    """
    if _version(connection) == len(scripts):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1, $2)", MIGRATION_LOCK)
        done = _version(connection)
        if done > len(scripts):
            raise SettingsInvalid("the store was made by a later version of Temperance; use that one")
        for script in scripts[done:]:
            psycopg.ClientCursor(connection).execute(_text(script))  # several statements at once
        connection.execute("UPDATE schema_version SET number = $1", (len(scripts),))


def _text(script: str) -> Any:
    return script  # psycopg's types want a literal


def _version(connection: psycopg.Connection) -> int:
    if connection.execute("SELECT to_regclass('schema_version')").fetchall() == [(None,)]:
        return 0
    return int(connection.execute("SELECT number FROM schema_version").fetchall()[0][0])


def _prepare(connection: psycopg.Connection) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise SettingsInvalid("PostgreSQL must be version 14 or later")
    _require(connection, "server_encoding", ("UTF8",))
    _require(connection, "fsync", ("on",))
    if _setting(connection, "transaction_read_only") == "on":
        raise StoreUnavailable("the database server is a standby, or read-only")
    connection.execute("SET default_transaction_isolation = 'read committed'")
    connection.execute(f"SET statement_timeout = {STATEMENT_MILLISECONDS}")
    connection.execute(f"SET lock_timeout = {LOCK_MILLISECONDS}")
    if _setting(connection, "synchronous_commit") not in DURABLE:
        connection.execute("SET synchronous_commit = on")
    _require(connection, "synchronous_commit", DURABLE)


def _require(connection: psycopg.Connection, name: str, values: Sequence[str]) -> None:
    if _setting(connection, name) not in values:
        raise SettingsInvalid(f"PostgreSQL's {name} must be {' or '.join(values)}, or records would not be safe")


def _setting(connection: psycopg.Connection, name: str) -> str:
    return str(connection.execute("SELECT current_setting($1)", (name,)).fetchall()[0][0])


REASONS: Final = {
    "08": "the connection to the database server was lost",
    "25006": "the database server is a standby, or read-only",
    "28": "the database server refuses the login",
    "40": "other transactions were in the way",
    "42501": "the database user may not do that",
    "53100": "the database server's disk is full",
    "53": "the database server is out of resources",
    "55P03": "another process holds the database locked",
    "57014": "the database server took too long",
    "57P": "the database server is shutting down",
    "57": "the database server is shutting down",
    "58": "the database server's disk reports an error",
    "XX": "the database is damaged",
    "": "the connection to the database server was lost",
}
"""By state, or the class that it begins with."""
