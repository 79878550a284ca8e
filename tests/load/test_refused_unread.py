"""Thousands of requests at once, while some are refused anyway: the others are refused unread."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from uvicorn.server import ServerState

from service.api.connection_scan import ConnectionScan
from service.api.ending import ENDING, Ending
from service.api.http_limits import MOST_UNREAD, HttpLimits
from service.api.http_protocol import StrictHttpProtocol
from service.api.loop_load import LASTING_SECONDS, MOST_REQUESTS, LoopLoad, Overload
from service.api.refusals import REFUSALS, Refusals
from service.telemetry import Telemetry

HEAD = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
PREDICT, INFER = "/v1/models/m:predict", "/v2/models/m/infer"


class Wire(asyncio.Transport):
    """Keeps what is written to a client."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self.ends = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.ends[0] if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class Busy:
    """A connection of a process that refuses requests, in a turn of its loop in which many have come."""

    def __init__(self) -> None:
        self.wire, self.reached, self.registry = Wire(), 0, CollectorRegistry()
        self.overload = Overload(refused_at=time.monotonic())
        ids = (f"{number:08d}-0000-7000-8000-000000000000" for number in range(1000))
        refusals = Refusals(Telemetry(self.registry), lambda: next(ids), self.overload)
        self.load, loop = LoopLoad(), asyncio.get_running_loop()
        config = uvicorn.Config(self.app, ws="none", interface="asgi3")
        config.load()
        self.protocol = StrictHttpProtocol(
            config,
            ServerState(),
            {REFUSALS: refusals, ENDING: Ending()},
            loop,
            limits=HttpLimits(),
            scan=ConnectionScan(),
            load=self.load,
        )
        self.protocol.connection_made(self.wire)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        self.reached += 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def post(self, path: str = PREDICT, body: bytes = b"{}", *fields: str) -> None:
        for _ in range(MOST_REQUESTS):  # of others, in the same turn
            self.load.is_high(asyncio.get_running_loop(), self.overload)
        head = HEAD.format(path=path, length=len(body)) + "".join(f"{field}\r\n" for field in fields)
        self.protocol.data_received(head.encode() + b"\r\n" + body)

    def answer(self) -> tuple[bytes, dict[str, Any]]:
        head, _, body = self.wire.written.partition(b"\r\n\r\n")
        self.wire.written = b""
        assert int(re.findall(rb"content-length: (\d+)", head)[0]) == len(body)
        return head, json.loads(body)


@pytest.fixture
async def busy() -> AsyncIterator[Busy]:
    made = Busy()
    yield made
    made.protocol.connection_lost(None)
    for end in made.wire.ends:
        end.close()


async def test_so_many_requests_in_one_turn_are_too_many_only_while_others_are_refused() -> None:
    loop = asyncio.get_running_loop()
    calm, refusing = Overload(), Overload(refused_at=time.monotonic())
    load = LoopLoad()
    assert not any(load.is_high(loop, calm) for _ in range(2 * MOST_REQUESTS))
    assert load.is_high(loop, refusing)
    await asyncio.sleep(0)
    assert [load.is_high(loop, refusing) for _ in range(MOST_REQUESTS + 1)] == [False] * MOST_REQUESTS + [True]
    refusing.refused_at -= 2 * LASTING_SECONDS
    assert not load.is_high(loop, refusing)


async def test_a_request_is_refused_unread_in_the_form_of_all_refusals(busy: Busy) -> None:
    ids = set()
    for _ in range(3):
        busy.post()
        head, document = busy.answer()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert re.search(rb"\r\nretry-after: [1-9]\r\n", head)
        assert document["type"] == "urn:temperance:problem:overloaded"
        (own,) = re.findall(rb"\r\ntemperance-id: (\S+)", head)
        assert document["instance"] == f"urn:uuid:{own.decode()}"
        ids.add(own)
    busy.post(INFER)
    assert "error" in busy.answer()[1]
    assert len(ids) == 3
    assert busy.reached == 0
    counted = generate_latest(busy.registry).decode()
    assert 'temperance_requests_total{method="POST",route="(other)",status="503"} 4.0' in counted
    assert 'temperance_refusals_total{code="overloaded"} 4.0' in counted


async def test_the_connection_stays_for_the_next_request(busy: Busy) -> None:
    busy.post()
    busy.answer()
    assert not busy.wire.is_closed
    busy.overload.refused_at -= 2 * LASTING_SECONDS
    busy.post()
    await asyncio.sleep(0.01)
    assert busy.reached == 1


async def test_a_large_body_is_not_read_to_its_end(busy: Busy) -> None:
    busy.post(PREDICT, b"1" * (MOST_UNREAD + 1))
    assert busy.answer()[0].startswith(b"HTTP/1.1 503 ")
    assert busy.protocol.has_ended


@pytest.mark.parametrize("field", ["Connection: close", "Expect: 100-continue"])
async def test_a_request_after_which_the_connection_cannot_stay_is_answered_as_usual(busy: Busy, field: str) -> None:
    busy.post(PREDICT, b"{}", field)
    await asyncio.sleep(0.01)
    assert busy.reached == 1


async def test_probes_are_never_refused(busy: Busy) -> None:
    busy.protocol.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.01)
    assert busy.reached == 1
