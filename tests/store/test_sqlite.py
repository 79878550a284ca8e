"""Faults of a disk and of other processes, and what is left in the file."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from service.record_errors import StoreUnavailable
from service.store import sqlite, sqlite_file
from service.store.engine import open_store
from service.store.entries import Event, Sealed, SubjectKey, Write
from tests.store.kept import KEY_ID, FixedSigner, kept, outcome

LARGE = Write(events=[Event(1, "alias", f'{{"a": "{"x" * 200_000}"}}')])


def event() -> Write:
    return Write(events=[Event(1, "alias", "{}")])


@pytest.fixture
def path(tmp_path) -> Path:
    return Path(tmp_path) / "record" / "audit.db"


@pytest.fixture
def store(path):
    store = open_store(f"sqlite://{path}", signer=FixedSigner())
    yield store
    store.close()


def numbers(store) -> list[int]:
    return [one.sequence for one in store.entries(1)]


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(store) -> None:
    for _ in range(20):
        store.write([LARGE])


def test_a_full_disk_is_a_fault_that_ends_when_there_is_room_again(tmp_path):
    with small_disk(tmp_path / "disk"):
        store = open_store(f"sqlite://{tmp_path}/disk/audit.db", signer=FixedSigner())
        store.write([event()])
        with pytest.raises(StoreUnavailable, match="full"):
            fill(store)
        before = numbers(store)  # reads still work
        with pytest.raises(StoreUnavailable, match="full"):
            store.check()
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path / "disk")], check=True)
        store.check()
        store.write([LARGE])
        assert numbers(store) == [*before, before[-1] + 1]
        store.close()


def test_a_store_that_is_read_only_is_a_fault_and_is_still_read(store):
    store.write([event()])
    store._connection.pragma("query_only", 1)
    for use in (store.check, lambda: store.write([event()])):
        with pytest.raises(StoreUnavailable, match="read-only"):
            use()
    assert numbers(store) == [1]
    store._connection.pragma("query_only", 0)
    store.check()
    store.write([event()])
    assert numbers(store) == [1, 2]


def test_a_lock_is_waited_for_in_a_bounded_time_and_the_store_recovers(path, store, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    store._connection.set_busy_timeout(50)
    store.write([event()])
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.write([event()])
    assert numbers(store) == [1]
    other.execute("ROLLBACK")
    store.check()
    store.write([event()])
    assert numbers(store) == [1, 2]
    other.close()


def test_a_lock_that_is_soon_given_up_is_no_fault(path, store):
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, lambda: other.execute("ROLLBACK"))
    timer.start()
    store.write([event()])
    timer.join()
    other.close()
    assert numbers(store) == [1]


class FailingFile(apsw.VFSFile):
    """A file whose writes or syncs fail while they are to."""

    faults: frozenset[str] = frozenset()

    def xWrite(self, data, offset):  # noqa: N802  # SQLite's name
        if "write" in FailingFile.faults:
            raise apsw.IOError("a write failed")
        return super().xWrite(data, offset)

    def xSync(self, flags):  # noqa: N802
        if "sync" in FailingFile.faults:
            raise apsw.IOError("a sync failed")
        return super().xSync(flags)


class FailingDisk(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("failing", "")

    def xOpen(self, name, flags):  # noqa: N802
        return FailingFile("", name, flags)


@pytest.mark.parametrize("fault", ["write", "sync"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_of_the_disk_is_a_fault_and_no_record_is_lost_or_doubled(path, store, fault):
    disk = FailingDisk()
    store.write([event()])
    store._connection.close()
    store._connection = apsw.Connection(str(path), vfs="failing")
    sqlite_file._prepare(store._connection)
    store.write([event()])
    FailingFile.faults = frozenset({fault})
    request_id, write = kept(["no", "yes"])
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="disk reports an error"):
            store.write([write])
    assert numbers(store) == [1, 2]
    FailingFile.faults = frozenset()
    store.check()
    store.write([write])
    assert numbers(store) == [1, 2, 3]
    assert store.linked(request_id).sequence == 3
    store._connection.close()
    disk.unregister()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_was_removed_or_replaced_takes_no_more_records(path, store, is_replaced):
    store.write([event()])
    path.rename(path.with_name("moved.db"))
    if is_replaced:
        path.touch()
    for use in (store.check, lambda: store.write([event()])):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            use()


def test_a_connection_is_not_used_behind_a_fork(store, monkeypatch):
    store.write([event()])
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="fork"):
        store.write([event()])


@pytest.mark.parametrize("table", ["predictions", "outcomes", "events", "contexts", "documents", "streams", "anchors"])
def test_the_record_is_append_only(path, store, table):
    request_id, write = kept(["no", "yes"])
    store.write([replace(write, events=event().events), Write(outcomes=[outcome(request_id)])])
    head = store.head()
    other = apsw.Connection(str(path))
    if table == "anchors":
        values = (head.stream, head.sequence, head.name, head.link, 1, KEY_ID, b"")
        other.execute("INSERT INTO anchors VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    column = other.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()[0][0]
    for query in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            other.execute(query)
    other.close()


def test_after_an_erasure_no_file_holds_a_key_or_a_text_of_the_subject(path, store):
    ids, secrets = [], []
    for number in range(300):
        request_id, write = kept(["no", "yes"])
        subject = (number % 100).to_bytes(16, "big")
        key, text = os.urandom(60), os.urandom(200 if number % 3 else 9000)
        sealed = Sealed(request_id, 0, "subject", subject, KEY_ID, text)
        store.write([replace(write, sealed=[sealed], subject_keys=[SubjectKey(request_id, subject, KEY_ID, key)])])
        ids.append(request_id)
        secrets.append((subject, key, text))
    erased = [number.to_bytes(16, "big") for number in range(0, 100, 9)]
    for subject in erased:
        assert store.erase(subject, Event(1, "erased", "{}"))
    found = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert [one for one in secrets if one[0] in erased and (one[1] in found or one[2][:64] in found)] == []
    assert all(key in found for subject, key, _ in secrets if subject not in erased)


def test_an_erasure_whose_traces_a_reader_holds_says_so_and_is_finished_later(path, store):
    request_id, write = kept(["no", "yes"])
    key = SubjectKey(request_id, b"s" * 16, KEY_ID, b"wrapped key")
    store.write([replace(write, subject_keys=[key])])
    store._connection.set_busy_timeout(50)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM predictions").fetchall()
    with pytest.raises(StoreUnavailable, match="erase again"):
        store.erase(b"s" * 16, Event(1, "erased", "{}"))
    reader.execute("ROLLBACK")
    store.erase(b"s" * 16, Event(1, "erased", "{}"))
    assert b"wrapped key" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    reader.close()


WRITER = """
import sys
from service.store.engine import open_store
from tests.store.kept import FixedSigner, kept
store = open_store(sys.argv[1], signer=FixedSigner())
while True:
    made = [kept(["no", "yes"]) for _ in range(3)]
    store.write([write for _, write in made])
    print(*[request_id for request_id, _ in made], flush=True)
"""


@pytest.mark.parametrize("rounds", [2, pytest.param(60, marks=pytest.mark.long)])
def test_processes_that_are_killed_lose_nothing_they_confirmed(path, rounds):
    url = f"sqlite://{path}"
    confirmed: list[str] = []
    for _ in range(rounds):
        command = [sys.executable, "-c", WRITER, url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            confirmed += process.stdout.readline().split()
        for process in processes:
            process.kill()
            written, _ = process.communicate()
            *lines, _ = written.split("\n")  # the last one may be cut off
            confirmed += [request_id for line in lines for request_id in line.split()]
    store = open_store(url)
    assert set(confirmed) == set(store.predictions_of(confirmed))
    assert [[one.sequence for one in store.entries(stream.number)] for stream in store.streams()] == [
        list(range(1, 1 + len(list(store.entries(stream.number))))) for stream in store.streams()
    ]
    store.close()
