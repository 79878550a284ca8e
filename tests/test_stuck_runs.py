"""A run that nothing can stop, in a real server."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from service.bundle.repository import Repository
from service.stuck_runs import DRAIN_SECONDS, EXIT_CODE, GRACE_SECONDS
from tests.load.endless import published

PAUSED = """\
import asyncio
from prometheus_client import CollectorRegistry, Counter
from service.api.ending import Ending
from service.stuck_runs import GRACE_SECONDS, StuckRuns

late = [GRACE_SECONDS + 60.0] * 3

async def serve() -> None:
    count = Counter("given_up", "given up", registry=CollectorRegistry())
    async with StuckRuns(lambda: late.pop() if late else 0.0, Ending(), seconds=60.0, count=count).watched():
        while late:
            await asyncio.sleep(0.01)

asyncio.run(serve())
"""
BOXES_OF_MINUTES = 600_000.0  # compared in pairs; what comes before that takes milliseconds
DEADLINE = 2.0  # on a busy machine a request with less time may never be run


def one_long_operator() -> ModelProto:
    """A graph that hands its input on, after one operator compared as many boxes in pairs as the input says."""
    node, constant = helper.make_node, numpy_helper.from_array
    floats = {"zero": 0.0, "one": 1.0, "half": [[[0.5]]], "overlap": [0.5], "lowest": [-1.0]}
    integers = {"most": [1 << 40], "column": [1, -1, 1], "row": [1, 1, -1]}
    constants = [constant(np.array(value, np.float32), name) for name, value in floats.items()]
    constants += [constant(np.array(value, np.int64), name) for name, value in integers.items()]
    nodes = [
        node("ReduceMax", ["x"], ["largest"], keepdims=0),
        node("Max", ["largest", "one"], ["count"]),
        node("Range", ["zero", "count", "one"], ["places"]),
        node("Reshape", ["places", "column"], ["low"]),
        node("Add", ["low", "half"], ["high"]),
        node("Concat", ["low", "low", "high", "high"], ["boxes"], axis=2),
        node("Reshape", ["places", "row"], ["box_scores"]),
        node("NonMaxSuppression", ["boxes", "box_scores", "most", "overlap", "lowest"], ["kept"]),
        node("Cast", ["kept"], ["kept_numbers"], to=TensorProto.FLOAT),
        node("ReduceMax", ["kept_numbers"], ["last"], keepdims=0),
        node("Mul", ["last", "zero"], ["nothing"]),
        node("Add", ["x", "nothing"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one-long-operator",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def models(repository: Repository, tmp_path: Path) -> Path:
    """The shipped model, and one of each execution that does not end."""
    for execution in ("thread", "inline"):
        published(repository, tmp_path, f"stuck-{execution}", execution=execution, graph=one_long_operator())
    return repository.root


Serving = Callable[..., AbstractContextManager[Any]]


def test_a_process_that_was_suspended_during_a_run_gets_time_to_end_it() -> None:
    """Whoever suspends a process suspends its runs: their deadlines pass, and nothing is stuck."""
    assert subprocess.run([sys.executable, "-c", PAUSED], check=False, timeout=30).returncode == 0


def begin_a_stuck_run(url: str, execution: str) -> tuple[threading.Thread, list[int]]:
    """Sends the request; its status comes when it is answered, and 0 if it is not."""
    statuses: list[int] = []

    def post() -> None:
        try:
            body = {"instances": [[BOXES_OF_MINUTES, 0.0]]}
            statuses.append(httpx.post(f"{url}/v1/models/stuck-{execution}:predict", json=body, timeout=60).status_code)
        except httpx.TransportError:
            statuses.append(0)

    thread = threading.Thread(target=post)
    thread.start()
    return thread, statuses


@pytest.mark.long
def test_a_run_that_does_not_end_ends_its_process_after_the_requests_of_others(
    serving: Serving, models: Path, test_rows: list[list[float]]
) -> None:
    with serving(models, TEMPERANCE_DEADLINE=str(DEADLINE)) as server:
        began = time.monotonic()
        thread, statuses = begin_a_stuck_run(str(server.client.base_url), "thread")
        answers = []
        while server.process.poll() is None and time.monotonic() < began + 30:
            try:
                answers.append(server.post("decide", {"instances": test_rows[:1]}).status_code)
            except httpx.TransportError:
                break  # the socket is closed
            time.sleep(0.02)
        thread.join()
        assert server.process.wait(timeout=30) == EXIT_CODE
        assert time.monotonic() - began < DEADLINE + GRACE_SECONDS + DRAIN_SECONDS
        assert statuses == [504]
        assert set(answers) <= {200, 503}
        assert answers.count(200) > 20
        log = server.log.read_text()
    assert "a run did not end after its deadline" in log
    assert "Traceback" not in log


def test_a_run_that_holds_the_event_loop_ends_its_process(serving: Serving, models: Path) -> None:
    with serving(models, TEMPERANCE_DEADLINE=str(DEADLINE)) as server:
        began = time.monotonic()
        thread, _ = begin_a_stuck_run(str(server.client.base_url), "inline")
        assert server.process.wait(timeout=30) == EXIT_CODE
        assert time.monotonic() - began < DEADLINE + GRACE_SECONDS + DRAIN_SECONDS
        thread.join()


def test_an_end_does_not_wait_for_a_run_that_does_not_end_and_has_exit_code_0(serving: Serving, models: Path) -> None:
    with serving(models, TEMPERANCE_DEADLINE=str(DEADLINE)) as server:
        thread, statuses = begin_a_stuck_run(str(server.client.base_url), "thread")
        thread.join()
        assert statuses == [504]  # so the run is overdue, and not yet given up
        server.client.close()
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - began < DEADLINE + 2


def test_a_worker_that_was_given_up_is_replaced(serving: Serving, models: Path, test_rows: list[list[float]]) -> None:
    with serving(models, "--workers", "2", TEMPERANCE_DEADLINE=str(DEADLINE)) as server:
        url = str(server.client.base_url)
        before = workers_of(server.process.pid)
        thread, statuses = begin_a_stuck_run(url, "thread")
        began, answers = time.monotonic(), []
        while len(workers_of(server.process.pid) - before) == 0:
            answers.append(post_again(f"{url}/v1/models/breast-cancer:decide", {"instances": test_rows[:1]}))
            assert time.monotonic() - began < DEADLINE + GRACE_SECONDS + DRAIN_SECONDS
            time.sleep(0.05)
        thread.join()
        assert statuses == [504]
        assert {answer.status_code for answer in answers} == {200}
        metrics = httpx.get(f"{url}/metrics", timeout=30).text
        assert "temperance_given_up_processes_total 1.0" in metrics


def post_again(url: str, body: object) -> httpx.Response:
    """An answer; a connection that a worker's end met is made once more, as clients do."""
    try:
        return httpx.post(url, json=body, timeout=30)
    except httpx.TransportError:
        return httpx.post(url, json=body, timeout=30)


def workers_of(parent: int) -> set[int]:
    children = psutil.Process(parent).children()
    alive = (child for child in children if child.status() != psutil.STATUS_ZOMBIE)
    return {child.pid for child in alive if "spawn_main" in str(child.cmdline())}
