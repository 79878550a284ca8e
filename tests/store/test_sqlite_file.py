"""Where the file may lie, who may read it, and how its schema changes."""

import logging
import multiprocessing
import os
from pathlib import Path

import apsw
import pytest

from service.errors import SettingsInvalid
from service.record_errors import StoreUnavailable
from service.store.engine import open_store
from service.store.migrations import migrations
from service.store.sqlite_file import check_place, check_version, connected, migrate, path_of

SLOW = """
CREATE TABLE second (number INTEGER) STRICT;
WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 1000000)
INSERT INTO second SELECT n FROM counted;
"""


@pytest.mark.parametrize("version", ["3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2"])
def test_an_sqlite_that_may_lose_commits_is_refused(version):
    with pytest.raises(SettingsInvalid, match=version):
        check_version(version)


@pytest.mark.parametrize("version", ["3.44.6", "3.50.7", "3.51.3", "3.54.1", "4.0.0"])
def test_an_sqlite_in_which_that_is_mended_is_used(version):
    check_version(version)


def mounted(tmp_path: Path, kind: str) -> Path:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 254:0 / / rw - {kind} source rw\n")
    return mounts


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse", "ceph"])
def test_network_file_systems_are_refused(tmp_path, kind):
    with pytest.raises(SettingsInvalid, match=kind):
        check_place(Path("/data/audit.db"), mounted(tmp_path, kind))


@pytest.mark.parametrize(("kind", "lines"), [("overlay", 1), ("tmpfs", 1), ("ext4", 0), ("xfs", 0)])
def test_a_file_system_that_ends_with_the_container_is_warned_about(tmp_path, caplog, kind, lines):
    with caplog.at_level(logging.WARNING):
        check_place(Path("/data/audit.db"), mounted(tmp_path, kind))
    assert len([line for line in caplog.messages if kind in line]) == lines


@pytest.mark.parametrize(
    "url", ["sqlite://audit.db", "sqlite:///", "sqlite:///a/", "sqlite:///a?x=1", "sqlite:///a%00b"]
)
def test_a_url_that_names_no_file_is_refused(url):
    with pytest.raises(SettingsInvalid):
        path_of(url)


def test_folder_and_files_are_their_owners_alone(tmp_path):
    mask = os.umask(0)
    try:
        open_store(f"sqlite://{tmp_path}/new/audit.db").close()
        store = open_store(f"sqlite://{tmp_path}/new/audit.db")
        store.check()
        folder = tmp_path / "new"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        store.close()
    finally:
        os.umask(mask)


def test_a_connection_syncs_every_commit_and_overwrites_what_it_deletes(tmp_path):
    connection = connected(tmp_path / "audit.db", migrations("sqlite.sql"))
    names = ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
    assert [connection.pragma(name) for name in names] == ["wal", 2, 1, 1]
    connection.close()


def test_a_file_that_is_no_database_is_named_as_none(tmp_path):
    (tmp_path / "audit.db").write_bytes(b"no database " * 1000)
    with pytest.raises(StoreUnavailable, match="no SQLite database"):
        open_store(f"sqlite://{tmp_path}/audit.db")


def test_a_folder_in_place_of_the_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "audit.db").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_store(f"sqlite://{tmp_path}/audit.db")


def test_a_schema_of_a_later_version_is_refused(tmp_path):
    connection = connected(tmp_path / "audit.db", [*migrations("sqlite.sql"), "CREATE TABLE later (a)"])
    connection.close()
    with pytest.raises(SettingsInvalid, match="later version"):
        open_store(f"sqlite://{tmp_path}/audit.db")


def test_an_older_schema_is_brought_up_to_date_and_keeps_its_rows(tmp_path):
    connection = connected(tmp_path / "audit.db", ["CREATE TABLE first (a) ; INSERT INTO first VALUES (1)"])
    connection.close()
    scripts = ["never run again", "ALTER TABLE first ADD COLUMN b; UPDATE first SET b = 2"]
    connection = connected(tmp_path / "audit.db", scripts)
    assert connection.execute("SELECT a, b FROM first").fetchall() == [(1, 2)]
    assert connection.pragma("user_version") == 2
    connection.close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path):
    connection = connected(tmp_path / "audit.db", migrations("sqlite.sql"))
    with pytest.raises(apsw.SQLError):
        migrate(connection, [*migrations("sqlite.sql"), "CREATE TABLE second (a); nonsense"])
    assert not connection.in_transaction
    assert connection.pragma("user_version") == 1
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'second'").fetchall() == [(0,)]
    connection.close()


def migrate_slowly(path: str, begun) -> None:
    begun.set()
    connected(Path(path), [*migrations("sqlite.sql"), SLOW])


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.long)])
def test_a_migration_that_is_killed_leaves_the_old_schema_or_the_new_one(tmp_path, rounds):
    spawn = multiprocessing.get_context("spawn")
    for number in range(rounds):
        path = tmp_path / f"{number}.db"
        connected(path, migrations("sqlite.sql")).close()
        begun = spawn.Event()
        process = spawn.Process(target=migrate_slowly, args=(str(path), begun))
        process.start()
        begun.wait(30)
        process.join(0.01 + 0.6 * number / rounds)  # killed at another point each time
        process.kill()
        process.join()
        base = apsw.Connection(str(path))
        tables = base.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'second'").fetchall()
        assert (base.pragma("user_version"), tables) in ((1, [(0,)]), (2, [(1,)]))
        assert base.pragma("integrity_check") == "ok"
        base.close()
