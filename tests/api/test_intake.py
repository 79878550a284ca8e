"""Requests are admitted before they are parsed, large ones before they are read, whatever the protocol."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message

from service.access.caller import ANONYMOUS
from service.api.addresses import Limits
from service.api.intake import LARGE, Intake
from service.api.large_bodies import LargeBodies
from service.api.v1.request_reader import RequestReader
from service.bundle.repository import Repository
from service.core.numerics import Array
from service.main import compose
from service.prediction.predictor import Predictor
from service.runtime.registry import Registry, load_registry
from service.settings import Settings
from service.telemetry import Telemetry


@dataclass
class Rows:
    """A request, read."""

    rows: Array


PATIENCE = 30.0
LONG = 8000
PREDICT = "/v1/models/heavy:predict"
DETECT = "/v1/models/heavy:detect"
INFER = "/v2/models/heavy/infer"


@pytest.fixture
def registry(heavy: Repository) -> Registry:
    return load_registry(heavy)


def instances(rows: int) -> bytes:
    return json.dumps({"instances": [[0.5, -0.5]] * rows}).encode()


def tensor(rows: int) -> bytes:
    shape = {"name": "x", "shape": [rows, 2], "datatype": "FP32"}
    return json.dumps({"inputs": [{**shape, "data": [0.5, -0.5] * rows}]}).encode()


PROTOCOLS: dict[str, tuple[str, Callable[[int], bytes]]] = {"v1": (PREDICT, instances), "v2": (INFER, tensor)}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> tuple[str, Callable[[int], bytes]]:
    return PROTOCOLS[request.param]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # a tally is no event, and takes part in what is tested
            await asyncio.sleep(0)


class Upload:
    """A body in parts, which counts how many of them were taken."""

    def __init__(self, body: bytes, parts: int = 16) -> None:
        self.taken = 0
        self.size = len(body)
        step = -(-len(body) // parts)
        self._parts = [body[i : i + step] for i in range(0, len(body), step)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            self.taken += 1
            yield part


@asynccontextmanager
async def client_of(registry: Registry, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(compose(Settings(audit="off", **settings), registry))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://temperance", headers={"content-type": "application/json"}
    ) as client:
        yield client


@asynccontextmanager
async def busy(registry: Registry, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose model is at work on many rows."""
    tally = registry.model("heavy").tally
    waited = tally.waited
    async with client_of(registry, **settings) as client:
        long = asyncio.ensure_future(client.post(DETECT, content=instances(LONG)))
        await until(lambda: tally.waited > waited)
        yield client
        assert (await long).status_code == 200


async def test_a_request_that_would_wait_too_long_is_refused_before_it_is_parsed(
    registry: Registry, protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, body = protocol
    async with busy(registry, queue_seconds=1e-6) as client:
        monkeypatch.setattr(RequestReader, "read", None)
        refused = await client.post(path, content=b"no JSON at all")
        monkeypatch.undo()
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 5
    async with client_of(registry, queue_seconds=1e-6) as client:
        assert (await client.post(path, content=body(1))).status_code == 200


async def test_a_large_body_is_refused_before_it_is_read(registry: Registry, protocol: Any) -> None:
    path, body = protocol
    upload = Upload(body(1) + b" " * LARGE)
    async with busy(registry, queue_seconds=1e-6) as client:
        headers = {"content-length": str(upload.size)}
        refused = await client.post(path, content=upload, headers=headers)
        assert (refused.status_code, upload.taken) == (503, 0)


async def test_a_body_beyond_the_limit_is_refused_for_its_length_however_much_waits(
    registry: Registry, protocol: Any
) -> None:
    path, _ = protocol
    async with busy(registry, queue_seconds=1e-6) as client:
        refused = await client.post(path, content=Upload(b"{"), headers={"content-length": str(1 << 40)})
        assert refused.status_code == 413
        assert refused.headers["connection"] == "close"


async def test_a_large_body_is_answered_as_small_ones_are(registry: Registry, protocol: Any) -> None:
    path, body = protocol
    async with client_of(registry) as client:
        answers = await asyncio.gather(
            client.post(path, content=body(LARGE // 8)),
            client.post(path, content=Upload(body(LARGE // 8))),
            client.post(path, content=body(1)),
        )
        assert [answer.status_code for answer in answers] == [200] * 3


async def test_a_small_body_that_was_compressed_is_read_as_a_large_one(registry: Registry) -> None:
    async with client_of(registry) as client:
        body, headers = gzip.compress(tensor(LARGE // 8)), {"content-encoding": "gzip"}
        assert len(body) < LARGE
        assert (await client.post(INFER, content=body, headers=headers)).status_code == 200
        assert (await client.post(INFER, content=b"none", headers=headers)).status_code == 400


async def test_a_large_body_at_fault_is_refused_as_a_small_one_is(registry: Registry, protocol: Any) -> None:
    path, body = protocol
    async with client_of(registry) as client:
        for bad in (body(LARGE // 8)[:-1], body(3)[:-1]):
            assert (await client.post(path, content=bad)).status_code == 400
        assert (await client.post(path, content=body(2))).status_code == 200


async def test_probes_are_answered_while_large_bodies_are_read(registry: Registry) -> None:
    running, threads = threading.active_count(), set[int]()
    async with client_of(registry, queue_seconds=60.0) as client:
        body = instances(10) + b" " * LARGE
        answers = [asyncio.ensure_future(client.post(PREDICT, content=body)) for _ in range(8)]
        probes = 0
        while not all(answer.done() for answer in answers):
            assert (await client.get("/livez")).status_code == 200
            probes += 1
            await asyncio.sleep(0)
            threads.add(threading.active_count())
        assert {answer.result().status_code for answer in answers} == {200}
    assert probes > len(answers)
    assert max(threads) <= running + 8


async def test_a_body_alone_is_read_though_it_has_more_bytes_than_all_may_have(registry: Registry) -> None:
    model = registry.model("heavy")
    queue = Predictor(Telemetry(CollectorRegistry()), lambda: datetime(2026, 1, 1, tzinfo=UTC)).queue(model)
    intake = Intake(model, queue, Limits(lambda: 1 << 30, 100, LargeBodies(most=LARGE)))
    body, later = b"x" * 4 * LARGE, time.monotonic() + PATIENCE
    scope = {"headers": [], "state": {"caller": ANONYMOUS, "deadline": later}}
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        for message in messages:
            return message
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    with intake.held(scope, receive) as held:
        sent = (await held())["body"]
        read = await intake.read(sent, lambda raw: Rows(np.zeros((len(raw), 2))), scope, held)
    assert len(read.rows) == len(body)
