"""A request that is sent again with its Idempotency-Key, against a real server and its store."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.shipped_model import SHIPPED

PREDICT = "/v1/models/breast-cancer:predict"
INFER = "/v2/models/breast-cancer/infer"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def client(serving: Callable[..., Any], data: Path) -> Iterator[httpx.Client]:
    with serving(SHIPPED, TEMPERANCE_DATA=str(data)) as server:
        yield server.client


@pytest.fixture
def body(test_rows: list[list[float]]) -> dict[str, Any]:
    return {"instances": [test_rows[0]]}


def sent(client: httpx.Client, key: str | bytes, body: object, path: str = PREDICT) -> httpx.Response:
    return client.post(path, json=body, headers=[(b"Idempotency-Key", key.encode() if isinstance(key, str) else key)])


def records(data: Path) -> int:
    with sqlite3.connect(data / "audit.db") as connection:
        return int(connection.execute("SELECT count(*) FROM predictions").fetchone()[0])


def test_a_repeated_request_has_the_stored_answer_and_no_second_record(client, data, body):
    before = records(data)
    first, second = sent(client, "one", body), sent(client, "one", body)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["content-type"] == first.headers["content-type"]
    assert records(data) == before + 1


def test_a_string_of_structured_fields_is_the_same_key(client, body):
    assert sent(client, '"quoted"', body).content == sent(client, "quoted", body).content


def test_another_body_under_a_key_is_refused(client, body):
    sent(client, "two", body)
    refused = sent(client, "two", {"instances": body["instances"] * 2})
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:temperance:problem:idempotency-mismatch"


def test_another_verb_under_a_key_is_refused(client, body):
    sent(client, "three", body)
    assert sent(client, "three", body, PREDICT.replace("predict", "detect")).status_code == 422


def test_a_refused_request_gives_its_key_up(client, body):
    assert sent(client, "four", {"instances": [["x"]]}).status_code == 422
    assert sent(client, "four", body).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, b"\xc3\xa4"])
def test_a_malformed_key_is_refused(client, body, key):
    assert sent(client, key, body).status_code == 422


def test_two_keys_are_refused(client, body):
    answer = client.post(PREDICT, json=body, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert answer.status_code == 422


@pytest.mark.parametrize("verb", ["detect", "decide"])
def test_every_verb_takes_a_key(client, body, verb):
    path = f"/v1/models/breast-cancer:{verb}"
    assert sent(client, verb, body, path).content == sent(client, verb, body, path).content


def test_the_open_inference_protocol_takes_a_key(client, data, body):
    row = body["instances"][0]
    request = {"inputs": [{"name": "X", "shape": [1, len(row)], "datatype": "FP64", "data": row}]}
    before = records(data)
    first, second = sent(client, "five", request, INFER), sent(client, "five", request, INFER)
    assert first.status_code == 200, first.text
    assert second.content == first.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert records(data) == before + 1
    refused = sent(client, "five", {"inputs": []}, INFER)
    assert (refused.status_code, list(refused.json())) == (422, ["error"])


def test_reported_outcomes_take_a_key(client, body):
    answered = sent(client, "six", body).json()
    report = {"outcomes": [{"prediction_id": f"{answered['id']}.0", "outcome": "benign"}]}
    first, second = (sent(client, "seven", report, "/v1/outcomes") for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json()["accepted"] == 1
    assert second.content == first.content


def test_without_an_audit_a_repeated_request_has_the_stored_answer(serving, tmp_path, body):
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path), TEMPERANCE_AUDIT="off") as server:
        server.client.post(PREDICT, json=body)
        assert not (tmp_path / "audit.db").exists()
        assert sent(server.client, "one", body).content == sent(server.client, "one", body).content
    assert records(tmp_path) == 0
