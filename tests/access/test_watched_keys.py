"""Keys of a running service: they follow their store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.access.key_file import KeyFile
from service.access.keys import KeyOptions, new_key
from service.access.watched_keys import WatchedKeys
from service.errors import TokenExpired, Unauthenticated
from service.telemetry import Telemetry
from tests.manual_clock import Clock

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW.timestamp())


@pytest.fixture
def store(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def add(store: KeyFile, *, hours: int = 24) -> tuple[str, bytes]:
    options = KeyOptions(scopes=("predict",), expires=NOW + timedelta(hours=hours))
    stored, text = new_key("ehr", options, now=NOW)
    store.add(stored)
    return stored.id, text.encode()


def test_keys_are_needed_from_the_first_that_is_made(store: KeyFile, clock: Clock) -> None:
    keys = WatchedKeys(store, clock)
    assert not keys.are_needed()
    assert not keys.poll()
    _, key = add(store)
    assert keys.poll()
    assert keys.are_needed()
    assert keys.caller(key).name == "key:ehr"


def test_keys_can_be_needed_although_there_are_none(store: KeyFile, clock: Clock) -> None:
    keys = WatchedKeys(store, clock, are_needed=True)
    assert keys.are_needed()
    assert keys.usable() == 0


def test_a_poll_without_a_change_does_nothing(store: KeyFile, clock: Clock) -> None:
    add(store)
    assert not WatchedKeys(store, clock).poll()


def test_a_rotation_never_leaves_a_moment_without_a_key(store: KeyFile, clock: Clock) -> None:
    old_id, old = add(store)
    keys = WatchedKeys(store, clock)
    _, new = add(store)
    keys.poll()
    assert keys.caller(old).name == keys.caller(new).name
    store.revoke(old_id, now=NOW)
    keys.poll()
    assert keys.caller(new).name == "key:ehr"
    with pytest.raises(Unauthenticated):
        keys.caller(old)


def test_a_key_expires_without_any_change_of_its_file(store: KeyFile, clock: Clock) -> None:
    _, key = add(store, hours=1)
    keys = WatchedKeys(store, clock)
    assert keys.usable() == 1
    clock.now += 3600
    assert keys.usable() == 0
    with pytest.raises(TokenExpired):
        keys.caller(key)


@pytest.mark.parametrize("damage", ["half", "gone", "folder"])
def test_a_damaged_or_missing_file_leaves_the_keys_of_before_in_force_and_is_logged_once(
    damage: str, store: KeyFile, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _, key = add(store)
    keys = WatchedKeys(store, clock)
    whole = store.revision() or b""
    store.path.unlink()
    if damage == "half":
        store.path.write_bytes(whole[: len(whole) // 2])
    elif damage == "folder":
        store.path.mkdir()
    for _ in range(3):
        assert not keys.poll()
    assert keys.caller(key).name == "key:ehr"
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "the keys of before stay in force" in record.getMessage()


def test_changes_are_counted_by_their_result(store: KeyFile, clock: Clock) -> None:
    telemetry = Telemetry(CollectorRegistry())
    add(store)
    keys = WatchedKeys(store, clock, telemetry=telemetry)
    add(store)
    keys.poll()
    store.path.write_text("{")
    keys.poll()
    keys.poll()
    counted = {
        result: telemetry.registry.get_sample_value("temperance_key_reloads_total", {"result": result})
        for result in ("ok", "refused")
    }
    assert counted == {"ok": 1, "refused": 1}


def test_what_was_damaged_is_taken_over_once_it_is_whole_again(store: KeyFile, clock: Clock) -> None:
    key_id, key = add(store)
    keys = WatchedKeys(store, clock)
    whole = store.revision() or b""
    store.path.write_bytes(b"{")
    keys.poll()
    store.path.write_bytes(whole)
    store.revoke(key_id, now=NOW)
    assert keys.poll()
    with pytest.raises(Unauthenticated):
        keys.caller(key)


def test_a_file_that_is_damaged_from_the_start_lets_no_request_through(store: KeyFile, clock: Clock) -> None:
    store.path.write_text("{")
    keys = WatchedKeys(store, clock)
    assert keys.are_needed()
    assert keys.usable() == 0


def test_the_last_use_of_a_key_is_remembered_until_it_is_taken(store: KeyFile, clock: Clock) -> None:
    key_id, key = add(store)
    keys = WatchedKeys(store, clock)
    keys.caller(key)
    clock.now += 5
    keys.caller(key)
    with pytest.raises(Unauthenticated):
        keys.caller(key[:-1])
    assert keys.take_used() == {key_id: NOW.timestamp() + 5}
    assert keys.take_used() == {}
