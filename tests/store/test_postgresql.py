"""A server that goes away, and what is required of it."""

import psycopg
import pytest

from service.errors import SettingsInvalid
from service.record_errors import StoreUnavailable
from service.store import postgresql
from service.store.engine import open_store
from service.store.entries import Event, Write
from service.store.migrations import migrations
from service.store.postgresql import PostgresqlStore
from service.store.postgresql_connection import PARAMETERS, connected, migrate
from tests.store.conftest import new_database
from tests.store.kept import FixedSigner, kept, outcome

SECRET = "hunter2"  # noqa: S105  # of nothing


@pytest.fixture
def url(postgresql) -> str:
    return new_database(postgresql)


@pytest.fixture
def store(url):
    store = open_store(url, signer=FixedSigner())
    yield store
    store.close()


def lose_connection(url: str) -> None:
    """The server ends the connection, as when it restarts."""
    with psycopg.connect(url, autocommit=True) as other:
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'temperance'"
        assert other.execute(query).fetchall() == [(True,)]


def event() -> Write:
    return Write(events=[Event(1, "alias", "{}")])


def numbers(store) -> list[int]:
    return [one.sequence for one in store.entries(1)]


def test_a_lost_connection_is_made_anew_and_the_stream_goes_on(store, url):
    store.write([event()])
    lose_connection(url)
    store.write([event()])
    lose_connection(url)
    assert numbers(store) == [1, 2]
    assert len(store.streams()) == 1


class LostAtCommit:
    """A connection that is lost when it commits: before the server did, or after."""

    def __init__(self, connection, *, is_committed: bool) -> None:
        self._connection, self._is_committed = connection, is_committed

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, query, *values, **options):
        if query != "COMMIT":
            return self._connection.execute(query, *values, **options)
        self._connection.execute("COMMIT" if self._is_committed else "ROLLBACK")
        self._connection.close()
        raise psycopg.OperationalError("the connection is lost")


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_that_was_not_confirmed_is_neither_lost_nor_doubled(store, is_committed):
    store.write([event()])
    store._connection = LostAtCommit(store._connection, is_committed=is_committed)
    request_id, write = kept(["no", "yes"])
    store.write([write])
    store.write([event()])
    assert numbers(store) == [1, 2, 3]
    assert store.linked(request_id).sequence == 2


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_first_commit_that_was_not_confirmed_makes_one_stream(store, is_committed):
    store._connection = LostAtCommit(store._connection, is_committed=is_committed)
    store.write([event()])
    store.write([event()])
    assert len(store.streams()) == 1
    assert numbers(store) == [1, 2]


def test_a_server_that_cannot_be_reached_is_a_fault_that_names_no_credential(tmp_path):
    with pytest.raises(StoreUnavailable) as found:
        open_store(f"postgresql://user:{SECRET}@/base?host={tmp_path}")
    assert SECRET not in str(found.value)
    assert "user" not in found.value.detail


@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}@host:port/base", f"postgresql://u:{SECRET}@h/b?unknown=1"])
def test_a_url_that_cannot_be_understood_is_refused_without_quoting_it(url):
    with pytest.raises(SettingsInvalid) as found:
        open_store(url)
    assert SECRET not in str(found.value)


def test_commits_are_synchronous_whatever_the_database_says(url):
    with psycopg.connect(url, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    store = PostgresqlStore.opened(url, signer=FixedSigner())
    assert store._rows("SHOW synchronous_commit") == [("on",)]
    store.close()


def test_a_database_that_is_read_only_is_a_fault_and_not_an_answer(store, url):
    store.write([event()])
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(f'ALTER DATABASE "{other.info.dbname}" SET default_transaction_read_only = on')
    lose_connection(url)
    with pytest.raises(StoreUnavailable, match="read-only"):
        store.write([event()])
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SET default_transaction_read_only = off")
        other.execute(f'ALTER DATABASE "{other.info.dbname}" RESET default_transaction_read_only')
    store._not_before = 0.0
    store.check()
    store.write([event()])
    assert numbers(store) == [1, 2]


def test_a_row_that_another_transaction_holds_is_waited_for_and_then_a_fault(store, url):
    store.check()
    store._run("SET lock_timeout = 50")
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM probe FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.check()
    store.check()


@pytest.mark.parametrize("table", ["predictions", "outcomes", "events", "contexts", "documents", "streams"])
@pytest.mark.parametrize("query", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_record_is_append_only(store, url, table, query):
    request_id, write = kept(["no", "yes"])
    store.write([write, event()])
    store.write([Write(outcomes=[outcome(request_id)])])
    column = {"contexts": "verb", "documents": "kind"}.get(table, "link")
    with psycopg.connect(url, autocommit=True) as other, pytest.raises(psycopg.Error, match="append-only"):
        other.execute(query.format(table, column, column))


def test_a_schema_of_a_later_version_is_refused(url):
    connected(url, [*migrations("postgresql.sql"), "CREATE TABLE later (a bigint)"]).close()
    with pytest.raises(SettingsInvalid, match="later version"):
        open_store(url)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(url):
    connected(url, migrations("postgresql.sql")).close()
    with psycopg.connect(url, cursor_factory=psycopg.RawCursor, **PARAMETERS) as connection:
        with pytest.raises(psycopg.Error):
            migrate(connection, [*migrations("postgresql.sql"), "CREATE TABLE second (a bigint); nonsense"])
        assert connection.execute("SELECT to_regclass('second')").fetchall() == [(None,)]
        assert connection.execute("SELECT number FROM schema_version").fetchall() == [(1,)]


def test_it_gives_up_in_a_bounded_time(monkeypatch, store, url, tmp_path):
    monkeypatch.setattr(postgresql, "RECONNECT_SECONDS", 0.2)
    lose_connection(url)
    store._url = f"postgresql:///base?host={tmp_path}"
    with pytest.raises(StoreUnavailable, match="reached"):
        store.write([event()])
    store._url = url
    store._not_before = 0.0
    store.write([event()])
    assert numbers(store) == [1]
