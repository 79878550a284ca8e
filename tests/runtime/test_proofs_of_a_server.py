"""A real `temperance serve` with a graph that never ends: refused in time, and nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.runtime.proofs import MODULE
from service.runtime.proven_versions import FILE, FOLDER
from tests.small_graphs import graph, loop, node, publish_unloaded

TEMPERANCE = Path(sys.executable).with_name("temperance")
Serving = Callable[..., Any]


@pytest.fixture
def small(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "models")
    publish_unloaded(repository, tmp_path, "good", graph(node("Identity")))
    return repository


def proving(parent: int | None = None) -> list[int]:
    """Processes that prove, of any process or of one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, status = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:
            continue
        state, owner = status.rpartition(")")[2].split()[:2]
        if MODULE.encode() in command and state != "Z" and parent in (None, int(owner)):
            found.append(int(folder.name))
    return found


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def started(models: Path, data: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """`temperance serve`, whether or not it ever serves."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TEMPERANCE_")}
    variables = {"TEMPERANCE_DATA": str(data), "TEMPERANCE_MODELS": str(models), "TEMPERANCE_PORT": "0", **environment}
    command = [str(TEMPERANCE), "serve"]
    with subprocess.Popen(command, env={**clean, **variables}, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_graph_that_never_ends_stops_a_strict_start_with_one_line(small: Repository, tmp_path: Path) -> None:
    publish_unloaded(small, tmp_path, "endless", loop())
    limits = {"TEMPERANCE_LOAD_SECONDS": "0.5", "TEMPERANCE_WORKERS": "2"}
    with started(small.root, tmp_path / "data", **limits) as process:
        _, log = process.communicate(timeout=60)
        assert process.returncode == 1
    lines = [line for line in log.splitlines() if "endless/1: it did not load" in line]
    assert len(lines) == 1
    assert "Traceback" not in log
    assert "listening" not in log


def test_the_other_models_serve_where_the_start_is_not_strict(
    serving: Serving, small: Repository, tmp_path: Path
) -> None:
    publish_unloaded(small, tmp_path, "endless", loop())
    with serving(small.root, TEMPERANCE_STRICT_START="false", TEMPERANCE_LOAD_SECONDS="0.5") as server:
        rows = {"instances": [[1.0, 2.0]]}
        assert server.post("predict", rows, model="good").status_code == 200
        assert server.post("predict", rows, model="endless").status_code in {404, 503}


def test_workers_and_later_starts_prove_nothing_again(serving: Serving, small: Repository, tmp_path: Path) -> None:
    data = tmp_path / "data"
    file, written = data / FOLDER / FILE, set[int]()
    for workers in ("1", "2"):
        with serving(small.root, TEMPERANCE_DATA=str(data), TEMPERANCE_WORKERS=workers):
            written.add(file.stat().st_ino)
    assert len(written) == 1  # a process that proves writes another file


def test_an_alias_that_moves_to_a_graph_without_end_is_refused_and_the_old_version_serves(
    serving: Serving, small: Repository, tmp_path: Path
) -> None:
    options = {"TEMPERANCE_LOAD_SECONDS": "1", "TEMPERANCE_RELOAD_SECONDS": "0.2"}
    with serving(small.root, **options) as server:
        set_alias(small, "good", "stable", publish_unloaded(small, tmp_path, "good", loop()))
        wait_for(lambda: "did not load" in str(server.client.get("/v1/models/good").json().get("refusal")))
        assert server.post("predict", {"instances": [[1.0, 2.0]]}, model="good").status_code == 200
        wait_for(lambda: proving(server.process.pid) == [])


@pytest.mark.parametrize(("sign", "seconds"), [(signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)])
def test_the_end_of_a_server_is_the_end_of_its_proof(
    serving: Serving, small: Repository, tmp_path: Path, sign: signal.Signals, seconds: float
) -> None:
    with serving(small.root, TEMPERANCE_LOAD_SECONDS="600", TEMPERANCE_RELOAD_SECONDS="0.2") as server:
        set_alias(small, "good", "stable", publish_unloaded(small, tmp_path, "good", loop()))
        wait_for(lambda: proving(server.process.pid))
        (pid,) = proving(server.process.pid)
        server.process.send_signal(sign)
        server.process.wait(timeout=seconds)
        wait_for(lambda: pid not in proving(), seconds=5.0)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_start_is_the_end_of_its_proof(small: Repository, tmp_path: Path, sign: signal.Signals) -> None:
    publish_unloaded(small, tmp_path, "endless", loop())
    with started(small.root, tmp_path / "data", TEMPERANCE_LOAD_SECONDS="600") as process:
        wait_for(lambda: proving(process.pid))
        (pid,) = proving(process.pid)
        process.send_signal(sign)
        process.communicate(timeout=5)
        wait_for(lambda: pid not in proving(), seconds=5.0)
