"""Forty ways to send a credential, over a real connection: one way is right, and no other is answered."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from service.access.key_file import KeyFile
from service.access.keys import KeyOptions, new_key
from tests.shipped_model import SHIPPED

Fields = list[tuple[str, str]]

ACCEPTED: Final[dict[str, Fields]] = {
    "as documented": [("Authorization", "Bearer {key}")],
    "the scheme in small letters": [("Authorization", "bearer {key}")],
    "the name in small letters": [("authorization", "Bearer {key}")],
    "several spaces": [("Authorization", "Bearer   {key}")],
    "spaces around, which HTTP takes away": [("Authorization", "  Bearer {key}  ")],
    "beside other fields": [("Authorization", "Bearer {key}"), ("X-API-Key", "x"), ("Cookie", "a=b")],
}
REFUSED: Final[dict[str, Fields]] = {
    "nothing": [],
    "an empty field": [("Authorization", "")],
    "the scheme alone": [("Authorization", "Bearer")],
    "the scheme and a space": [("Authorization", "Bearer ")],
    "the key alone": [("Authorization", "{key}")],
    "Basic": [("Authorization", "Basic dXNlcjpwYXNz")],
    "the key as Basic": [("Authorization", "Basic {key}")],
    "Token": [("Authorization", "Token {key}")],
    "ApiKey": [("Authorization", "ApiKey {key}")],
    "a colon": [("Authorization", "Bearer: {key}")],
    "a tab": [("Authorization", "Bearer\t{key}")],
    "quotes": [("Authorization", 'Bearer "{key}"')],
    "a comma and another": [("Authorization", "Bearer {key}, Bearer {key}")],
    "a comma after it": [("Authorization", "Bearer {key},")],
    "twice": [("Authorization", "Bearer {key}"), ("Authorization", "Bearer {key}")],
    "a wrong one first": [("Authorization", "Bearer x"), ("Authorization", "Bearer {key}")],
    "a wrong one last": [("Authorization", "Bearer {key}"), ("Authorization", "Bearer x")],
    "capitals": [("Authorization", "Bearer {KEY}")],
    "one letter less": [("Authorization", "Bearer {key[:-1]}")],
    "one letter more": [("Authorization", "Bearer {key}a")],
    "the id alone": [("Authorization", "Bearer tmp_{id}")],
    "no secret": [("Authorization", "Bearer tmp_{id}_")],
    "the secret alone": [("Authorization", "Bearer {secret}")],
    "another secret": [("Authorization", "Bearer tmp_{id}_{other}")],
    "another id": [("Authorization", "Bearer tmp_aaaaaaaaaaaa_{secret}")],
    "a hash in the place of the secret": [("Authorization", "Bearer tmp_{id}_{hash}")],
    "the hash alone": [("Authorization", "Bearer {hash}")],
    "a wildcard": [("Authorization", "Bearer *")],
    "null": [("Authorization", "Bearer null")],
    "a path": [("Authorization", "Bearer ../../keys.json")],
    "letters beyond ASCII": [("Authorization", "Bearer tmp_\xe9\xe9\xe9")],
    "a token without signature": [("Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")],
    "as long as a field may be": [("Authorization", "Bearer tmp_" + "a" * 8000)],
    "X-API-Key": [("X-API-Key", "{key}")],
    "a cookie": [("Cookie", "Authorization=Bearer {key}; key={key}")],
    "Proxy-Authorization": [("Proxy-Authorization", "Bearer {key}")],
    "X-Authorization": [("X-Authorization", "Bearer {key}")],
    "a name with an underscore": [("Authorization_", "Bearer {key}")],
    "a subject, from no proxy": [("X-Client-Subject", "CN=ehr")],
    "an address of this machine, from no proxy": [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1")],
}
ROUTES: Final = (
    ("GET", "/v1/models", None),
    ("POST", "/v1/models/breast-cancer:decide", b'{"instances": []}'),
    ("POST", "/v2/models/breast-cancer/infer", b"{}"),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key, what it is made of, and the folder of its file."""
    folder = tmp_path_factory.mktemp("data")
    stored, key = new_key("ehr", KeyOptions(scopes=("predict",)), now=datetime.now(UTC))
    KeyFile(folder / "keys.json").add(stored)
    _, other = new_key("ehr", KeyOptions(scopes=("predict",)), now=datetime.now(UTC))
    whole = {"key": key, "key[:-1]": key[:-1], "KEY": key.upper()}
    secrets = {"secret": key.split("_")[2], "other": other.split("_")[2], "hash": stored.sha256}
    return {**whole, **secrets, "id": stored.id, "folder": str(folder)}


@pytest.fixture(scope="module")
def port(parts: dict[str, str], serving: Callable[..., AbstractContextManager[Any]]) -> Iterator[int]:
    with serving(SHIPPED, TEMPERANCE_DATA=parts["folder"]) as running:
        yield running.client.base_url.port


def answers(port: int, fields: Fields, parts: dict[str, str], query: str = "") -> list[tuple[int, dict[str, Any]]]:
    """Status and body of each route; header fields are sent exactly as they are given."""
    found = []
    for method, path, body in ROUTES:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest(method, path + query)
        for name, value in fields:
            connection.putheader(name, filled(value, parts).encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        found.append((response.status, json.loads(response.read())))
        connection.close()
    return found


def filled(value: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        value = value.replace("{" + name + "}", part)
    return value


@pytest.mark.parametrize("way", ACCEPTED)
def test_a_key_that_is_sent_as_documented_is_accepted(way: str, port: int, parts: dict[str, str]) -> None:
    statuses = [status for status, _ in answers(port, ACCEPTED[way], parts)]
    assert statuses[0] == 200
    assert 401 not in statuses


@pytest.mark.parametrize("way", REFUSED)
def test_any_other_credential_is_refused_on_every_route_and_not_repeated(
    way: str, port: int, parts: dict[str, str]
) -> None:
    (first, problem), *others = answers(port, REFUSED[way], parts)
    assert {first, *(status for status, _ in others)} <= ({400, 401} if "beyond" in way else {401})
    assert problem["type"].startswith("urn:temperance:problem:")
    assert set(others[-1][1]) == {"error"}
    assert not any(parts[name] in json.dumps(problem) for name in ("key", "id", "secret", "hash"))


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "Authorization"])
def test_a_key_in_the_query_is_refused(name: str, port: int, parts: dict[str, str]) -> None:
    found = answers(port, [], parts, query=f"?{name}={parts['key']}")
    assert [status for status, _ in found] == [401, 401, 401]


def test_there_are_forty_cases_and_more() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 40
