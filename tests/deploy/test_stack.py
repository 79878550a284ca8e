"""docker-compose.yml, run: two replicas behind HAProxy, PostgreSQL, Prometheus; and the service alone.

The images of others are stand-ins made of Debian's packages (tests/deploy/stand_ins.py). Grafana is not run.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, Final

import httpx
import pytest

from tests.deploy.engine import ROOT, Docker, Engine
from tests.deploy.stack import Stack, compose_commands, project, until
from tests.deploy.stand_ins import stand_ins
from tests.deploy.test_dashboards import BOARDS
from tests.deploy.test_dashboards import expressions as expressions_of

MASS: Final = json.loads((ROOT / "docs" / "examples" / "mass.json").read_text())
DECIDE: Final = "/v1/models/breast-cancer:decide"
ROUTE: Final = "/v1/models/{name}:decide"
REPLICAS: Final = ("temperance-1", "temperance-2")
CLIENTS: Final = 6
REQUESTS: Final = 300
"""Before and after what happens under load."""


@pytest.fixture(scope="module")
def stopped_stack(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A project with its secrets and a key, and no server yet."""
    commands = compose_commands(engine.docker)
    if not commands:
        pytest.skip("there is no Compose (apt-get install docker-compose)")
    folder = tmp_path_factory.mktemp("stack")
    with (
        stand_ins(engine) as others,
        project(engine.docker, commands[max(commands)], folder, {**others, "temperance": image}) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def stack(stopped_stack: Stack) -> Stack:
    """The whole stack, healthy, HAProxy with both replicas."""
    stopped_stack.up()
    both_take_requests(stopped_stack)
    return stopped_stack


def decide(client: httpx.Client) -> httpx.Response:
    return client.post(DECIDE, json={"instances": MASS})


def decided(stack: Stack, replica: str) -> float:
    """Requests that a replica has answered, as Prometheus knows."""
    return stack.value(f'temperance_requests_total{{route="{ROUTE}", status="200", instance="{replica}:8080"}}')


def both_take_requests(stack: Stack) -> None:
    """Wait until each replica answers what HAProxy sends it, and Prometheus knows."""
    before = {name: decided(stack, name) for name in REPLICAS}

    def both_have_answered() -> bool:
        with stack.client() as client:
            decide(client)
        return all(decided(stack, name) > before[name] for name in REPLICAS)

    until(both_have_answered)


def under_load(stack: Stack, happens: Callable[[], object]) -> list[int | str]:
    """What every request came to while something happened: its status, or the error of the connection."""
    outcomes: list[int | str] = []
    ended = Event()

    def send() -> None:
        with stack.client() as client:
            while not ended.is_set():
                try:
                    outcomes.append(decide(client).status_code)
                except httpx.HTTPError as error:
                    outcomes.append(repr(error))

    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(send) for _ in range(CLIENTS)]
        try:
            until(lambda: len(outcomes) >= REQUESTS)
            happens()
            after = len(outcomes) + REQUESTS
            until(lambda: len(outcomes) >= after)
        finally:
            ended.set()
        for one in running:
            one.result()
    return outcomes


def test_every_container_becomes_healthy(stack: Stack) -> None:
    assert stack.health() == dict.fromkeys(("haproxy", *REPLICAS, "postgres", "prometheus"), "healthy")


def test_the_engine_holds_every_container_to_its_limits(stack: Stack) -> None:
    for identity in stack.containers().values():
        limits: dict[str, Any] = json.loads(stack.docker("inspect", "--format", "{{json .HostConfig}}", identity))
        assert limits["Memory"] > 0
        assert limits["NanoCpus"] > 0
        assert limits["PidsLimit"] > 0
        assert limits["ReadonlyRootfs"]
        assert limits["CapDrop"] == ["ALL"]
        assert limits["SecurityOpt"] == ["no-new-privileges:true"]


def test_no_container_runs_as_root(stack: Stack) -> None:
    for identity in stack.containers().values():
        user = stack.docker("inspect", "--format", "{{.Config.User}}", identity)
        assert user.partition(":")[0] not in {"", "0", "root"}


def test_a_decision_through_haproxy_is_on_record_in_postgresql(stack: Stack) -> None:
    with stack.client() as client:
        answer = decide(client).json()
        shown = client.get(f"/v1/predictions/{answer['predictions'][0]['prediction_id']}")
    assert f"{answer['id']}|key:ward|1" in stack.sql("SELECT request_id, caller, rows FROM predictions").splitlines()
    assert shown.status_code == 200


def test_both_replicas_write_one_record_which_can_be_verified(stack: Stack) -> None:
    assert int(stack.sql("SELECT count(*) FROM streams")) >= 2
    stack.compose("run", "--rm", "audit", "verify", "--anchors", "/data/anchors.jsonl")


