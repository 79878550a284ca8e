"""The record in a running service: what callers see when its store fails, and that nothing is lost or doubled."""

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import TEMPERANCE
from tests.shipped_model import SHIPPED

PREDICT = "/v1/models/breast-cancer:predict"
RECOVERY_SECONDS = 5.0
AUDIT_UNAVAILABLE = "urn:temperance:problem:audit-unavailable"


def recorded(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / "audit.db")) as connection:
        return [row[0] for row in connection.execute("SELECT request_id FROM predictions")]


def events(data: Path, kind: str) -> list[str]:
    with closing(sqlite3.connect(data / "audit.db")) as connection:
        return [row[0] for row in connection.execute("SELECT detail FROM events WHERE kind = ?", (kind,))]


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Another process holds the store."""
    with closing(sqlite3.connect(data / "audit.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def until(is_so: Callable[[], bool], seconds: float) -> float:
    """Seconds until something is so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() < started + seconds, "it was not so in time"
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.fixture
def body(test_rows: list[list[float]]) -> dict[str, Any]:
    return {"instances": [test_rows[0]]}


def test_while_the_store_is_locked_no_answer_leaves_and_after_it_all_do(serving, tmp_path, body):
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path)) as server:
        post = lambda: server.client.post(PREDICT, json=body)  # noqa: E731
        ids = [post().json()["id"]]
        with locked(tmp_path):
            refused = post()
            assert (refused.status_code, refused.json()["type"]) == (503, AUDIT_UNAVAILABLE)
            assert int(refused.headers["Retry-After"]) >= 1
            started = time.monotonic()
            assert post().status_code == 503
            assert time.monotonic() < started + 1.0  # at once, once it is known
            assert server.client.get("/readyz").status_code == 503
            assert server.client.get("/livez").status_code == 200
            assert "record_store_up 0.0" in server.client.get("/metrics").text
        until(lambda: post_is_answered(server.client, body, ids), RECOVERY_SECONDS)
        assert server.client.get("/readyz").status_code == 200
    assert recorded(tmp_path) == ids


def post_is_answered(client: httpx.Client, body: object, ids: list[str]) -> bool:
    answer = client.post(PREDICT, json=body)
    if answer.status_code == 200:
        ids.append(answer.json()["id"])
    return answer.status_code == 200


def test_relaxed_answers_leave_without_a_record_and_are_counted(serving, tmp_path, body):
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path), TEMPERANCE_AUDIT="relaxed") as server:
        assert server.client.post(PREDICT, json=body).status_code == 200
        with locked(tmp_path):
            until(lambda: "record_store_up 0.0" in counted(server.client, body), 20.0)
            assert server.client.get("/readyz").status_code == 200
            lost = server.client.get("/metrics").text
        assert "temperance_unrecorded_answers_total 0.0" not in lost


def counted(client: httpx.Client, body: object) -> str:
    assert client.post(PREDICT, json=body).status_code == 200
    return client.get("/metrics").text


def test_every_answer_has_one_record_and_a_refused_request_has_none(serving, tmp_path, body, test_labels):
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path)) as server:
        answers = [server.post(verb, body) for verb in ("predict", "detect", "decide", "predict")]
        answers.append(server.post("estimate", {"instances": body["instances"] * 30}))
        answers.append(server.post("evaluate", {"instances": body["instances"] * 4, "labels": [test_labels[0]] * 4}))
        assert server.post("predict", {"instances": [["x"]]}).status_code == 422
        ids = [answer.headers["Temperance-Id"] for answer in answers if answer.status_code == 200]
    assert len(ids) >= 5
    assert sorted(recorded(tmp_path)) == sorted(ids)


def test_workers_share_a_store_and_lose_nothing(serving, tmp_path, body):
    with serving(SHIPPED, "--workers", "2", TEMPERANCE_DATA=str(tmp_path)) as server:
        url = f"{server.client.base_url}{PREDICT}"
        ids = [httpx.post(url, json=body).json()["id"] for _ in range(40)]  # a connection each, for both workers
    assert sorted(recorded(tmp_path)) == sorted(ids)
    shown = subprocess.run(
        [TEMPERANCE, "audit", "verify"],
        env={"TEMPERANCE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr


def test_a_store_that_cannot_be_opened_refuses_the_start_in_one_line(tmp_path):
    (tmp_path / "audit.db").mkdir()
    command = [str(TEMPERANCE), "serve", "--models", str(SHIPPED), "--port", "0"]
    ended = subprocess.run(
        command, env={"TEMPERANCE_DATA": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "TEMPERANCE_DATA" in last or "TEMPERANCE_STORE" in last
    assert "Traceback" not in ended.stderr


def test_an_answer_whose_client_is_gone_is_recorded_as_undelivered(serving, tmp_path, body):
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path)) as server:
        server.client.post(PREDICT, json=body)
        with locked(tmp_path), pytest.raises(httpx.ReadTimeout):
            server.client.post(PREDICT, json=body, timeout=0.5)
        until(lambda: len(events(tmp_path, "undelivered")) == 1, 10.0)
        detail = json.loads(events(tmp_path, "undelivered")[0])
        assert detail["reason"] == "client-disconnected"
    assert detail["request_id"] in recorded(tmp_path)


def test_failed_logins_are_on_record_a_few_a_second_and_without_the_credential(serving, tmp_path, body):
    keys = tmp_path / "keys.json"
    command = [str(TEMPERANCE), "keys", "create", "--name", "ward"]
    subprocess.run(command, env={"TEMPERANCE_DATA": str(tmp_path)}, check=True, capture_output=True)
    assert keys.exists()
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path)) as server:
        for _ in range(30):
            answer = server.client.post(PREDICT, json=body, headers={"Authorization": "Bearer tmp_canary"})
            assert answer.status_code == 401
        until(lambda: len(events(tmp_path, "login-failed")) >= 5, 10.0)
    found = events(tmp_path, "login-failed")
    assert 5 <= len(found) <= 15
    assert "canary" not in "".join(found)
    assert recorded(tmp_path) == []
