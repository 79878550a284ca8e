"""`temperance ray`: its throughput beside `temperance serve`, and what the loss of a machine costs.

Every server runs in a network namespace of its own, on the processors of this machine. One replica stands beside one
worker: the ratios are what Ray's way to a replica costs. Nothing here shows what more machines gain.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from tests.bench import wrk
from tests.bench.shipped import DECIDE, breast_rows
from tests.bench.table import show_rows
from tests.cluster.load import Load
from tests.cluster.machines import Machine, machines
from tests.cluster.ray_cluster import PORT, PROGRAMS, START_SECONDS, command, environment, ray_cluster
from tests.store.conftest import new_database, running_postgresql

ROUNDS: Final = 5
SECONDS: Final = 2
CONNECTIONS: Final = 16
CLIENTS: Final = 8
ANSWERS: Final = 400
"""Before and after the loss of a machine."""
OPEN: Final = {"TEMPERANCE_AUDIT": "off", "TEMPERANCE_INSECURE": "true", "TEMPERANCE_LOG_LEVEL": "warning"}
FRONT: Final = '[groups.all]\nmodels = ["*"]\nresident = 3\n'


def throughput() -> None:
    """Answers per second of one replica, by the way to it, each interleaved with the plain server."""
    request = wrk.Request(DECIDE, json.dumps({"instances": breast_rows(1)}).encode(), wrk.JSON)
    with _plain() as plain:
        rows = [(name, *_beside(plain, options, request)) for name, options in _WAYS.items()]
    show_rows(
        f"One row a request, {CONNECTIONS} connections, no record: medians of {ROUNDS} interleaved rounds",
        ("served by", "answers/s", "of temperance serve", "p50 ms", "p99 ms"),
        rows,
    )


def _beside(plain: str, options: tuple[str, ...], request: wrk.Request) -> tuple[str, ...]:
    with _on_ray(*options) as url:
        for one in (plain, url):
            wrk.measure(one, request, connections=CONNECTIONS)
        rounds = [
            [wrk.measure(one, request, connections=CONNECTIONS, seconds=SECONDS) for one in (plain, url)]
            for _ in range(ROUNDS)
        ]
    own = [ray for _, ray in rounds]
    ratio = median(ray.per_second / serve.per_second for serve, ray in rounds)
    p50, p99 = median(load.p50 for load in own), median(load.p99 for load in own)
    return f"{median(load.per_second for load in own):,.0f}", f"{ratio:.2f}", f"{p50 * 1e3:.1f}", f"{p99 * 1e3:.1f}"


def loss() -> None:
    """Requests that fail when one of two machines is lost under load, with a record in PostgreSQL."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder, running_postgresql(Path(folder)) as server:
        for name, options, is_silent in _LOSSES:
            with new_database(server) as store:
                rows.append((name, *_lost(store, options, is_silent=is_silent)))
    show_rows(
        f"One of two machines is lost under the load of {CLIENTS} clients of the other",
        ("served by; lost how", "answered", "failed", "longest wait s", "without record", "replica replaced s"),
        rows,
    )


def _lost(store: str, options: tuple[str, ...], *, is_silent: bool) -> tuple[str, ...]:
    body = {"instances": breast_rows(1)}
    with _folder() as folder, ray_cluster(folder) as cluster:
        command(cluster, "audit", "keys", "create", "--secrets", str(folder / "secrets.json"))
        own = {"TEMPERANCE_INSECURE": "true", "TEMPERANCE_LOG_LEVEL": "warning", "TEMPERANCE_STORE": store}
        with (
            cluster.serving(*_written(folder, options), **own),
            httpx.Client(base_url=cluster.url(cluster.head)) as like,
        ):
            load = Load(like, DECIDE, body)
            with load.running(CLIENTS):
                load.wait_for_answers(ANSWERS)
                before, lost, machine = _replicas(like), time.monotonic(), cluster.machines[1]
                if is_silent:
                    machine.unplug()
                machine.kill()
                again = _seconds_until_replaced(like, lost, before)
                load.wait_for_answers(ANSWERS, after=time.monotonic())
    longest = max(outcome.answered - outcome.sent for outcome in load.outcomes if outcome.answered > lost)
    missing = len(set(load.ids) - _recorded(store))
    return str(len(load.ids)), str(len(load.failures)), f"{longest:.1f}", str(missing), f"{again:.0f}"


def _seconds_until_replaced(like: httpx.Client, lost: float, before: set[str]) -> float:
    while time.monotonic() - lost < START_SECONDS:
        now = _replicas(like)
        if len(now) == len(before) and now != before:
            return time.monotonic() - lost
        time.sleep(0.2)
    raise SystemExit("the replica was not replaced")


def _replicas(like: httpx.Client) -> set[str]:
    try:
        return set(re.findall(r'temperance_build_info{.*replica="([^"]+)"', like.get("/metrics", timeout=10).text))
    except httpx.HTTPError:
        return set()


def _recorded(store: str) -> set[str]:
    import psycopg

    with psycopg.connect(store) as connection:
        return {str(row[0]) for row in connection.execute("SELECT request_id FROM predictions")}


@contextmanager
def _plain() -> Iterator[str]:
    with _folder() as folder, machines(1, environment(folder)) as (machine,):
        machine.start([str(PROGRAMS / "temperance"), "serve"], **OPEN)
        url = f"http://{machine.address}:{PORT}"
        _wait(url, machine)
        yield url


@contextmanager
def _on_ray(*options: str) -> Iterator[str]:
    with (
        _folder() as folder,
        ray_cluster(folder, count=1) as cluster,
        cluster.serving(*_written(folder, options), **OPEN),
    ):
        yield cluster.url(cluster.head)


def _written(folder: Path, options: tuple[str, ...]) -> tuple[str, ...]:
    groups = folder / "groups.toml"
    groups.write_text(FRONT)
    return tuple(str(groups) if option == "GROUPS" else option for option in options)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="c") as folder:
        yield Path(folder)


def _wait(url: str, machine: Machine) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(machine.log.read_text())


_WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "temperance ray": (),
    "temperance ray --no-haproxy": ("--no-haproxy",),
    "temperance ray, a group behind a front": ("--groups", "GROUPS"),
}
_LOSSES: Final = (
    ("HAProxy; killed", ("--replicas", "2"), False),
    ("HAProxy; silent", ("--replicas", "2"), True),
    ("Ray's proxy; killed", ("--replicas", "2", "--no-haproxy"), False),
)

if __name__ == "__main__":
    wrk.required()
    throughput()
    loss()
