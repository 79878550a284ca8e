"""The file of keys: read strictly, written whole, by one writer at a time."""

import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access.key_file import LARGEST, KeyFile
from service.access.keys import ApiKey, KeyOptions, new_key
from service.errors import KeysInvalid

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def made(name: str = "ehr") -> ApiKey:
    return new_key(name, KeyOptions(scopes=("predict",)), now=NOW)[0]


@pytest.fixture
def store(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "keys.json")


def test_without_a_file_there_are_no_keys_and_nothing_is_made(store: KeyFile) -> None:
    assert store.revision() is None
    assert store.read() == ()
    assert not store.path.parent.exists()


def test_that_there_is_no_file_is_seen_though_no_descriptor_is_left(store: KeyFile) -> None:
    """Else whoever opens many connections to a service that is open would close it for everyone."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert store.revision() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_added_is_read_again_in_order(store: KeyFile) -> None:
    keys = tuple(made(name) for name in ("ehr", "ehr", "lab"))
    for key in keys:
        store.add(key)
    assert store.read() == keys


def test_file_and_folder_are_their_owners_alone(store: KeyFile) -> None:
    store.add(made())
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in store.path.parent.iterdir()] == ["keys.json"]


def test_a_file_that_others_may_read_keeps_its_mode(store: KeyFile) -> None:
    store.add(made())
    store.path.chmod(0o644)
    store.add(made())
    assert store.path.stat().st_mode & 0o777 == 0o644


def test_every_change_changes_the_revision(store: KeyFile) -> None:
    revisions = [store.revision()]
    key = made()
    store.add(key)
    revisions.append(store.revision())
    store.revoke(key.id, now=NOW)
    revisions.append(store.revision())
    assert len(set(revisions)) == 3


def test_an_id_revokes_one_key_and_a_name_all_of_its_keys(store: KeyFile) -> None:
    first, second, other = made(), made(), made("lab")
    for key in (first, second, other):
        store.add(key)
    assert [key.id for key in store.revoke(first.id, now=NOW)] == [first.id]
    assert [key.id for key in store.revoke("ehr", now=NOW)] == [second.id]
    assert [key.state(NOW) for key in store.read()] == ["revoked", "revoked", "active"]


def test_what_cannot_be_revoked_is_refused_and_changes_nothing(store: KeyFile) -> None:
    key = made()
    store.add(key)
    store.revoke(key.id, now=NOW)
    before = store.revision()
    for name in (key.id, "ehr", "nothing"):
        with pytest.raises(KeysInvalid, match="no key of that id or name"):
            store.revoke(name, now=NOW)
    assert store.revision() == before


def document(**changes: object) -> str:
    return json.dumps({"schema": 1, "keys": [{**json.loads(made().model_dump_json()), **changes}]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"schema": 2, "keys": []}',
        '{"schema": 1}',
        '{"keys": []}',
        '{"schema": 1, "keys": [], "more": 1}',
        '{"schema": 1, "keys": [], "keys": []}',
        document(more=1),
        document(scopes=["everything"]),
        document(scopes="predict"),
        document(expires="soon"),
        document(sha256="zq7canary"),
        document(name="../zq7canary"),
        document(requests_per_minute="60"),
        "\udcff",
    ],
)
def test_a_file_that_is_damaged_is_refused_by_its_name_and_without_its_content(store: KeyFile, text: str) -> None:
    store.add(made())
    store.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(KeysInvalid) as refused:
        store.read()
    assert str(store.path) in str(refused.value)
    assert "zq7canary" not in str(refused.value)


def test_two_keys_of_one_id_are_refused(store: KeyFile) -> None:
    key = made()
    store.add(key)
    store.path.write_bytes((store.revision() or b"").replace(b'"keys": [', b'"keys": [' + as_json(key) + b","))
    with pytest.raises(KeysInvalid, match="two keys of one id"):
        store.read()


def as_json(key: ApiKey) -> bytes:
    return key.model_dump_json().encode()


def test_a_file_too_large_to_be_one_is_not_read_to_its_end(store: KeyFile) -> None:
    store.path.parent.mkdir()
    with store.path.open("wb") as file:
        file.truncate(LARGEST * 100)
    with pytest.raises(KeysInvalid, match="larger than 4 MiB"):
        store.read()


def test_a_damaged_file_is_never_written_over(store: KeyFile) -> None:
    store.add(made())
    store.path.write_text("damaged")
    with pytest.raises(KeysInvalid):
        store.add(made())
    assert store.path.read_text() == "damaged"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_the_file_is_refused(make: Callable[[Path], None], store: KeyFile) -> None:
    store.path.parent.mkdir()
    make(store.path)
    with pytest.raises(KeysInvalid, match="is no regular file"):
        store.read()


def test_a_place_that_cannot_be_written_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeysInvalid, match="cannot be written: "):
        KeyFile(tmp_path / "file" / "keys.json").add(made())


def test_a_secret_that_kubernetes_mounts_is_read_and_followed(tmp_path: Path) -> None:
    # As kubelet does it: keys.json -> ..data/keys.json, ..data -> a folder of the time, swapped by a rename.
    source = KeyFile(tmp_path / "source.json")
    mount = tmp_path / "mount"
    for day in ("..monday", "..tuesday"):
        source.add(made())
        (mount / day).mkdir(parents=True)
        (mount / day / "keys.json").write_bytes(source.revision() or b"")
    (mount / "..data").symlink_to("..monday")
    (mount / "keys.json").symlink_to("..data/keys.json")
    mounted = KeyFile(mount / "keys.json")
    assert len(mounted.read()) == 1
    (mount / "..data_tmp").symlink_to("..tuesday")
    (mount / "..data_tmp").replace(mount / "..data")
    assert len(mounted.read()) == 2


def test_a_link_is_written_through(store: KeyFile, tmp_path: Path) -> None:
    store.add(made())
    (tmp_path / "link.json").symlink_to(store.path)
    KeyFile(tmp_path / "link.json").add(made())
    assert (tmp_path / "link.json").is_symlink()
    assert len(store.read()) == 2


def _add_ten(path: str) -> None:
    for _ in range(10):
        KeyFile(Path(path)).add(made(f"p{os.getpid()}"))


def test_no_key_is_lost_when_several_writers_add_at_once(store: KeyFile) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add_ten, args=(str(store.path),)) for _ in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        store.read()  # never half a file
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(store.read()) == 40
