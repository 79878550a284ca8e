"""The hot path answers what the ordinary path answers: `build_app` is asked twice, with and without it in front."""

import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.api import app
from service.api.hot import Hot
from service.prediction.predictor import Predictor
from service.runtime.registry import Registry
from service.telemetry import Telemetry

NAME = "/v1/models/breast-cancer"
WIDTH = 30
NUMBER = st.one_of(
    st.floats(0.0, 50.0),
    st.integers(0, 40),
    st.sampled_from([-1.0, 1e9, 1e39, -0.0, 5e-324, 2**63, 10**30, 10**400]),
)
CELL = st.one_of(*[NUMBER] * 12, st.sampled_from([None, True, "1", [1.0], {}]))
ROW = st.one_of(
    *[st.lists(NUMBER, min_size=WIDTH, max_size=WIDTH)] * 4,
    st.lists(CELL, min_size=WIDTH, max_size=WIDTH),
    st.lists(NUMBER, max_size=3),
)
PARAMETERS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "site": st.sampled_from(["screening", "nowhere", 1, ["screening"], None]),
            "policy": st.sampled_from(["biopsy", "nothing"]),
            "top_k": st.integers(0, 3),
            "ids": st.just(["a"]),
            "mood": st.just(1),
            "coverage": st.just(0.9),
        },
    ),
)
ODD = [
    b"",
    b"[]",
    b"{}",
    b"nonsense",
    b'{"instances": []}',
    b'{"instances": [[]]}',
    b'{"instances": [1, 2]}',
    b'{"instances": $ROWS, "instances": $ROWS}',
    b'{"instances": $ROWS, "parameters": {"site": "screening", "site": "screening"}}',
    b'{"parameters": {"site": "screening"}, "instances": $ROWS}',
    b'{"other": $ROWS, "instances": $ROWS}',
    b'{"parameters": $ROWS}',
    b'{"instances": {"instances": $ROWS}}',
    b'{"instances": $ROWS} ',
    b'\n{ "instances" : $ROWS , "parameters" : { } }',
    b'{"instances": $ROWS}}',
    b'{"instances": $ROWS',
    b'{"instances": $ROWS, }',
    b'\xef\xbb\xbf{"instances": $ROWS}',
    b'{"instances": $ROWS, "parameters": {"site": "\\ud800"}}',
    b'{"instances": $ROWS, "parameters": null}',
    b'{"instances": [$ROWS]}',
    b'{"instances": [[NaN' + b", 1" * 29 + b"]]}",
    b'{"instances": [[1e400' + b", 1" * 29 + b"]]}",
    b'{"instances": [[01' + b", 1" * 29 + b"]]}",
    b'{"instances": [[1,' + b", 1" * 29 + b"]]}",
]


