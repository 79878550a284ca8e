"""Requests and answers as values: the application answers them as it does those of a connection."""

import asyncio
import pickle
import re

import httpx
import pytest

from service.cluster.forwarded import Forwardable, Forwarded, Reply
from service.main import compose, load
from service.settings import Settings
from tests.shipped_model import SHIPPED

NEW = re.compile(rb'"(?:id|prediction_id|created)":"[^"]*"')
HEADERS = ((b"host", b"test"), (b"content-type", b"application/json"), (b"x-request-id", b"mine"))


def scope(method: str, path: str, **more: object) -> dict[str, object]:
    own = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    return {**own, "http_version": "1.1", "scheme": "http", "headers": list(HEADERS), "state": {"a": object()}, **more}


@pytest.fixture(scope="module")
def app():
    settings = Settings(audit="off", models=SHIPPED)
    return compose(settings, load(settings))


async def test_an_answer_is_that_of_the_application_byte_for_byte(app, test_rows):
    body = httpx.Request("POST", "http://t", json={"instances": test_rows[:2]}).content
    path = "/v1/models/breast-cancer:predict"
    request = pickle.loads(pickle.dumps(Forwarded.of(scope("POST", path), body)))  # noqa: S301  # as between processes
    reply = await Forwardable(app).answer(request)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        direct = await client.post(path, content=body, headers=list(HEADERS))
    assert reply is not None
    assert reply.status == direct.status_code == 200
    assert [name for name, _ in reply.headers] == [name for name, _ in direct.headers.raw]
    assert NEW.sub(b"", reply.body) == NEW.sub(b"", direct.content)


async def test_a_caller_that_is_cancelled_is_a_client_that_disconnects():
    seen: list[str] = []
    ready = asyncio.Event()

    async def app(scope, receive, send):
        seen.append((await receive())["type"])
        ready.set()
        seen.append((await receive())["type"])

    answering = asyncio.create_task(Forwardable(app).answer(Forwarded.of(scope("POST", "/"), b"x")))
    await ready.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    while len(seen) < 2:
        await asyncio.sleep(0)
    assert seen == ["http.request", "http.disconnect"]


async def test_an_application_that_answers_nothing_gives_no_reply():
    async def app(scope, receive, send):
        del scope, receive, send

    assert await Forwardable(app).answer(Forwarded.of(scope("GET", "/"), b"")) is None


def test_what_a_forwarder_knows_of_a_request_does_not_travel():
    request = Forwarded.of(scope("GET", "/", root_path="/x", extensions={}), b"")
    assert "state" not in request.scope
    assert request.asgi()["state"] == {}
    assert request.asgi()["root_path"] == ""


def test_another_body_has_its_own_length():
    reply = Reply(200, ((b"content-length", b"3"), (b"x", b"y")), b"abc").with_body(b"abcd")
    assert reply.headers == ((b"x", b"y"), (b"content-length", b"4"))