def test_an_outcome_reaches_the_record_once_although_it_is_sent_twice(stack: Stack) -> None:
    with stack.client() as client:
        name = decide(client).json()["predictions"][0]["prediction_id"]
        body = {"outcomes": [{"prediction_id": name, "outcome": "benign", "source": "histology"}]}
        sent = [client.post("/v1/outcomes", json=body, headers={"Idempotency-Key": '"one"'}) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [200, 200]
    assert sent[0].content == sent[1].content
    assert stack.sql("SELECT request_id, row FROM outcomes").splitlines().count(name.replace(".", "|")) == 1


@pytest.mark.parametrize("path", ["/metrics", "/%6detrics", "/metrics/", "/METRICS"])
def test_metrics_stay_inside(stack: Stack, path: str) -> None:
    with stack.client() as client:
        assert client.get(path).status_code == 404


def test_prometheus_holds_the_number_of_requests_that_were_answered(stack: Stack) -> None:
    counted = f'sum(temperance_requests_total{{route="{ROUTE}", status="200"}})'
    now = time.time()
    until(lambda: stack.value('min(timestamp(up{job="temperance"}))') > now)  # earlier answers are all counted
    before = stack.value(counted)
    with stack.client() as client:
        assert {decide(client).status_code for _ in range(25)} == {200}
    until(lambda: stack.value(counted) >= before + 25)
    assert stack.value(counted) == before + 25


def test_the_disk_of_postgresql_is_not_measured_and_raises_no_alert(stack: Stack) -> None:
    assert {one["value"][1] for one in stack.query("temperance_store_free_bytes")} == {"NaN"}
    assert not stack.firing("TemperanceStoreDiskFull")


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_prometheus_answers_every_panel(stack: Stack, path: Path) -> None:
    with stack.client() as client:
        decide(client)
    expressions = expressions_of(path)
    until(lambda: sum(bool(stack.query(expression)) for expression in expressions) > len(expressions) / 2)


def test_a_replica_that_is_killed_under_load_costs_no_request_and_raises_an_alert_until_it_is_back(
    stack: Stack, record_property: Callable[[str, object], None]
) -> None:
    victim = stack.containers()[REPLICAS[0]]
    statuses = under_load(stack, lambda: stack.docker("kill", "--signal=KILL", victim))
    record_property("requests", len(statuses))
    assert Counter(statuses) == {200: len(statuses)}
    until(lambda: stack.firing("TemperanceDown") == {f"{REPLICAS[0]}:8080"})
    stack.docker("start", victim)
    until(lambda: not stack.firing("TemperanceDown"))
    both_take_requests(stack)


def test_a_replica_that_is_ended_under_load_costs_no_request_and_exits_in_order(stack: Stack) -> None:
    ended = stack.containers()[REPLICAS[1]]
    statuses = under_load(stack, lambda: stack.compose("stop", REPLICAS[1]))
    assert Counter(statuses) == {200: len(statuses)}
    assert stack.docker("inspect", "--format", "{{.State.ExitCode}}", ended) == "0"
    stack.docker("start", ended)
    both_take_requests(stack)


def test_a_store_that_is_gone_refuses_requests_and_raises_an_alert_until_it_is_back(stack: Stack) -> None:
    stack.compose("stop", "postgres")
    with stack.client() as client:
        refused = decide(client)
        until(lambda: stack.firing("TemperanceStoreDown") == {f"{name}:8080" for name in REPLICAS})
        until(lambda: stack.firing("TemperanceNotReady") == {f"{name}:8080" for name in REPLICAS})
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        stack.compose("start", "postgres")
        until(lambda: decide(client).status_code == 200)
    until(lambda: not stack.firing("TemperanceStoreDown") | stack.firing("TemperanceNotReady"))


def test_no_password_stands_in_a_container_or_its_log(stack: Stack) -> None:
    passwords = [path.read_text().strip() for path in (stack.folder / "secrets").iterdir()]
    for identity in stack.containers().values():
        logs = stack.docker.result("logs", identity)
        text = stack.docker("inspect", identity) + logs.stdout + logs.stderr
        assert not [password for password in passwords if password in text]


def test_lite_answers_from_sqlite_without_the_other_services(stopped_stack: Stack) -> None:
    stopped_stack.compose("down", "--timeout", "1")
    stopped_stack.up("lite")
    assert stopped_stack.health() == {"lite": "healthy"}
    with stopped_stack.client() as client:
        answer = decide(client)
        name = answer.json()["predictions"][0]["prediction_id"]
        assert client.get(f"/v1/predictions/{name}").status_code == 200


@pytest.mark.parametrize("version", ["1", "2"])
def test_compose_reads_the_file(docker: Docker, version: str, tmp_path: Path) -> None:
    command = compose_commands(docker).get(version)
    if command is None:
        pytest.skip(f"there is no Compose {version}")
    (tmp_path / "override.yml").write_text("services: {keys: {image: temperance}}\n")
    (tmp_path / "docker-compose.yml").write_text((ROOT / "docker-compose.yml").read_text())
    read = Stack(docker, command, tmp_path, {}).compose("config")
    assert all(f"{name}:" in read for name in (*REPLICAS, "haproxy", "postgres", "prometheus", "grafana"))
