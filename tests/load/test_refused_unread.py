"""Thousands of requests at once, while some are refused anyway: the others are refused unread."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.api.loop_load import LASTING_SECONDS, MOST_REQUESTS, LoopLoad, Overload
from service.bundle.repository import Repository
from tests.load.endless import STEPS, published

CALLERS = 4 * MOST_REQUESTS
ROUNDS = 4
BODY = json.dumps({"instances": [[STEPS, 0.0]]}).encode()
HEAD = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
PREDICT = "/v1/models/endless:predict"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def test_so_many_requests_in_one_turn_are_too_many_only_while_others_are_refused() -> None:
    loop = asyncio.get_running_loop()
    calm, refusing = Overload(), Overload(refused_at=loop.time())
    load = LoopLoad()
    assert not any(load.is_high(loop, calm) for _ in range(2 * MOST_REQUESTS))
    assert load.is_high(loop, refusing)
    await asyncio.sleep(0)
    assert [load.is_high(loop, refusing) for _ in range(MOST_REQUESTS + 1)] == [False] * MOST_REQUESTS + [True]
    refusing.refused_at -= 2 * LASTING_SECONDS
    assert not load.is_high(loop, refusing)


def post(path: str) -> bytes:
    return HEAD.format(path=path, length=len(BODY)).encode() + BODY


async def answer_on(streams: Streams) -> tuple[bytes, bytes]:
    head = await asyncio.wait_for(streams[0].readuntil(b"\r\n\r\n"), 30.0)
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return head, await streams[0].readexactly(int(length[1]))


async def at_once(server: Any, callers: list[Streams], *paths: str) -> list[tuple[bytes, bytes]]:
    """Answers to requests that lie in the server's sockets when it goes on."""
    os.kill(server.process.pid, signal.SIGSTOP)
    for number, (_, writer) in enumerate(callers):
        writer.write(post(paths[number % len(paths)]))
    await asyncio.gather(*(writer.drain() for _, writer in callers))
    os.kill(server.process.pid, signal.SIGCONT)
    return await asyncio.gather(*(answer_on(streams) for streams in callers))


async def crowd(server: Any) -> list[tuple[bytes, bytes]]:
    port = server.client.base_url.port
    callers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CALLERS)]
    running = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in running:  # one runs and one waits, so that the queue is full
        writer.write(post(PREDICT))
    answers: list[tuple[bytes, bytes]] = []
    for _ in range(ROUNDS):  # the first is read as a whole, and shows that requests are refused
        answers += await at_once(server, callers, PREDICT, "/v2/models/endless/infer")
    for _, writer in callers:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    alive = await asyncio.gather(*(answer_on(streams) for streams in callers))
    assert all(head.startswith(b"HTTP/1.1 200 ") for head, _ in alive)
    for _, writer in [*callers, *running]:
        writer.close()
    return answers


@pytest.fixture
def models(repository: Repository, tmp_path: Path) -> Path:
    published(repository, tmp_path, "endless", queue=1)
    return repository.root


def test_requests_are_refused_unread_in_the_form_of_all_refusals_and_their_connections_stay(
    serving: Callable[..., AbstractContextManager[Any]], models: Path
) -> None:
    with serving(models, TEMPERANCE_DEADLINE="2") as server:
        answers = asyncio.run(crowd(server))
        metrics = server.client.get("/metrics").text
    statuses = {head.split(b" ", 2)[1] for head, _ in answers}
    assert statuses <= {b"422", b"503", b"504"}  # those of /v2 that were read have no inputs, and some were run
    refused = [(head.lower(), body) for head, body in answers if head.startswith(b"HTTP/1.1 503 ")]
    assert all(re.search(rb"\r\nretry-after: [1-9]\r\n", head) for head, _ in refused)
    assert all(b"\r\ntemperance-id: " in head for head, _ in refused)
    documents = [json.loads(body) for _, body in refused]
    assert {document.get("type", "of /v2") for document in documents} == {"urn:temperance:problem:overloaded", "of /v2"}
    assert all("error" in document for document in documents if "type" not in document)
    unread = re.search(r'temperance_requests_total{method="POST",route="\(other\)",status="503"} (\d+)', metrics)
    assert unread is not None
    assert int(unread[1]) >= MOST_REQUESTS
    assert len({re.search(rb"temperance-id: (\S+)", head)[1] for head, _ in refused}) == len(refused)  # type: ignore[index]
