"""`temperance ray` on two machines: the same answers as one server, and what the end of a machine costs."""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.cluster.load import Load
from tests.cluster.ray_cluster import Cluster, command
from tests.cluster.requests_of_all_kinds import PREDICT, mistakes, of_the_document
from tests.store.conftest import new_database

Serving = Callable[..., AbstractContextManager[Any]]
GROUPS = """
[groups.tabular]
models = ["breast-cancer"]
replicas = 2
processors = 0.5

[groups.rest]
models = ["*"]
resident = 2
processors = 0.5

[front]
replicas = 2
processors = 0.5
"""
OF_LOADED_MODELS = frozenset({"/openapi.json"})
"""Shows models in memory alone: where a request loads each, not all are."""


@pytest.fixture(scope="module")
def key(cluster: Cluster) -> str:
    """A key that all machines know, and the secrets of their store."""
    secrets = Path(cluster.head.environment["TEMPERANCE_DATA"]) / "secrets.json"
    command(cluster, "audit", "keys", "create", "--secrets", str(secrets))
    return command(
        cluster, "keys", "create", "--name", "tester", "--scopes", "predict,evaluate,outcomes,audit,admin,metrics"
    ).strip()


@pytest.fixture
def store(database: str) -> Iterator[str]:
    """An empty database."""
    with new_database(database) as url:
        yield url


@pytest.fixture
def clients(cluster: Cluster, key: str) -> Iterator[list[httpx.Client]]:
    """One for every machine, with the key."""
    made = [
        httpx.Client(base_url=cluster.url(machine), headers={"Authorization": f"Bearer {key}"}, timeout=60)
        for machine in cluster.machines
    ]
    yield made
    for client in made:
        client.close()


def test_groups_behind_a_front_answer_as_one_server_does(
    cluster: Cluster,
    clients: list[httpx.Client],
    store: str,
    serving: Serving,
    test_rows: list[list[float]],
    tmp_path: Path,
) -> None:
    groups = tmp_path / "groups.toml"
    groups.write_text(GROUPS)
    with cluster.serving("--groups", str(groups), TEMPERANCE_STORE=store):
        assert unlike(cluster, clients[0], store, serving, test_rows, without=OF_LOADED_MODELS) == {}
        shown = clients[1].get("/metrics").text
        assert replayed(clients, test_rows)
    assert len(set(re.findall(r'replica="([^"]+)"', shown))) == 3


def test_replicas_on_two_machines_answer_as_one_server_does_and_lose_no_record_when_one_is_killed(
    cluster: Cluster, clients: list[httpx.Client], store: str, serving: Serving, test_rows: list[list[float]]
) -> None:
    with cluster.serving("--replicas", "2", TEMPERANCE_STORE=store):
        assert unlike(cluster, clients[0], store, serving, test_rows) == {}
        assert replayed(clients, test_rows)
        load = Load(clients[0], PREDICT, {"instances": test_rows[:1]})
        with load.running(clients=4):
            load.wait_for_answers(200)
            killed = time.monotonic()
            cluster.machines[1].kill()
            load.wait_for_answers(200, after=killed)
        assert len(load.failures) <= 4  # one for each client at most: requests under way on the machine that died
        assert set(load.ids) <= recorded(store)


def unlike(
    cluster: Cluster,
    client: httpx.Client,
    store: str,
    serving: Serving,
    rows: list[list[float]],
    without: frozenset[str] = frozenset(),
) -> dict[str, tuple[object, object]]:
    """Requests that are answered otherwise than by one server with the same keys and store, and both answers."""
    own = {"TEMPERANCE_DATA": cluster.head.environment["TEMPERANCE_DATA"], "TEMPERANCE_STORE": store}
    with serving(Path(cluster.head.environment["TEMPERANCE_MODELS"]), **own) as server:
        server.client.headers["Authorization"] = client.headers["Authorization"]
        requests = [*of_the_document(server.client), *mistakes(rows)]
        assert len(requests) > 80
        pairs = {str(sent): (sent.answer(client), sent.answer(server.client)) for sent in requests}
    paths = {str(sent): sent.path for sent in requests}
    return {sent: pair for sent, pair in pairs.items() if pair[0] != pair[1] and paths[sent] not in without}


def replayed(clients: list[httpx.Client], rows: list[list[float]]) -> bool:
    """Whether a machine answers again what another has answered, to a request with the same key."""
    own = {"Idempotency-Key": uuid.uuid4().hex}
    answers = [client.post(PREDICT, json={"instances": rows[:1]}, headers=own) for client in clients]
    return answers[0].content == answers[1].content and answers[1].headers["Idempotency-Replayed"] == "true"


def recorded(store: str) -> set[str]:
    """Ids of requests whose answers are in the record."""
    with psycopg.connect(store) as connection:
        return {str(row[0]) for row in connection.execute("SELECT DISTINCT request_id FROM predictions")}
