"""Keys of a running server: whatever `temperance keys` does takes effect within seconds, without a restart."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.key_file import KeyFile
from service.access.key_use import KeyUse
from service.access.keys import ApiKey, KeyOptions, new_key
from tests.shipped_model import SHIPPED

MODELS = "/v1/models"
SECONDS = 6.0
"""In which every worker follows a change: it looks once a second, and a machine may be slow and busy."""


class Data:
    """A data directory, and the keys that are made in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = KeyFile(folder / "keys.json")

    def make(self, *, seconds: float = 3600.0) -> tuple[ApiKey, dict[str, str]]:
        """A key, and the header that carries it."""
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        stored, text = new_key("ehr", KeyOptions(scopes=("predict",), expires=expires), now=datetime.now(UTC))
        self.store.add(stored)
        return stored, {"Authorization": f"Bearer {text}"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("access") / "data")


@pytest.fixture(scope="module")
def server(data: Data, serving: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """Two workers that other machines can reach, as the service has a key."""
    data.make()
    models = SHIPPED
    with serving(models, "--host", "0.0.0.0", "--workers", "2", TEMPERANCE_DATA=str(data.folder)) as running:  # noqa: S104
        yield running


def statuses(server: Any, headers: dict[str, str], count: int = 12) -> set[int]:
    """Of requests on connections of their own, which the kernel deals out to both workers."""
    with httpx.Client(base_url=server.client.base_url, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        return {client.get(MODELS, headers=headers, timeout=30).status_code for _ in range(count)}


def seconds_until(server: Any, headers: dict[str, str], status: int) -> float:
    """How long it takes until every worker answers with a status."""
    began = time.monotonic()
    while statuses(server, headers) != {status}:
        assert time.monotonic() - began < 30, "it never came to be"
    return time.monotonic() - began


def test_without_a_key_only_health_is_answered(server: Any) -> None:
    assert statuses(server, {}) == {401}
    assert server.client.get("/readyz").status_code == 200
    assert "credentials are needed: 1 key" in server.log.read_text()


def test_a_new_key_is_accepted_a_revoked_one_refused_and_one_that_expires_too_within_seconds(
    server: Any, data: Data
) -> None:
    stored, header = data.make()
    assert seconds_until(server, header, 200) < SECONDS
    _, brief = data.make(seconds=4.0)
    assert seconds_until(server, brief, 200) < SECONDS
    data.store.revoke(stored.id, now=datetime.now(UTC))
    assert seconds_until(server, header, 401) < SECONDS
    assert seconds_until(server, brief, 401) < 2 * SECONDS
    expired, revoked = (server.client.get(MODELS, headers=sent).json() for sent in (brief, header))
    assert expired["type"] == "urn:temperance:problem:token-expired"
    assert revoked["type"] == "urn:temperance:problem:unauthenticated"


def test_thousands_of_requests_during_a_rotation_never_fail(server: Any, data: Data) -> None:
    old, first = data.make()
    seconds_until(server, first, 200)
    current, stop = [first], threading.Event()
    sent: list[list[int]] = [[] for _ in range(4)]

    def call(mine: list[int]) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=30) as client:
            while not stop.is_set():
                mine.append(client.get(MODELS, headers=current[0]).status_code)

    callers = [threading.Thread(target=call, args=[mine]) for mine in sent]
    for caller in callers:
        caller.start()
    try:
        _, second = data.make()
        seconds_until(server, second, 200)
        current[0] = second
        already = [len(mine) for mine in sent]
        while any(len(mine) < before + 2 for mine, before in zip(sent, already, strict=True)):
            time.sleep(0.01)  # one of each caller may be under way with the old key
        data.store.revoke(old.id, now=datetime.now(UTC))
        seconds_until(server, first, 401)
        while sum(map(len, sent)) < 2000:
            time.sleep(0.01)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert {status for mine in sent for status in mine} == {200}


def test_a_damaged_file_changes_nothing_and_is_logged(server: Any, data: Data) -> None:
    _, header = data.make()
    seconds_until(server, header, 200)
    whole = data.store.revision() or b""
    data.store.path.write_bytes(whole[:100])
    began = time.monotonic()
    while server.log.read_text().count("the keys of before stay in force") < 2:  # once in each worker
        assert time.monotonic() - began < 30
    assert statuses(server, header) == {200}
    assert statuses(server, {}) == {401}
    data.store.path.write_bytes(whole)


def test_neither_a_key_nor_a_hash_nor_a_mistyped_key_is_logged(server: Any, data: Data) -> None:
    _, header = data.make()
    statuses(server, {"Authorization": header["Authorization"][:-1]})
    log = server.log.read_text()
    assert header["Authorization"].split("_")[2] not in log
    assert not any(key.sha256 in log for key in data.store.read())


def test_a_server_that_was_open_needs_a_key_once_there_is_one_and_records_its_use(
    serving: Callable[..., AbstractContextManager[Any]], tmp_path: Path
) -> None:
    data = Data(tmp_path / "data")
    models = SHIPPED
    with serving(models, TEMPERANCE_DATA=str(data.folder)) as running:
        assert statuses(running, {}, 1) == {200}
        assert "open to everyone on this machine" in running.log.read_text()
        assert not data.store.path.exists()
        stored, header = data.make()
        assert seconds_until(running, {}, 401) < SECONDS
        assert statuses(running, header) == {200}
    assert list(KeyUse(data.folder).read()) == [stored.id]
