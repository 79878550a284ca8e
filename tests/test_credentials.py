"""Whose requests are answered, by the settings: starts that are refused, and starts that are not."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.access.key_file import KeyFile
from service.access.key_use import KeyUse
from service.access.keys import KeyOptions, new_key
from service.access.watched_keys import WatchedKeys
from service.credentials import Access, authenticator_of, check_access, following_keys, is_of_this_machine, keys_of
from service.errors import KeysInvalid, SettingsInvalid
from service.settings import Issuer, Settings

ISSUER = Issuer(issuer="https://issuer.example", audience="temperance", jwks_url="https://issuer.example/keys")
BEYOND = "0.0.0.0"  # noqa: S104  # what the start rules are about


def add_key(path: Path, *, expires: datetime | None = None) -> bytes:
    stored, text = new_key("ehr", KeyOptions(scopes=("predict",), expires=expires), now=datetime.now(UTC))
    KeyFile(path).add(stored)
    return text.encode()


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings with a data directory that is not there yet."""

    def make(**fields: object) -> Settings:
        return Settings.model_validate({"data": tmp_path / "data", **fields})

    return make


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"])
def test_loopback_is_of_this_machine(host: str) -> None:
    assert is_of_this_machine(Settings(host=host))


@pytest.mark.parametrize("host", [BEYOND, "::", "10.0.0.8", "::ffff:10.0.0.8", "fe80::1", "example.org", "127.1"])
def test_any_other_address_and_every_other_name_is_not(host: str) -> None:
    assert not is_of_this_machine(Settings(host=host))


def test_a_socket_is_of_this_machine_whatever_the_host(tmp_path: Path) -> None:
    assert is_of_this_machine(Settings(host=BEYOND, uds=tmp_path / "socket"))


@pytest.mark.parametrize("host", [BEYOND, "::", "10.0.0.8", "example.org"])
def test_a_start_that_would_be_open_to_other_machines_is_refused_with_every_way_out(
    host: str, settings: Callable[..., Settings]
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        check_access(settings(host=host))
    message = str(refused.value)
    assert message.startswith(host)
    assert all(way in message for way in ("temperance keys create", "TEMPERANCE_JWT_ISSUERS", "--insecure"))


@pytest.mark.parametrize("more", [{"insecure": True}, {"jwt_issuers": (ISSUER,)}, {"uds": "socket"}])
def test_each_way_out_lets_it_start(more: dict[str, object], settings: Callable[..., Settings]) -> None:
    check_access(settings(host=BEYOND, **more))


def test_a_key_lets_it_start(settings: Callable[..., Settings]) -> None:
    chosen = settings(host=BEYOND)
    add_key(chosen.data / "keys.json")
    check_access(chosen)


def test_a_certificates_header_lets_it_start_where_a_proxy_may_send_it(settings: Callable[..., Settings]) -> None:
    check_access(settings(host=BEYOND, client_certificate_header="X-Subject", proxies=("10.0.0.1",)))
    with pytest.raises(SettingsInvalid, match="TEMPERANCE_PROXIES must name"):
        check_access(settings(host=BEYOND, client_certificate_header="X-Subject"))


def test_a_scope_of_certificates_that_does_not_exist_is_refused(settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsInvalid, match="there are the scopes predict, evaluate"):
        check_access(settings(client_certificate_scopes=("predikt",)))


def test_a_key_file_that_is_named_and_not_there_is_refused_on_loopback_too(settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsInvalid, match="TEMPERANCE_KEYS: there is no file"):
        check_access(settings(keys="nowhere.json"))


@pytest.mark.parametrize("insecure", [False, True])
def test_a_damaged_key_file_is_refused_even_where_everyone_might_come_in(
    settings: Callable[..., Settings], *, insecure: bool
) -> None:
    chosen = settings(insecure=insecure)
    chosen.data.mkdir()
    (chosen.data / "keys.json").write_text("{")
    with pytest.raises(KeysInvalid, match=r"keys\.json is no file of keys"):
        check_access(chosen)


def test_without_a_usable_key_only_a_start_on_loopback_waits_for_one(settings: Callable[..., Settings]) -> None:
    add_key(settings().data / "keys.json", expires=datetime.now(UTC) - timedelta(days=1))
    assert "every request is refused" in check_access(settings()).sentence
    with pytest.raises(SettingsInvalid, match="is usable, so no request could be answered"):
        check_access(settings(host=BEYOND))


def test_a_start_says_whether_it_is_open(settings: Callable[..., Settings]) -> None:
    assert check_access(settings()) == Access(
        logging.INFO, "no credential is configured: open to everyone on this machine"
    )
    assert check_access(settings(host=BEYOND, insecure=True)) == Access(
        logging.WARNING, "no credential is configured: open to everyone who reaches the port (--insecure)"
    )
    add_key(settings().data / "keys.json")
    closed = check_access(settings(host=BEYOND, jwt_issuers=(ISSUER,)))
    assert closed == Access(logging.INFO, "credentials are needed: 1 key, 1 issuer")


def test_insecure_opens_nothing_where_there_are_keys(settings: Callable[..., Settings]) -> None:
    chosen = settings(insecure=True)
    add_key(chosen.data / "keys.json")
    assert not authenticator_of(chosen, keys_of(chosen)).is_open()


def test_a_check_of_access_writes_nothing(settings: Callable[..., Settings]) -> None:
    check_access(settings())
    assert not settings().data.exists()


async def test_changes_are_followed_and_uses_written_at_the_end(settings: Callable[..., Settings]) -> None:
    chosen = settings()
    keys, use = keys_of(chosen), KeyUse(chosen.data)
    async with following_keys(keys, use, seconds=0.01):
        key = add_key(chosen.data / "keys.json")
        async with asyncio.timeout(30):
            while not keys.are_needed():  # noqa: ASYNC110  # the keys have no event for a test
                await asyncio.sleep(0.01)
        keys.caller(key)
    assert list(use.read()) == [key[4:16].decode()]


class FailsOnce(KeyFile):
    """A store that cannot be looked at once, for a reason that is no fault of its file."""

    looks = 0

    def revision(self) -> bytes | None:
        """As the file's, but for the second look."""
        self.looks += 1
        if self.looks == 2:
            raise RuntimeError("can't start new thread")
        return super().revision()


async def test_a_look_that_fails_does_not_end_those_after_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else keys that are revoked would stay in force for as long as the process lives."""
    keys = WatchedKeys(FailsOnce(tmp_path / "keys.json"), lambda: 0.0)
    async with following_keys(keys, KeyUse(tmp_path), seconds=0.01):
        add_key(tmp_path / "keys.json")
        async with asyncio.timeout(30):
            while not keys.are_needed():  # noqa: ASYNC110  # the keys have no event for a test
                await asyncio.sleep(0.01)
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "the keys could not be looked at; those of before stay in force until the next look"
    ]
