"""Tokens: which count, and what is made of them. The issuer is a real HTTP server."""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from service.access.access_errors import IssuerUnavailable
from service.access.tokens import MOST_BYTES, MOST_REMEMBERED, REMEMBERED_SECONDS, Tokens
from service.errors import TokenExpired, Unauthenticated
from tests.token_issuer import PRIVATE, Issuer, public_jwk

ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
EVIL = "http://127.0.0.1:9"


def part(document: object) -> bytes:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def unsigned(header: object, claims: object, signature: bytes = b"AA") -> bytes:
    return b".".join((part(header), part(claims), signature))


def by_public_key(issuer: Issuer) -> bytes:
    """Signed by HMAC with the public key as its secret: the confusion of RS256 with HS256."""
    pem = (
        PRIVATE["rsa"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = part({"alg": "HS256", "typ": "JWT", "kid": "rsa"}) + b"." + part(issuer.claims())
    return signed + b"." + part(hmac.digest(pem, signed, hashlib.sha256))


def foreign(issuer: Issuer, **header: Any) -> bytes:
    """Signed with a key that is not the issuer's, under the id of one that is."""
    return issuer.token("other", header={"kid": "rsa", **header})


def changed(issuer: Issuer) -> bytes:
    """Other claims under the signature of a valid token."""
    header, _, signature = issuer.token().split(b".")
    return b".".join((header, part(issuer.claims(scope="admin")), signature))


def named(position: int, issuer: Issuer) -> dict[str, Any]:
    return {"jwk": public_jwk("other")} if position else {"jku": f"{issuer.address}/evil"}


ACCEPTED: dict[str, Callable[[Issuer], bytes]] = {
    "RS256": lambda i: i.token(),
    "PS256": lambda i: i.token(algorithm="PS256"),
    "ES256": lambda i: i.token("p256", "ES256"),
    "ES384": lambda i: i.token("p384", "ES384"),
    "EdDSA": lambda i: i.token("ed25519", "EdDSA"),
    "type at+jwt": lambda i: i.token(header={"typ": "at+jwt"}),
    "one audience of several": lambda i: i.token(aud=["other", "temperance"]),
    "expired within the leeway": lambda i: i.token(exp=time.time() - 20),
    "not before within the leeway": lambda i: i.token(nbf=time.time() + 20),
    "issued within the leeway": lambda i: i.token(iat=time.time() + 20),
    "a header that names other keys, which are not looked at": lambda i: i.token(header=named(0, i)),
}
REFUSED: dict[str, Callable[[Issuer], bytes]] = {
    "nothing": lambda _: b"",
    "no token": lambda _: b"letmein",
    "two parts": lambda i: i.token().rpartition(b".")[0],
    "four parts": lambda i: i.token() + b".AA",
    "no signature": lambda i: i.token().rpartition(b".")[0] + b".",
    "a space": lambda i: i.token() + b" ",
    "a line break": lambda i: i.token().replace(b".", b".\n", 1),
    "too long": lambda i: i.token(more="x" * MOST_BYTES),
    "a header that is no JSON": lambda i: unsigned(b"{", i.claims()),
    "a header that is no object": lambda i: unsigned([], i.claims()),
    "a header with a key twice": lambda i: unsigned(b'{"alg":"RS256","alg":"none","kid":"rsa"}', i.claims()),
    "deep nesting": lambda _: unsigned({"alg": "RS256", "kid": "rsa"}, b"[" * 3000 + b"]" * 3000),
    "claims that are no object": lambda _: unsigned({"alg": "RS256", "kid": "rsa"}, ["iss"]),
    "claims that are no UTF-8": lambda _: unsigned({"alg": "RS256", "kid": "rsa"}, b'{"iss":"\xff"}'),
    "NaN": lambda _: unsigned({"alg": "RS256", "kid": "rsa"}, b'{"exp":NaN}'),
    "algorithm none": lambda i: unsigned({"alg": "none", "kid": "rsa"}, i.claims()),
    "algorithm NONE": lambda i: unsigned({"alg": "NoNe", "kid": "rsa"}, i.claims()),
    "no algorithm": lambda i: unsigned({"kid": "rsa"}, i.claims()),
    "algorithm that is a list": lambda i: unsigned({"alg": ["RS256"], "kid": "rsa"}, i.claims()),
    "HS256 with the public key": by_public_key,
    "an algorithm that is not configured": lambda i: i.token(algorithm="RS512"),
    "an algorithm of another kind of key": lambda i: i.token(header={"kid": "p256"}),
    "another curve": lambda i: i.token("p384", "ES384", header={"kid": "p256"}),
    "no key id": lambda i: i.token(header={"kid": None}),
    "a key id that is a number": lambda i: unsigned({"alg": "RS256", "kid": 7}, i.claims()),
    "a key id that is a path": lambda i: i.token(header={"kid": "../../dev/null"}),
    "an unknown key id": lambda i: i.token(header={"kid": "unknown"}),
    "a short key": lambda i: i.token("weak"),
    "another key": foreign,
    "another key, in the header": lambda i: foreign(i, **named(1, i)),
    "another key, by URL": lambda i: foreign(i, jku=f"{i.address}/evil", x5u=f"{i.address}/evil"),
    "another key, as a certificate": lambda i: foreign(i, x5c=["AAAA"]),
    "changed claims": changed,
    "critical extensions": lambda i: i.token(header={"crit": ["exp"], "exp": 1}),
    "unencoded claims": lambda i: unsigned({"alg": "RS256", "kid": "rsa", "b64": False}, i.claims()),
    "another type": lambda i: i.token(header={"typ": "logout+jwt"}),
    "another issuer": lambda i: i.token(iss=EVIL),
    "no issuer": lambda i: i.token(iss=None),
    "an issuer that is a list": lambda i: unsigned({"alg": "RS256", "kid": "rsa"}, {"iss": [i.address]}),
    "another audience": lambda i: i.token(aud="other"),
    "no audience": lambda i: i.token(aud=None),
    "an empty audience": lambda i: i.token(aud=[]),
    "no end": lambda i: i.token(exp=None),
    "an end that is a text": lambda i: i.token(exp="tomorrow"),
    "no subject": lambda i: i.token(sub=None),
    "an empty subject": lambda i: i.token(sub=""),
    "a subject that is a number": lambda i: unsigned({"alg": "RS256", "kid": "rsa"}, i.claims(sub=7)),
    "a subject with a line break": lambda i: i.token(sub="ward\n7"),
    "a long subject": lambda i: i.token(sub="x" * 256),
    "not before later": lambda i: i.token(nbf=time.time() + 60),
    "issued later": lambda i: i.token(iat=time.time() + 60),
    "bound to a key": lambda i: i.token(cnf={"jkt": "AA"}),
}


@pytest.fixture
def tokens(issuer: Issuer) -> Tokens:
    return Tokens([issuer.entry(*ALL)])


@pytest.mark.parametrize("name", ACCEPTED)
async def test_a_valid_token_names_its_caller(name: str, issuer: Issuer, tokens: Tokens) -> None:
    caller = await tokens.caller(ACCEPTED[name](issuer))
    assert caller.name == f"jwt:{issuer.address}|ward-7"
    assert (caller.scopes, caller.models) == (frozenset({"predict"}), None)
    assert issuer.paths == ["/jwks"]


@pytest.mark.parametrize("name", REFUSED)
async def test_no_other_token_counts_and_the_answer_does_not_say_why(
    name: str, issuer: Issuer, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    token = REFUSED[name](issuer)
    with caplog.at_level(logging.INFO, logger="temperance"), pytest.raises(Unauthenticated) as raised:
        await tokens.caller(token)
    assert (type(raised.value), raised.value.detail) == (Unauthenticated, "the token is not valid here")
    assert set(issuer.paths) <= {"/jwks"}
    assert "a token was refused: " in caplog.text
    assert not token or token.decode() not in caplog.text
    assert "ward" not in caplog.text


async def test_an_expired_token_is_called_so(issuer: Issuer, tokens: Tokens) -> None:
    with pytest.raises(TokenExpired):
        await tokens.caller(issuer.token(exp=time.time() - 40))


async def test_a_forged_token_is_not_called_expired(issuer: Issuer, tokens: Tokens) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await tokens.caller(issuer.token("other", header={"kid": "rsa"}, exp=1))
    assert not isinstance(raised.value, TokenExpired)


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("predict evaluate", {"predict", "evaluate"}),
        ("  predict  predict ", {"predict"}),
        (["admin", "metrics"], {"admin", "metrics"}),
        ("openid profile root", set()),
        (["predict", 7, None, {"admin": True}], {"predict"}),
        ({"predict": True}, set()),
        (7, set()),
        (None, set()),
        ("", set()),
        ("PREDICT", set()),
    ],
)
async def test_known_scopes_of_the_claim_count(claim: Any, scopes: set[str], issuer: Issuer, tokens: Tokens) -> None:
    assert (await tokens.caller(issuer.token(scope=claim))).scopes == scopes


async def test_the_claim_of_scopes_is_a_setting(issuer: Issuer) -> None:
    tokens = Tokens([issuer.entry(scopes_claim="roles")])
    assert (await tokens.caller(issuer.token(roles=["audit"], scope="admin"))).scopes == {"audit"}


async def test_one_issuers_keys_do_not_sign_for_another(issuer: Issuer) -> None:
    other = issuer.entry(issuer="https://other.example", jwks_url=f"{issuer.address}/none")
    tokens = Tokens([issuer.entry(), other])
    issuer.keys = []
    with pytest.raises(Unauthenticated):
        await tokens.caller(issuer.token(iss="https://other.example"))
    assert issuer.paths == ["/none"]


async def test_a_verified_token_is_remembered_for_a_minute(issuer: Issuer) -> None:
    clock = [0.0]
    tokens = Tokens([issuer.entry()], clock=lambda: clock[0])
    token = issuer.token()
    assert tokens.remembered(token) is None
    caller = await tokens.caller(token)
    clock[0] = REMEMBERED_SECONDS - 1
    assert tokens.remembered(token) is caller
    clock[0] += 2
    assert tokens.remembered(token) is None


async def test_a_remembered_token_expires(issuer: Issuer) -> None:
    now = [time.time()]
    tokens = Tokens([issuer.entry()], now=lambda: now[0])
    token = issuer.token(exp=now[0] + 10)
    await tokens.caller(token)
    now[0] += 41
    assert tokens.remembered(token) is None


async def test_an_end_beyond_every_clock_is_an_end(issuer: Issuer, tokens: Tokens) -> None:
    assert (await tokens.caller(issuer.token(exp=10**400))).scopes == {"predict"}


async def test_what_is_remembered_is_bounded_and_holds_no_token(issuer: Issuer, tokens: Tokens) -> None:
    caller = await tokens.caller(issuer.token())
    for i in range(MOST_REMEMBERED + 10):
        tokens._remember(b"%d" % i, caller, time.time() + 60)
    assert len(tokens._remembered) == MOST_REMEMBERED
    assert {len(digest) for digest in tokens._remembered} == {32}
    assert tokens.remembered(b"0") is None
    assert tokens.remembered(b"%d" % MOST_REMEMBERED) is caller


async def test_a_token_of_an_issuer_that_cannot_be_reached_is_not_called_invalid(issuer: Issuer) -> None:
    tokens = Tokens([issuer.entry(jwks_url=EVIL)])
    with pytest.raises(IssuerUnavailable):
        await tokens.caller(issuer.token())


async def test_revocation_at_the_issuer_takes_effect(issuer: Issuer) -> None:
    clock = [0.0]
    tokens = Tokens([issuer.entry()], clock=lambda: clock[0])
    token = issuer.token()
    await tokens.caller(token)
    issuer.keys = []
    clock[0] = 300 + REMEMBERED_SECONDS
    with pytest.raises(Unauthenticated):
        await tokens.caller(token)


def test_there_are_thirty_cases_and_more() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 60
