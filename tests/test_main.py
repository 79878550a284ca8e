"""The composition root as a process: how it starts, refuses to start, and stops."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.bundle.drafts import open_draft
from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.fitting.publish import publish_draft
from service.main import compose, create, load, threads_of
from service.runtime.cpus import available_cpus
from service.settings import Settings

TEMPERANCE = Path(sys.executable).with_name("temperance")
JSON = {"content-type": "application/json"}
DECIDE = "/v1/models/breast-cancer:decide"
SLOW = 3
"""Times as long as on a quiet machine a start may take here."""


def refused(*flags: str, **variables: str) -> str:
    """The one line of a `temperance serve` that must not start."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    done = subprocess.run(
        [str(TEMPERANCE), "serve", *flags],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("temperance: ")
    return line


def test_an_unknown_variable_stops_the_start() -> None:
    line = refused(TEMPERANCE_FOO="zq7canary")
    assert "TEMPERANCE_FOO is no setting" in line
    assert "zq7canary" not in line


def test_a_port_that_is_no_port_stops_the_start() -> None:
    assert "TEMPERANCE_PORT" in refused(TEMPERANCE_PORT="8000x")


@pytest.mark.parametrize("flags", [[], ["--host", ""]])
def test_an_empty_host_is_not_every_address(flags: list[str]) -> None:
    assert "TEMPERANCE_HOST" in refused(*flags, TEMPERANCE_HOST="")


def test_an_empty_repository_stops_the_start(tmp_path: Path) -> None:
    assert "no model is published" in refused("--models", str(tmp_path))


def test_the_folder_of_one_model_is_no_repository_and_the_line_says_so(repository: Repository) -> None:
    line = refused("--models", str(repository.root / "breast-cancer"))
    assert "is the folder of one model, and no repository: name the folder above it" in line


def test_a_repository_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    assert "not a directory" in refused("--models", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("file", "workers"), [("model.onnx", "1"), ("calibration.json", "2")])
def test_one_flipped_bit_in_a_bundle_stops_the_start(file: str, workers: str, repository: Repository) -> None:
    damaged = repository.root / "breast-cancer" / "1" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert f"{file} does not match its sum" in refused("--models", str(repository.root), "--workers", workers)


def test_a_port_in_use_stops_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1 port {port}" in refused("--port", port)


