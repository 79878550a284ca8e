"""The endpoint of a verb: whatever comes together, each request gets its own answer."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import tomlkit

from service.api.v1.endpoint import VerbEndpoint
from service.api.v1.verbs import VERBS
from service.errors import DeadlineExceeded
from service.main import compose
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.runtime.timing import Tally
from service.settings import Settings

NAME = "/v1/models/breast-cancer"
DECIDE = f"{NAME}:decide"
WIDTH = 30


@pytest.fixture
def tally(shipped_model: Model, monkeypatch: pytest.MonkeyPatch) -> Tally:
    """What the model did before; the fixture's user looks at what is added."""
    del monkeypatch
    return shipped_model.tally


def numbers_of(row: dict[str, Any]) -> list[float]:
    scores = [score["score"] for score in row["ood"]["scores"].values()]
    return [*row["probabilities"].values(), *scores, *row["decision"]["risks"].values(), row["decision"]["margin"]]


def rounded(value: Any) -> Any:
    """A document without what differs from answer to answer, to as many digits as do not depend on the batch."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items() if name != "prediction_id"}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


async def test_each_of_many_requests_at_once_gets_the_answer_it_gets_alone(
    client: httpx.AsyncClient, test_rows: list[list[float]], tally: Tally
) -> None:
    parts = [test_rows[i : i + 1 + i % 3] for i in range(40)]
    alone = [(await client.post(DECIDE, json={"instances": part})).json() for part in parts]
    before = tally.runs
    together = await asyncio.gather(*(client.post(DECIDE, json={"instances": part}) for part in parts))
    assert tally.runs - before < len(parts) / 2
    assert len({answer.headers["temperance-id"] for answer in together}) == len(parts)
    for one, answer in zip(alone, together, strict=True):
        found = answer.json()
        assert found["id"] == answer.headers["temperance-id"]
        assert [row["prediction_id"] for row in found["predictions"]] == [
            f"{found['id']}.{i}" for i in range(len(one["predictions"]))
        ]
        for mine, other in zip(one["predictions"], found["predictions"], strict=True):
            assert numbers_of(mine) == pytest.approx(numbers_of(other), rel=1e-12, abs=1e-15)
            assert mine["decision"]["action"] == other["decision"]["action"]


@pytest.mark.parametrize(
    "fault",
    [[[None] * WIDTH], [[1e39] * WIDTH], [[1.0, 2.0]], [[1.0] * WIDTH, [1.0]], [[[1.0]] * WIDTH], [[10**400] * WIDTH]],
)
async def test_a_request_at_fault_is_refused_alone(
    client: httpx.AsyncClient, test_rows: list[list[float]], fault: list[Any]
) -> None:
    bodies = [{"instances": [row]} for row in test_rows[:12]]
    bodies[5] = {"instances": fault}
    alone = await client.post(DECIDE, json=bodies[5])
    answers = await asyncio.gather(*(client.post(DECIDE, json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [alone.status_code if i == 5 else 200 for i in range(12)]
    assert alone.status_code in (400, 422)
    assert {**answers[5].json(), "instance": ""} == {**alone.json(), "instance": ""}


async def test_every_verb_and_parameter_is_answered_for_itself_and_all_share_runs(
    client: httpx.AsyncClient, test_rows: list[list[float]], tally: Tally
) -> None:
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("predict", {}),
        ("detect", {}),
        ("decide", {}),
        ("decide", {"site": "screening"}),
        ("decide", {"top_k": 1}),
        ("decide", {"ids": ["mine"]}),
        ("decide", {"layout": "columns"}),
        ("decide", {"coverage": 0.9}),
        ("detect", {"fdr": 0.1}),
    ]

    async def ask(verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer = await client.post(f"{NAME}:{verb}", json={"instances": test_rows[:1], "parameters": parameters})
        found: dict[str, Any] = answer.json()
        return {name: value for name, value in found.items() if name not in {"id", "created"}}

    alone = [rounded(await ask(*kind)) for kind in kinds]
    before = tally.runs
    together = await asyncio.gather(*(ask(*kind) for kind in kinds * 4))
    assert [rounded(found) for found in together] == alone * 4
    assert tally.runs - before <= 8


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 415),
        ([("content-type", "")], 415),
        ([("content-type", "text/plain")], 415),
        ([("content-type", "application/json; charset=utf-8")], 200),
        ([("content-type", "application/json; charset=utf-16")], 415),
        ([("content-type", "application/json"), ("content-type", "application/json")], 415),
        ([("content-type", "application/json, text/plain")], 415),
        ([("content-type", "multipart/form-data; boundary=x")], 415),
        ([("content-type", "application/x-www-form-urlencoded")], 415),
        ([("content-type", "application/x-python-pickle")], 415),
        ([("content-type", "application/octet-stream")], 415),
        ([("content-type", "application/yaml")], 415),
        ([("content-type", "application/xml")], 415),
        ([("content-type", "application/msgpack")], 415),
        ([("content-type", "application/json"), ("content-encoding", "gzip")], 415),
        ([("content-type", "application/json"), ("content-encoding", "br")], 415),
        ([("content-type", "application/json"), ("content-encoding", "gzip, identity")], 415),
        ([("content-type", "application/json"), ("content-encoding", "identity")], 200),
        ([("content-type", "application/json"), ("content-encoding", "gzip"), ("content-encoding", "identity")], 415),
    ],
)
async def test_headers_say_what_a_body_is(
    client: httpx.AsyncClient, test_rows: list[list[float]], headers: list[tuple[str, str]], status: int
) -> None:
    answer = await client.post(DECIDE, content=json.dumps({"instances": test_rows[:1]}).encode(), headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.json()["type"] == "urn:temperance:problem:unsupported-media-type"
        assert (answer.headers["accept"], answer.headers["accept-encoding"]) == ("application/json", "identity")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (DECIDE, 200),
        (f"{NAME}/versions/1:decide", 200),
        (f"{NAME}/labels/stable:predict", 200),
        (f"{NAME}/labels/nothing:predict", 404),
        (f"{NAME}/versions/9:detect", 404),
        (f"{NAME}/versions/x:detect", 404),
        ("/v1/models/unknown:decide", 404),
        (f"{NAME}:explain", 404),
    ],
)
async def test_a_path_names_a_model_a_version_and_a_verb(
    client: httpx.AsyncClient, test_rows: list[list[float]], path: str, status: int
) -> None:
    assert (await client.post(path, json={"instances": test_rows[:1]})).status_code == status


async def test_a_body_that_comes_in_pieces_is_the_body(client: httpx.AsyncClient, test_rows: list[list[float]]) -> None:
    body = json.dumps({"instances": test_rows[:2]}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    answer = await client.post(DECIDE, content=pieces(), headers={"content-type": "application/json"})
    assert len(answer.json()["predictions"]) == 2


async def test_a_body_beyond_the_limit_is_refused(
    client_of: Callable[..., httpx.AsyncClient], shipped: Registry
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"1," * (1 << 16)

    async with client_of(shipped, max_rows=4) as client:
        for content in (b'{"instances": [[' + b"1," * (1 << 20), endless()):
            answer = await client.post(DECIDE, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 413


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
async def test_names_that_would_mean_something_in_a_template_are_only_names(
    publish_logits: Callable[..., Registry], client_of: Callable[..., httpx.AsyncClient], verb: str, *, fitted: bool
) -> None:
    classes, actions = ("%b", "%" * 200, 'a "quote" \\ \t'), ("%d%%", "{0}", "%s")
    costs = {action: {name: abs(i - k) for k, name in enumerate(classes)} for i, action in enumerate(actions)}
    policies = tomlkit.dumps({"policies": {"%p": {"default": True, "on_ood": "%s", "costs": costs}}})
    rows = [[0.5, 1, 2], [3, 2, 1], [1e6, -1e6, 0]]
    async with client_of(publish_logits(classes, more=policies, fitted=fitted)) as client:
        answer = (await client.post(f"/v1/models/logits:{verb}", json={"instances": rows})).json()["predictions"]
    if verb != "detect":
        assert [row["label"] for row in answer] == [classes[2], classes[0], classes[0]]
        assert all(tuple(row["probabilities"]) == classes for row in answer)
    if verb == "decide":
        assert all(tuple(row["decision"]["risks"]) == actions for row in answer)


async def test_a_full_queue_refuses_and_has_room_again(
    publish_logits: Callable[..., Registry], client_of: Callable[..., httpx.AsyncClient]
) -> None:
    registry = publish_logits(("a", "b"), more='[runtime]\nqueue = 2\nexecution = "thread"\n')
    async with client_of(registry) as client:
        for _ in range(2):
            body = {"instances": [[0.0, 1.0]]}
            answers = await asyncio.gather(*(client.post("/v1/models/logits:predict", json=body) for _ in range(6)))
            assert {answer.status_code for answer in answers} == {200, 503}


async def test_metrics_and_log_lines_name_the_route(
    shipped: Registry, test_rows: list[list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    transport = httpx.ASGITransport(compose(Settings(audit="off"), shipped))
    bodies = [{"instances": test_rows[:2]}, {"instances": []}, {"instances": test_rows[:1], "parameters": {"top_k": 1}}]
    async with httpx.AsyncClient(transport=transport, base_url="http://temperance") as client:
        with caplog.at_level(logging.INFO, logger="temperance"):
            for body in bodies:
                await client.post(DECIDE, json=body)
            metrics = (await client.get("/metrics")).text
    fields = [vars(record) for record in caplog.records]
    lines = [[own["method"], own["route"], own["status"]] for own in fields if "route" in own]
    route = "/v1/models/{name}:decide"
    assert lines[:3] == [["POST", route, 200], ["POST", route, 422], ["POST", route, 200]]
    assert f'temperance_requests_total{{method="POST",route="{route}",status="200"}} 2.0' in metrics
    assert 'temperance_rows_total{model="breast-cancer",verb="decide",version="1"} 3.0' in metrics
    assert "temperance_actions_total{" in metrics


async def test_an_answer_that_takes_long_to_write_is_refused_at_its_deadline() -> None:
    gate = threading.Event()
    endpoint = VerbEndpoint(VERBS["evaluate"], cast("Any", None), clock=lambda: datetime.now(UTC))
    slow = SimpleNamespace(encoder=SimpleNamespace(write=lambda *_, **__: gate.wait(10.0)))
    joint, now = SimpleNamespace(answer=None, parts=[], bodies=None), asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await endpoint._write(cast("Any", joint), cast("Any", slow), now + 0.05)
    gate.set()
