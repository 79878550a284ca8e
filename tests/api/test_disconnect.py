"""The rows of a disconnected client leave the queue, and are never run."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message

from service.bundle.repository import Repository
from service.main import compose
from service.runtime.registry import Registry, load_registry
from service.settings import Settings

LONG, GONE, SHORT = 8000, 3, 2  # rows of the request that runs, of the client that disconnects, and of the next
PATIENCE = 30.0
COSTS = {"a": {"0": 0, "1": 1}, "b": {"0": 1, "1": 0}}


@pytest.fixture
def registry(heavy: Repository) -> Registry:
    return load_registry(heavy)


class Leaving:
    """A client that sends a body, and disconnects as soon as the service listens for that."""

    def __init__(self, path: str, body: Any) -> None:
        self.sent: list[Message] = []
        self.listened_to = False
        self._scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "http_version": "1.1",
            "scheme": "http",
            "server": ("temperance", 80),
        }
        self._messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def ask(self, served: ASGIApp) -> None:
        async with asyncio.timeout(PATIENCE):
            await served(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._messages:
            return self._messages.pop()
        self.listened_to = True
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


def rows(n: int) -> list[list[float]]:
    return [[0.5, -0.5]] * n


def tensor(n: int) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [n, 2], "datatype": "FP32", "data": [0.5, -0.5] * n}]}


QUESTIONS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "predict": ("/v1/models/heavy:predict", lambda n: {"instances": rows(n)}),
    "detect": ("/v1/models/heavy:detect", lambda n: {"instances": rows(n)}),
    "decide": ("/v1/models/heavy:decide", lambda n: {"instances": rows(n), "parameters": {"costs": COSTS}}),
    "columns": ("/v1/models/heavy:predict", lambda n: {"instances": rows(n), "parameters": {"layout": "columns"}}),
    "evaluate": ("/v1/models/heavy:evaluate", lambda n: {"instances": rows(n), "labels": ["0"] * n}),
    "infer": ("/v2/models/heavy/infer", tensor),
}


async def until(condition: Callable[[], bool]) -> None:
    """Until something is so, letting the loop turn."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # a tally is no event, and takes part in what is tested
            await asyncio.sleep(0)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_rows_of_a_disconnected_client_are_never_run(question: str, registry: Registry) -> None:
    path, body = QUESTIONS[question]
    served, tally = compose(Settings(audit="off", queue_seconds=PATIENCE), registry), registry.model("heavy").tally
    rows_before, runs, waited = tally.rows, tally.runs, tally.waited
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://temperance") as client:
        long = asyncio.ensure_future(client.post("/v1/models/heavy:detect", json={"instances": rows(LONG)}))
        await until(lambda: tally.waited > waited)  # the thread is at work
        leaving = Leaving(path, body(GONE))
        await leaving.ask(served)
        assert leaving.listened_to
        assert not long.done()
        short = asyncio.ensure_future(client.post(path, json=body(SHORT)))
        assert {(await long).status_code, (await short).status_code} == {200}
        exposed = (await client.get("/metrics")).text
    assert (tally.rows - rows_before, tally.runs - runs) == (LONG + SHORT, 2)
    assert 'status="499"} 1.0' in exposed
