"""Keys of an issuer: when they are read, which may be used, and what happens where they cannot be read."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from jwt import PyJWK

from service.access.access_errors import IssuerUnavailable
from service.access.jwks import (
    KINDS,
    MOST_AGE,
    MOST_BYTES,
    MOST_KEYS,
    PAUSE_SECONDS,
    STALE_SECONDS,
    USUAL_AGE,
    Jwks,
    read_keys,
)
from tests.manual_clock import Clock
from tests.token_issuer import Issuer, public_jwk


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> Jwks:
    return Jwks(f"{issuer.address}/jwks", ["RS256", "ES256"], clock=clock)


async def test_keys_are_read_once_for_all_requests(issuer: Issuer, keys: Jwks) -> None:
    found = await asyncio.gather(*(keys.key("rsa", "RS256") for _ in range(50)), keys.key("p256", "ES256"))
    assert all(isinstance(key, PyJWK) for key in found)
    assert issuer.paths == ["/jwks"]


async def test_a_caller_that_disconnects_ends_no_look_that_others_wait_for(issuer: Issuer, keys: Jwks) -> None:
    issuer.may_answer.clear()
    first, second = (asyncio.ensure_future(keys.key("rsa", "RS256")) for _ in range(2))
    assert await asyncio.to_thread(issuer.was_reached.wait, 30)
    first.cancel()
    issuer.may_answer.set()
    assert await second is not None
    assert len(issuer.paths) == 1


async def test_unknown_ids_cause_one_look_in_a_while(issuer: Issuer, keys: Jwks, clock: Clock) -> None:
    await keys.key("rsa", "RS256")
    for i in range(100):
        assert await keys.key(f"unknown-{i}", "RS256") is None
    assert len(issuer.paths) == 1
    clock.now += PAUSE_SECONDS
    await asyncio.gather(*(keys.key(f"unknown-{i}", "RS256") for i in range(100)))
    assert len(issuer.paths) == 2


async def test_a_new_key_is_found_before_the_old_ones_are_due(issuer: Issuer, keys: Jwks, clock: Clock) -> None:
    await keys.key("rsa", "RS256")
    issuer.keys.append(public_jwk("other", kid="new"))
    clock.now += PAUSE_SECONDS
    assert await keys.key("new", "RS256") is not None


@pytest.mark.parametrize(
    ("header", "age"),
    [
        ("", USUAL_AGE),
        ("public, max-age=120", 120),
        ("max-age=1", 60),
        ("no-store", 60),
        ("no-cache, max-age=0", 60),
        ("max-age=99999999", MOST_AGE),
        ("max-age=99999999999999999999", MOST_AGE),
        ("s-max-age=5", USUAL_AGE),
        ("max-age=x", USUAL_AGE),
    ],
)
async def test_keys_are_used_as_long_as_the_issuer_says_within_bounds(
    header: str, age: float, issuer: Issuer, keys: Jwks, clock: Clock
) -> None:
    issuer.headers["Cache-Control"] = header
    await keys.key("rsa", "RS256")
    issuer.keys = []
    clock.now += age - 1
    assert await keys.key("rsa", "RS256") is not None
    clock.now += 1
    assert await keys.key("rsa", "RS256") is None


def failures() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "an error", {"status": 500}
    yield "not found", {"status": 404}
    yield "a redirect", {"status": 302, "headers": {"Location": "/jwks"}}
    yield "no JSON", {"body": b"<html>"}
    yield "no object", {"body": b"[]"}
    yield "no list", {"body": b'{"keys": {}}'}
    yield "a key twice", {"body": b'{"keys": [], "keys": []}'}
    yield "too long", {"body": b" " * (MOST_BYTES + 1) + b'{"keys": []}'}
    yield "too many", {"body": json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode()}
    yield "cut off", {"headers": {"Content-Length": "100000"}}
    yield "compressed", {"body": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}


FAILURES = dict(failures())


@pytest.mark.parametrize("name", FAILURES)
async def test_old_keys_are_used_while_no_new_ones_can_be_read(
    name: str, issuer: Issuer, keys: Jwks, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await keys.key("rsa", "RS256")
    for member, value in FAILURES[name].items():
        setattr(issuer, member, value)
    clock.now += USUAL_AGE
    with caplog.at_level(logging.WARNING, logger="temperance"):
        assert await keys.key("rsa", "RS256") is not None
        assert await keys.key("rsa", "RS256") is not None
    assert len(issuer.paths) == 2
    assert len(caplog.records) == 1
    clock.now += STALE_SECONDS
    with pytest.raises(IssuerUnavailable):
        await keys.key("rsa", "RS256")


async def test_an_issuer_that_does_not_answer_again_delays_no_request(issuer: Issuer, keys: Jwks, clock: Clock) -> None:
    await keys.key("rsa", "RS256")
    issuer.status = 500
    clock.now += USUAL_AGE
    assert await keys.key("rsa", "RS256") is not None
    issuer.may_answer.clear()
    issuer.was_reached.clear()
    clock.now += PAUSE_SECONDS
    async with asyncio.timeout(3):
        assert await keys.key("rsa", "RS256") is not None
    assert await asyncio.to_thread(issuer.was_reached.wait, 30)
    issuer.may_answer.set()


async def test_an_issuer_that_recovers_is_read_again(issuer: Issuer, keys: Jwks, clock: Clock) -> None:
    issuer.status = 500
    with pytest.raises(IssuerUnavailable):
        await keys.key("rsa", "RS256")
    issuer.status = 200
    with pytest.raises(IssuerUnavailable):
        await keys.key("rsa", "RS256")
    clock.now += PAUSE_SECONDS
    assert await keys.key("rsa", "RS256") is not None


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "AAAA", "kid": "a"},
        public_jwk("rsa", use="enc"),
        public_jwk("rsa", key_ops=["encrypt"]),
        public_jwk("rsa", key_ops="verify"),
        public_jwk("rsa", alg="RS512"),
        public_jwk("rsa", alg="HS256"),
        public_jwk("rsa", kid=""),
        public_jwk("rsa", kid=7),
        public_jwk("rsa", n="AQ", e=7),
        public_jwk("p384"),
        public_jwk("p256", x="AAAA"),
        public_jwk("ed25519"),
        {"kty": "RSA", "kid": "a"},
        {"kty": ["RSA"], "kid": "a"},
        {"kty": "EC", "crv": {"a": 1}, "kid": "a"},
        {"kid": "a"},
        "rsa",
        None,
    ],
)
def test_a_key_of_another_kind_is_left_out(entry: Any) -> None:
    body = json.dumps({"keys": [entry, public_jwk("p256")]}).encode()
    assert set(read_keys(body, ["RS256", "ES256"])) == {("p256", "ES256")}


def test_of_two_keys_with_one_id_the_one_that_fits_the_algorithm_is_used() -> None:
    body = json.dumps({"keys": [public_jwk("p256", kid="a"), public_jwk("rsa", kid="a")]}).encode()
    assert set(read_keys(body, ["RS256", "ES256"])) == {("a", "RS256"), ("a", "ES256")}


def test_no_symmetric_algorithm_has_a_kind_of_key() -> None:
    assert not [name for name in KINDS if name.startswith("HS") or name == "none"]