class Fixed:
    """Two applications that differ in nothing but the hot path."""

    def __init__(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hot = self._client(registry)
        monkeypatch.setattr(app, "Hot", lambda *parts: parts[0])
        self.ordinary = self._client(registry)

    @staticmethod
    def _client(registry: Registry) -> httpx.AsyncClient:
        telemetry = Telemetry(CollectorRegistry())
        parts = app.Parts(
            registry=registry,
            predictor=Predictor(telemetry, lambda: datetime(2026, 1, 1, tzinfo=UTC)),
            telemetry=telemetry,
            new_id=lambda: "request-1",
            version="0",
            max_body=1 << 20,
            max_rows=4,
            deadline=30.0,
            docs=True,
            exposed=telemetry.registry,
        )
        transport = httpx.ASGITransport(app.build_app(parts))
        return httpx.AsyncClient(transport=transport, base_url="http://temperance")

    async def same(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        one, other = [await client.post(path, content=body, headers=headers) for client in (self.hot, self.ordinary)]
        assert one.status_code == other.status_code, body
        assert one.content == other.content, body
        assert dict(one.headers) == dict(other.headers)
        return one


@pytest.fixture
def pair(shipped: Registry, monkeypatch: pytest.MonkeyPatch) -> Fixed:
    return Fixed(shipped, monkeypatch)


@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
@given(rows=st.lists(ROW, min_size=1, max_size=5), parameters=PARAMETERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_answer_is_that_of_the_ordinary_path_byte_for_byte(pair, verb, rows, parameters) -> None:
    body = {"instances": rows} | ({} if parameters is None else {"parameters": parameters})
    await pair.same(f"{NAME}:{verb}", json.dumps(body).encode())


@pytest.mark.parametrize("body", ODD)
async def test_odd_bytes_are_answered_as_the_ordinary_path_answers_them(pair, test_rows, body) -> None:
    await pair.same(f"{NAME}:decide", body.replace(b"$ROWS", json.dumps(test_rows[:2]).encode()))


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-encoding": "gzip"},
    ],
)
async def test_headers_mean_what_they_mean_on_the_ordinary_path(pair, test_rows, headers) -> None:
    await pair.same(f"{NAME}:decide", json.dumps({"instances": test_rows[:1]}).encode(), **headers)


@pytest.mark.parametrize(
    "path",
    [
        f"{NAME}:decide",
        f"{NAME}/versions/1:decide",
        f"{NAME}/labels/stable:predict",
        f"{NAME}/labels/nothing:predict",
        f"{NAME}/versions/9:detect",
        "/v1/models/nobody:decide",
        f"{NAME}:explain",
    ],
)
async def test_every_address_means_what_it_means_on_the_ordinary_path(pair, test_rows, path) -> None:
    await pair.same(path, json.dumps({"instances": test_rows[:1]}).encode())


async def test_a_body_that_comes_in_pieces_is_the_body(pair, test_rows) -> None:
    body = json.dumps({"instances": test_rows[:2]}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    whole = await pair.same(f"{NAME}:decide", body)
    answer = await pair.hot.post(f"{NAME}:decide", content=pieces(), headers={"content-type": "application/json"})
    assert answer.content == whole.content


async def test_a_body_beyond_the_limit_is_refused_as_on_the_ordinary_path(pair) -> None:
    answer = await pair.same(f"{NAME}:decide", b'{"instances": [[' + b"1," * (1 << 20))
    assert answer.status_code == 413


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("verb", ["predict", "detect", "decide"])
async def test_names_that_would_mean_something_in_a_template_are_only_names(
    publish_logits, monkeypatch, verb, fitted
) -> None:
    classes, actions = ("%b", "%" * 200, 'a "quote" \\ \t'), ("%d%%", "{0}", "%s")
    costs = {action: {name: abs(i - k) for k, name in enumerate(classes)} for i, action in enumerate(actions)}
    policies = tomlkit.dumps({"policies": {"%p": {"default": True, "on_ood": "%s", "costs": costs}}})
    pair = Fixed(publish_logits(classes, more=policies, fitted=fitted), monkeypatch)
    answer = await pair.same(f"/v1/models/logits:{verb}", b'{"instances": [[0.5, 1, 2], [3, 2, 1], [1e6, -1e6, 0]]}')
    assert answer.status_code == 200


async def test_metrics_and_log_lines_are_those_of_the_ordinary_path(pair, test_rows, caplog) -> None:
    bodies = [{"instances": test_rows[:2]}, {"instances": []}, {"instances": test_rows[:1], "parameters": {"top_k": 1}}]
    said = []
    for client in (pair.hot, pair.ordinary):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="temperance"):
            for body in bodies:
                await client.post(f"{NAME}:decide", json=body)
        lines = [record.getMessage().rpartition(" ")[0].rpartition(" ")[0] for record in caplog.records]
        metrics = (await client.get("/metrics")).text.splitlines()
        counted = [line for line in metrics if "_total{" in line or "_count{" in line]
        said.append((lines, counted))
    assert said[0] == said[1]
    assert any("temperance_actions_total{" in line for line in said[0][1])


async def test_plain_rows_never_reach_the_ordinary_path(shipped, test_rows, monkeypatch) -> None:
    passed: list[str] = []

    class Watched(Hot):
        def __init__(self, ordinary: Any, server: Any) -> None:
            async def watch(scope: Any, receive: Any, send: Any) -> None:
                passed.append(scope["path"])
                await ordinary(scope, receive, send)

            super().__init__(watch, server)

    monkeypatch.setattr(app, "Hot", Watched)
    async with Fixed._client(shipped) as client:
        for verb in ("predict", "detect", "decide"):
            more: tuple[dict[str, Any], ...] = ({}, {"parameters": {}})
            for parameters in more:
                await client.post(f"{NAME}:{verb}", json={"instances": test_rows[:3], **parameters})
        site = {"site": "screening", "policy": "biopsy"}
        await client.post(f"{NAME}:decide", json={"instances": test_rows[:1], "parameters": site})
        assert passed == []
        await client.post(f"{NAME}:decide", json={"instances": test_rows[:1], "parameters": {"top_k": 1}})
        assert passed == [f"{NAME}:decide"]
