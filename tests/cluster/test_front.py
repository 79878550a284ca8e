"""The front: where requests go, and what of a request reaches a group."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson
import pytest

from service.cluster.forwarded import Forwarded, Reply
from service.cluster.front import Bounds, Front
from service.errors import NotReady

BOUNDS = Bounds(root_path="/t", body_bytes=1000, body_seconds=0.2)


@dataclass
class Group:
    """Replicas that answer what they were sent."""

    name: str
    requests: list[Forwarded] = field(default_factory=list)
    is_dead: bool = False

    async def one(self, request: Forwarded, model: str | None) -> Reply:
        if self.is_dead:
            raise NotReady("none")
        self.requests.append(request)
        body = orjson.dumps({"models": [self.name], "model": model})
        return Reply(200, ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))), body)

    async def each(self, request: Forwarded) -> list[Reply]:
        self.requests.append(request)
        text = b"# TYPE x gauge\nx 1.0\n"
        return [Reply(200, ((b"content-length", b"%d" % len(text)),), text, replica=f"{self.name}{n}") for n in (1, 2)]


@pytest.fixture
def groups() -> dict[str, Group]:
    return {"a": Group("a"), "b": Group("b")}


@pytest.fixture
async def client(groups):
    front = Front(groups, lambda model: "b" if model == "of-b" else "a", BOUNDS)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=front), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/of-b:predict", "b"),
        ("/t/v1/models/of-b:predict", "b"),
        ("/v2/models/of-b/infer", "b"),
        ("/v1/models/unknown:predict", "a"),
        ("/v1/outcomes", "a"),
        ("/nothing", "a"),
    ],
)
async def test_a_request_goes_to_the_group_of_its_model_and_any_other_to_the_first(client, path, name):
    assert (await client.post(path, content=b"{}")).json()["models"] == [name]


async def test_a_request_about_all_models_goes_to_every_group(client):
    assert (await client.get("/v1/models")).json()["models"] == ["a", "b"]
    assert (await client.get("/t/readyz")).json()["models"] == ["a", "b"]


async def test_metrics_are_those_of_every_replica(client):
    shown = (await client.get("/metrics")).text
    assert [line for line in shown.splitlines() if line[0] == "x"] == [
        f'x{{replica="{name}"}} 1.0' for name in ("a1", "a2", "b1", "b2")
    ]


async def test_header_fields_and_body_arrive_as_they_were_sent_and_nothing_is_added(client, groups):
    own = {"Authorization": "Bearer x", "X-Forwarded-For": "203.0.113.1", "X-Request-Id": "mine"}
    await client.post("/v1/models/of-b:predict?q=%20", content=b"\x00\xff", headers=own)
    (request,) = groups["b"].requests
    sent = dict(request.headers)
    assert sent[b"authorization"] == b"Bearer x"
    assert sent[b"x-forwarded-for"] == b"203.0.113.1"
    assert set(sent) == {
        *(b"host", b"accept", b"accept-encoding", b"connection", b"user-agent", b"content-length"),
        *(b"authorization", b"x-forwarded-for", b"x-request-id"),
    }
    assert request.body == b"\x00\xff"
    assert request.scope["query_string"] == b"q=%20"


async def test_a_body_beyond_all_bounds_is_not_held_and_the_group_refuses_it(client, groups):
    async def endless():
        for _ in range(100):
            yield b"x" * 100

    await client.post("/v1/models/of-b:predict", content=b"x" * 1001)
    await client.post("/v1/models/of-b:predict", content=endless())
    for request in groups["b"].requests:
        assert request.body == b""
        assert dict(request.headers)[b"content-length"] == b"1001"
        assert b"transfer-encoding" not in dict(request.headers)


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
async def test_a_large_body_is_not_copied_to_every_group(groups, path):
    front = Front(groups, lambda _: "a", replace(BOUNDS, body_bytes=1_000_000))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=front), base_url="http://test") as client:
        await client.post(path, content=b"x" * 5000)
        await client.post(path, content=b"{}")
    for group in groups.values():
        large, small = group.requests
        assert (large.body, dict(large.headers)[b"content-length"]) == (b"", b"1000001")
        assert small.body == b"{}"


async def test_a_body_that_does_not_arrive_in_time_is_a_problem_with_an_id():
    async def slow():
        yield b"x"
        await asyncio.Event().wait()

    got = await called(Front({"a": Group("a")}, lambda _: "a", BOUNDS), slow().__anext__)
    assert got["status"] == 408
    assert dict(got["headers"])[b"temperance-id"]


async def test_a_group_without_a_replica_is_503_and_a_service_as_ready_as_its_least_ready_group(client, groups):
    groups["b"].is_dead = True
    refused = await client.post("/v1/models/of-b:predict", content=b"{}")
    assert refused.status_code == (await client.get("/readyz")).status_code == 503
    assert refused.json()["type"].endswith("not-ready")
    assert refused.headers["Temperance-Id"] in refused.json()["instance"]
    assert (await client.get("/v1/outcomes")).status_code == 200


async def test_with_an_application_of_its_own_only_metrics_need_the_other_replicas(groups):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    front = Front({"a": groups["a"]}, lambda _: "a", BOUNDS, app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=front), base_url="http://test") as client:
        assert (await client.get("/v1/models")).status_code == 204
        assert (await client.get("/metrics")).status_code == 200


async def test_a_client_that_disconnects_ends_the_request_to_its_group():
    began, ended = asyncio.Event(), asyncio.Event()

    class Slow(Group):
        async def one(self, request: Forwarded, model: str | None) -> Reply:
            del request, model
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await began.wait()
        return {"type": "http.disconnect"}

    front = Front({"a": Slow("a")}, lambda _: "a", BOUNDS)
    scope = {"type": "http", "method": "GET", "path": "/v1/outcomes", "headers": []}
    await front(scope, receive, _refuse)
    await asyncio.wait_for(ended.wait(), 30)


async def test_a_lifespan_begins_and_ends():
    messages, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    await Front({}, str, BOUNDS)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def _refuse(message: object) -> None:
    raise AssertionError(message)


async def called(front: Front, part: Callable[[], Awaitable[bytes]]) -> dict[str, Any]:
    """The start of the answer to a request whose body comes in parts."""
    sent: list[dict[str, Any]] = []

    async def receive():
        return {"type": "http.request", "body": await part(), "more_body": True}

    async def send(message):
        sent.append(message)

    await front({"type": "http", "method": "POST", "path": "/v1/outcomes", "headers": []}, receive, send)
    return sent[0]
