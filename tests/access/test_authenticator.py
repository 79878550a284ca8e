"""Who sends a request: every kind of credential, and none."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access.authenticator import Authenticator
from service.access.caller import ANONYMOUS, Caller
from service.access.certificates import Certificates
from service.access.key_file import KeyFile
from service.access.keys import KeyOptions, new_key
from service.access.watched_keys import WatchedKeys
from service.errors import Unauthenticated

PARTNER = Caller("jwt:https://issuer.example|42", frozenset({"predict"}))
BY_CERTIFICATE = Certificates(frozenset({"predict"}))


class TokensOfOnePartner:
    """Stands in for the check of tokens."""

    async def caller(self, token: bytes) -> Caller:
        if token != b"a.b.c":
            raise Unauthenticated("no such token")
        return PARTNER


@pytest.fixture
def store(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def key(store: KeyFile) -> bytes:
    stored, text = new_key("ehr", KeyOptions(scopes=("predict",)), now=datetime.now(UTC))
    store.add(stored)
    return text.encode()


def watched(store: KeyFile) -> WatchedKeys:
    return WatchedKeys(store, time.time)


async def test_without_any_credential_configured_everyone_may_do_everything(store: KeyFile) -> None:
    authenticator = Authenticator(watched(store))
    assert authenticator.is_open()
    assert await authenticator.caller(None) is ANONYMOUS
    assert await authenticator.caller(b"Bearer of-another-service") is ANONYMOUS


async def test_the_first_key_closes_a_service_that_was_open(store: KeyFile) -> None:
    keys = watched(store)
    authenticator = Authenticator(keys)
    stored, text = new_key("ehr", KeyOptions(scopes=("predict",)), now=datetime.now(UTC))
    store.add(stored)
    keys.poll()
    assert not authenticator.is_open()
    assert (await authenticator.caller(b"Bearer " + text.encode())).name == "key:ehr"
    with pytest.raises(Unauthenticated):
        await authenticator.caller(None)


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
async def test_a_key_is_its_caller(scheme: bytes, store: KeyFile, key: bytes) -> None:
    assert (await Authenticator(watched(store)).caller(scheme + key)).name == "key:ehr"


@pytest.mark.parametrize(
    "authorization", [None, b"", b"Bearer", b"Bearer ", b"Basic dXNlcjpwYXNz", b"Token {}", b"{}", b"Bearer a.b.c"]
)
async def test_anything_else_is_refused_where_there_are_keys_alone(
    authorization: bytes | None, store: KeyFile, key: bytes
) -> None:
    sent = None if authorization is None else authorization.replace(b"{}", key)
    with pytest.raises(Unauthenticated):
        await Authenticator(watched(store)).caller(sent)


async def test_a_token_is_its_caller_and_an_unknown_one_is_refused(store: KeyFile) -> None:
    authenticator = Authenticator(watched(store), TokensOfOnePartner())
    assert not authenticator.is_open()
    assert await authenticator.caller(b"Bearer a.b.c") is PARTNER
    for sent in (b"Bearer a.b.d", None):
        with pytest.raises(Unauthenticated):
            await authenticator.caller(sent)


@pytest.mark.usefixtures("key")
async def test_a_subject_is_its_caller_only_where_certificates_are_configured(store: KeyFile) -> None:
    assert (await Authenticator(watched(store), None, BY_CERTIFICATE).caller(None, b"CN=ehr")).name == (
        "certificate:CN=ehr"
    )
    with pytest.raises(Unauthenticated):
        await Authenticator(watched(store)).caller(None, b"CN=ehr")


async def test_an_empty_subject_is_none(store: KeyFile) -> None:
    with pytest.raises(Unauthenticated, match="send a credential"):
        await Authenticator(watched(store), None, BY_CERTIFICATE).caller(None, b"")


async def test_a_bad_key_is_not_made_good_by_a_certificate(store: KeyFile, key: bytes) -> None:
    with pytest.raises(Unauthenticated):
        await Authenticator(watched(store), None, BY_CERTIFICATE).caller(b"Bearer " + key[:-1] + b"!", b"CN=ehr")


async def test_a_key_costs_microseconds(store: KeyFile, key: bytes) -> None:
    authenticator, authorization = Authenticator(watched(store)), b"Bearer " + key
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(200):
            await authenticator.caller(authorization)
        best = min(best, (time.perf_counter() - started) / 200)
    assert best < 20e-6