@pytest.mark.parametrize(
    ("flags", "host"),
    [
        (("--host", "0.0.0.0"), "0.0.0.0"),  # noqa: S104  # what must not start
        (("--host", "::", "--workers", "2"), "::"),
        ((), socket.gethostname()),
    ],
)
def test_an_address_that_other_machines_reach_stops_the_start_without_a_credential(
    flags: tuple[str, ...], host: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    line = refused(*flags, "--models", str(tmp_path), TEMPERANCE_HOST=host, TEMPERANCE_DATA=str(tmp_path / "data"))
    assert time.monotonic() - began < 5 * SLOW
    assert line.startswith(f"temperance: {host} can be reached from other machines")
    assert all(way in line for way in ("temperance keys create", "TEMPERANCE_JWT_ISSUERS", "--insecure"))
    assert not (tmp_path / "data").exists()


def test_insecure_starts_it_all_the_same_and_the_log_warns(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository
) -> None:
    with serving(repository.root, "--host", "0.0.0.0", "--insecure") as server:  # noqa: S104  # what is warned of
        assert server.client.get("/v1/models").status_code == 200
        assert "WARNING temperance: no credential is configured: open to everyone who reaches" in server.log.read_text()


def test_a_named_key_file_that_is_absent_or_damaged_stops_the_start(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    assert f"there is no file {keys}" in refused(TEMPERANCE_KEYS=str(keys))
    keys.write_text('{"schema": 1, "keys": [{"zq7canary": "zq7canary"}]}')
    line = refused(TEMPERANCE_KEYS=str(keys))
    assert f"{keys} is no file of keys" in line


def test_flags_win_over_variables(tmp_path: Path) -> None:
    assert str(tmp_path) in refused("--models", str(tmp_path), TEMPERANCE_MODELS="models")


def test_a_stop_signal_finishes_the_request_that_is_being_read_and_then_ends_the_process(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, example_body: bytes
) -> None:
    with serving(repository.root) as server:
        address = (server.client.base_url.host, server.client.base_url.port)
        with socket.create_connection(address, timeout=30) as caller:
            caller.sendall(
                f"POST {DECIDE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(example_body)}\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert caller.recv(1 << 16).startswith(b"HTTP/1.1 100")  # the handler has begun to read
            server.process.send_signal(signal.SIGTERM)
            caller.sendall(example_body)
            answer = b"".join(iter(lambda: caller.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"decision"' in answer
        # uvicorn raises the signal again once it has shut down, so that its sender sees that it was handled.
        assert server.process.wait(timeout=30) == 0
        assert "Application shutdown complete" in server.log.read_text()


@pytest.fixture
def example_body(test_rows: list[list[float]]) -> bytes:
    return httpx.Request("POST", "http://x", json={"instances": test_rows[:1]}).content


def test_several_workers_serve_and_stop_together(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, example_body: bytes
) -> None:
    with serving(repository.root, "--workers", "2") as server:
        for _ in range(4):
            assert server.client.post(DECIDE, content=example_body, headers=JSON).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        log = server.log.read_text()
    assert "Finished server process" in log
    assert "Traceback" not in log


def test_the_log_level_is_the_settings(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, example_body: bytes
) -> None:
    with serving(repository.root, TEMPERANCE_LOG_LEVEL="error") as server:
        assert server.client.post(DECIDE, content=example_body, headers=JSON).status_code == 200
        assert DECIDE.rpartition(":")[2] not in server.log.read_text()


async def test_a_worker_builds_its_application_from_the_environment(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPERANCE_MODELS", str(repository.root))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create()), base_url="http://x") as client:
        assert (await client.get("/v1/models")).json() == {"models": ["breast-cancer"]}


async def test_two_applications_in_one_process_count_apart(repository: Repository) -> None:
    settings = Settings(models=repository.root, audit="off")
    first, second = (
        httpx.AsyncClient(transport=httpx.ASGITransport(compose(settings, load(settings))), base_url="http://x")
        for _ in range(2)
    )
    async with first, second:
        await first.get("/livez")
        assert 'route="/livez"' in (await first.get("/metrics")).text
        assert 'route="/livez"' not in (await second.get("/metrics")).text


async def test_every_served_version_is_in_the_metrics(repository: Repository) -> None:
    settings = Settings(models=repository.root, audit="off")
    registry = load(settings)
    model = registry.model("breast-cancer")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(compose(settings, registry)), base_url="http://x"
    ) as client:
        exposed = (await client.get("/metrics")).text
    labels = f'calibration="ok",digest="{model.bundle.digest}",model="breast-cancer",version="1"'
    assert f"temperance_model_info{{{labels}}} 1.0" in exposed


def cost_of_a_dismissal(server: Any) -> float:
    """The mark of a version in its served policy."""
    found: float = server.client.get("/v1/models/breast-cancer").json()["policies"]["biopsy"]["costs"]["dismiss"][
        "malignant"
    ]
    return found


def publish_another_price(repository: Repository, price: int) -> int:
    """Another version of the shipped model, apart from what a missed cancer costs."""
    draft = open_draft(repository, "breast-cancer")
    manifest = draft / "manifest.toml"
    manifest.write_text(re.sub(r"malignant = \d{2}\b", f"malignant = {price}", manifest.read_text()))
    return publish_draft(repository, "breast-cancer").version


def wait_for(condition: Callable[[], bool]) -> None:
    """Until something is so; the alternative to sleeping for as long as it may take."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def test_an_alias_that_moves_is_served_and_no_request_fails(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, example_body: bytes
) -> None:
    with serving(repository.root, TEMPERANCE_RELOAD_SECONDS="0.05") as server:
        assert cost_of_a_dismissal(server) == 50
        statuses: list[int] = []
        stop = threading.Event()

        def load() -> None:
            with httpx.Client(base_url=server.client.base_url, timeout=30) as client:
                while not stop.is_set():
                    statuses.append(client.post(DECIDE, content=example_body, headers=JSON).status_code)

        callers = [threading.Thread(target=load) for _ in range(4)]
        for caller in callers:
            caller.start()
        for price in (60, 70, 80):
            set_alias(repository, "breast-cancer", "stable", publish_another_price(repository, price))
            wait_for(lambda price=price: cost_of_a_dismissal(server) == price)  # type: ignore[misc]
        stop.set()
        for caller in callers:
            caller.join()
        metrics = server.client.get("/metrics").text
    assert set(statuses) == {200}
    assert len(statuses) > 10
    assert 'version="4"} 1.0' in metrics
    assert 'temperance_model_info{calibration="ok",digest="' in metrics
    assert 'model="breast-cancer",version="1"} 1.0' not in metrics


def test_a_bad_version_leaves_the_old_one_serving_and_says_so(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, example_body: bytes
) -> None:
    version = publish_another_price(repository, 60)
    (repository.root / "breast-cancer" / str(version) / "model.onnx").write_bytes(b"no graph")
    with serving(repository.root, TEMPERANCE_RELOAD_SECONDS="0.05") as server:
        set_alias(repository, "breast-cancer", "stable", version)
        wait_for(lambda: server.client.get("/v1/models/breast-cancer").json()["refusal"] is not None)
        described = server.client.get("/v1/models/breast-cancer").json()
        assert "model.onnx does not match its sum" in described["refusal"]
        assert described["version"] == "1"
        assert server.client.post(DECIDE, content=example_body, headers=JSON).json()["version"] == "1"
        assert server.client.get("/readyz").status_code == 200
        assert "still serving the versions of breast-cancer that were loaded before" in server.log.read_text()
        set_alias(repository, "breast-cancer", "stable", 1)
        wait_for(lambda: server.client.get("/v1/models/breast-cancer").json()["refusal"] is None)


def test_sighup_reloads_at_once(serving: Callable[..., AbstractContextManager[Any]], repository: Repository) -> None:
    with serving(repository.root, TEMPERANCE_RELOAD_SECONDS="0") as server:
        set_alias(repository, "breast-cancer", "stable", publish_another_price(repository, 60))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: cost_of_a_dismissal(server) == 60)


def test_several_workers_count_together_survive_the_death_of_one_and_reload_alike(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, example_body: bytes
) -> None:
    with serving(repository.root, "--workers", "2", TEMPERANCE_RELOAD_SECONDS="0.05") as server:

        def answered() -> float:
            # A connection of its own each time: the kernel deals connections out, not requests.
            metrics = httpx.get(f"{server.client.base_url}/metrics", timeout=30).text
            return sum(
                float(line.rpartition(" ")[2])
                for line in metrics.splitlines()
                if line.startswith("temperance_rows_total")
            )

        def post() -> httpx.Response:
            return httpx.post(f"{server.client.base_url}{DECIDE}", content=example_body, headers=JSON, timeout=30)

        for _ in range(20):
            assert post().status_code == 200
        assert {answered() for _ in range(10)} == {20.0}
        workers = serving_workers(server)
        assert len(workers) == 2
        os.kill(min(workers), signal.SIGKILL)
        wait_for(lambda: len(serving_workers(server) - workers) == 1)
        assert answered() == 20.0
        set_alias(repository, "breast-cancer", "stable", publish_another_price(repository, 60))
        wait_for(lambda: {post().json()["version"] for _ in range(10)} == {"2"})


def test_more_threads_than_processors_are_warned_of(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository
) -> None:
    with serving(repository.root, TEMPERANCE_THREADS="256") as server:
        assert f"256 threads of all workers share {available_cpus()} processors" in server.log.read_text()


def test_workers_share_the_processors_where_no_number_of_threads_is_set() -> None:
    assert threads_of(Settings(threads=0)) == available_cpus()
    assert threads_of(Settings(threads=0, workers=256)) == 1
    assert threads_of(Settings(threads=3, workers=2)) == 3


def serving_workers(server: Any) -> set[int]:
    """Processes that the supervisor keeps."""
    children = psutil.Process(server.process.pid).children()
    alive = (child for child in children if child.status() != psutil.STATUS_ZOMBIE)
    return {child.pid for child in alive if "spawn_main" in str(child.cmdline())}
