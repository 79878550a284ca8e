"""The edge: what it counts and logs, and what it answers when something breaks."""

import contextlib
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.app import AppParts, build_app
from service.api.correlation import Correlation
from service.api.edge import Edge
from service.api.problems import MEDIA_TYPE
from service.credentials import keys_of
from service.errors import ServiceError
from service.log_format import TextFormat
from service.main import checks_of
from service.prediction.predictor import Predictor
from service.prediction.queue import Queue
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.settings import Settings
from service.telemetry import Telemetry, TracedRequest

DECIDE = "/v1/models/breast-cancer:decide"
CANARY = "zq7canary"


class Breaking(Predictor):
    """A predictor that meets an unexpected error."""

    def __init__(self, telemetry: Telemetry, error: Exception) -> None:
        super().__init__(telemetry, lambda: datetime.now(UTC))
        self._error = error

    def queue(self, model: Model) -> Queue:
        del model
        raise self._error


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines of the log as they are written."""
    return [TextFormat().format(record) for record in caplog.records if record.name == "temperance"]


def parts_of(
    registry: Registry,
    predictor: Predictor,
    telemetry: Telemetry,
    *,
    trace: Callable[[TracedRequest], None] | None = None,
) -> AppParts:
    return AppParts(
        registry=registry,
        predictor=predictor,
        telemetry=telemetry,
        new_id=lambda: "request-1",
        version="0",
        max_body=1 << 20,
        max_rows=10,
        deadline=30.0,
        body_seconds=10.0,
        docs=True,
        exposed=telemetry.registry,
        checks=checks_of(Settings(), keys_of(Settings())),
        trace=trace,
    )


@pytest.fixture
def breaking(shipped: Registry) -> Callable[[Exception], httpx.AsyncClient]:
    """A client of the shipped models whose predictor raises what it is given."""

    def make(error: Exception) -> httpx.AsyncClient:
        telemetry = Telemetry(CollectorRegistry())
        parts = parts_of(shipped, Breaking(telemetry, error), telemetry)
        return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(parts)), base_url="http://temperance")

    return make


async def test_an_unexpected_error_is_a_problem_that_says_nothing_else(
    breaking: Callable[[Exception], httpx.AsyncClient], example_row: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="temperance"):
        async with breaking(ValueError(CANARY)) as client:
            answer = await client.post(DECIDE, json={"instances": [example_row]})
            exposed = (await client.get("/metrics")).text
    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert answer.json()["type"] == "urn:temperance:problem:internal"
    assert 'route="/v1/models/{name}:decide",status="500"} 1.0' in exposed
    logged = "\n".join(lines_of(caplog))
    assert "ValueError" in logged
    assert "test_edge.py" in logged
    assert answer.headers["temperance-id"] in logged
    assert CANARY not in answer.text + logged + caplog.text


async def test_an_error_of_our_own_that_is_no_request_error_is_a_500_with_its_words(
    breaking: Callable[[Exception], httpx.AsyncClient], example_row: list[float]
) -> None:
    async with breaking(ServiceError("what was wrong")) as client:
        answer = await client.post(DECIDE, json={"instances": [example_row]})
    assert (answer.status_code, answer.json()["detail"]) == (500, "what was wrong")


async def test_a_fault_leaves_the_service_answering(
    breaking: Callable[[Exception], httpx.AsyncClient], example_row: list[float]
) -> None:
    async with breaking(KeyError(CANARY)) as client:
        assert (await client.post(DECIDE, json={"instances": [example_row]})).status_code == 500
        assert (await client.get("/v1/models")).status_code == 200


async def test_a_disconnected_client_is_no_fault_of_the_service(
    breaking: Callable[[Exception], httpx.AsyncClient], example_row: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="temperance"):
        async with breaking(ClientDisconnect()) as client:
            with contextlib.suppress(AssertionError):  # httpx's, for want of an answer
                await client.post(DECIDE, json={"instances": [example_row]})
            exposed = (await client.get("/metrics")).text
    assert 'status="499"} 1.0' in exposed
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def word(rng: np.random.Generator) -> str:
    return rng.bytes(4).hex()


async def test_labels_of_metrics_do_not_grow_with_what_callers_send(client: httpx.AsyncClient) -> None:
    rng = np.random.default_rng(0)
    shapes = (
        "/{}",
        "/v1/{}",
        "/v1/models/{}",
        "/v1/models/{}:decide",
        "/v1/models/breast-cancer:{}",
        "/docs/{}",
        "/v1/models/breast-cancer/versions/{}:decide",
        "/v1/models/breast-cancer/labels/{}",
        "/v2/models/{}/infer",
    )
    for i in range(200):
        method = ("GET", "POST", word(rng).upper(), "PUT")[i % 4]
        answer = await client.request(method, shapes[i % len(shapes)].format(word(rng)))
        assert answer.status_code in (400, 404, 405, 422)
    exposed = (await client.get("/metrics")).text
    series = [line for line in exposed.splitlines() if line.startswith("temperance_requests_total{")]
    assert len(series) <= 4 * len(shapes)  # one per known method, route and status
    assert {line.partition('method="')[2].partition('"')[0] for line in series} == {"GET", "POST", "PUT", "OTHER"}
    before = len((await client.get("/metrics")).text.splitlines())
    for _ in range(50):
        await client.request(word(rng).upper(), shapes[0].format(word(rng)))
    assert len((await client.get("/metrics")).text.splitlines()) <= before + 2


@pytest.mark.parametrize(
    ("path", "route"),
    [(DECIDE, "/v1/models/{name}:decide"), ("/v2/models/breast-cancer/infer", "/v2/models/{name}/infer")],
)
async def test_a_method_that_a_route_does_not_allow_is_counted_at_that_route(
    client: httpx.AsyncClient, path: str, route: str
) -> None:
    assert (await client.delete(path)).status_code == 405
    assert f'method="DELETE",route="{route}",status="405"}} 1.0' in (await client.get("/metrics")).text


async def test_parameters_of_a_request_are_no_labels(client: httpx.AsyncClient, example_row: list[float]) -> None:
    costs = {CANARY: {"benign": 0, "malignant": 1}, "other": {"benign": 1, "malignant": 0}}
    body = {"instances": [example_row], "parameters": {"costs": costs, "ids": [CANARY]}}
    assert (await client.post(DECIDE, json=body)).status_code == 200
    exposed = (await client.get("/metrics")).text
    assert 'action="(request)"' in exposed
    assert CANARY not in exposed


async def test_the_log_has_one_line_per_request_and_nothing_of_its_content(
    client: httpx.AsyncClient, example_row: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="temperance"):
        await client.post(DECIDE, json={"instances": [example_row], "parameters": {"ids": [CANARY]}})
        await client.get(
            f"/{CANARY}?{CANARY}={CANARY}", headers={"x-request-id": f"{CANARY}!", "traceparent": f"00-{CANARY}-1-01"}
        )
        await client.get(f"/v1/models/{CANARY}")
    lines = lines_of(caplog)
    assert len(lines) == 3
    assert CANARY not in "".join(lines)
    assert str(example_row[0]) not in "".join(lines)
    assert Path(__file__).name not in "".join(lines)


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_what_a_caller_calls_a_request_is_sent_back_and_logged_and_makes_no_id(
    client: httpx.AsyncClient, example_row: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"x-request-id": "theirs.1", "traceparent": TRACE}
    with caplog.at_level(logging.INFO, logger="temperance"):
        answers = [
            await client.post(DECIDE, json={"instances": [example_row]}, headers=headers),
            await client.post(DECIDE, json={}, headers=headers),
            await client.post("/v2/models/breast-cancer/infer", json={}, headers=headers),
            await client.get("/nowhere", headers=headers),
        ]
    for answer, line in zip(answers, lines_of(caplog), strict=True):
        assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("theirs.1", TRACE)
        assert len(answer.headers["temperance-id"]) == 36
        assert f"request request_id={answer.headers['temperance-id']} method=" in line
        assert line.endswith(f" x_request_id=theirs.1 traceparent={TRACE}")
    found = answers[0].json()
    assert found["id"] == answers[0].headers["temperance-id"]
    assert found["predictions"][0]["prediction_id"] == f"{found['id']}.0"


async def test_a_request_id_that_cannot_be_sent_back_is_replaced_by_ours(client: httpx.AsyncClient) -> None:
    for sent in ("", " ", "a b", "a,b", "x" * 65, "caf\u00e9", "<b>", "a;b", "a/b"):
        answer = await client.get("/livez", headers={b"x-request-id": sent.encode("latin-1")})
        assert answer.headers["x-request-id"] == answer.headers["temperance-id"]
    twice = await client.get("/livez", headers=[("x-request-id", "a"), ("x-request-id", "a")])
    assert twice.headers["x-request-id"] == twice.headers["temperance-id"]
    assert "traceparent" not in twice.headers


async def test_what_is_read_of_a_request_is_in_its_state() -> None:
    states: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        states.append(dict(scope["state"]))
        await Response("")(scope, receive, send)

    edge = Edge(app, Telemetry(CollectorRegistry()), lambda: "ours", seconds=5.0, body_seconds=9.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://temperance") as client:
        await client.get("/", headers={"x-request-id": "theirs"})
    (state,) = states
    assert (state["request_id"], state["correlation"]) == ("ours", Correlation("theirs"))
    assert state["deadline"] == state["started"] + 5.0
    assert state["body_deadline"] == state["deadline"]


async def test_problems_are_counted_by_their_type(client: httpx.AsyncClient) -> None:
    def refused(text: str, code: str) -> float:
        found = re.search(rf'^temperance_refusals_total{{code="{code}"}} (\S+)$', text, re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    codes = ("invalid-json", "model-not-found", "not-found", "method-not-allowed")
    before = (await client.get("/metrics")).text
    await client.post(DECIDE, content=b"{", headers={"content-type": "application/json"})
    await client.post("/v2/models/breast-cancer/infer", content=b"{")
    await client.get(f"/v1/models/{CANARY}")
    await client.get(f"/{CANARY}")
    await client.put("/livez")
    after = (await client.get("/metrics")).text
    assert [refused(after, code) - refused(before, code) for code in codes] == [2, 1, 1, 1]


async def test_a_line_names_the_problem(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="temperance"):
        await client.post(DECIDE, content=b"{", headers={"content-type": "application/json"})
    (line,) = lines_of(caplog)
    assert " method=POST route=/v1/models/{name}:decide status=400 code=invalid-json milliseconds=" in line


async def test_a_line_that_is_not_written_is_not_made(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="temperance"):
        assert (await client.get("/v1/models")).status_code == 200
    assert caplog.records == []


async def test_a_request_is_traced_with_its_stages(shipped: Registry, example_row: list[float]) -> None:
    taken: list[TracedRequest] = []
    telemetry = Telemetry(CollectorRegistry())
    parts = parts_of(shipped, Predictor(telemetry, lambda: datetime.now(UTC)), telemetry, trace=taken.append)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(parts)), base_url="http://x") as client:
        await client.post(DECIDE, json={"instances": [example_row] * 2}, headers={"traceparent": TRACE})
        await client.post("/v2/models/breast-cancer/infer", json={})
    answered, refused = taken
    assert (answered.route, answered.status, answered.request_id) == ("/v1/models/{name}:decide", 200, "request-1")
    assert (answered.model, answered.version, answered.rows) == ("breast-cancer", "1", 2)
    assert answered.traceparent == TRACE
    assert [name for name, _, _ in answered.stages] == ["read", "queue", "run", "postprocess", "write"]
    moments = [moment for _, started, ended in answered.stages for moment in (started, ended)]
    assert moments == sorted(moments)
    assert (moments[0], moments[-1]) == (answered.started, answered.ended)
    assert (refused.code, refused.model, refused.stages) == ("invalid-request", None, ())
