"""When the document is written, and what that leaves alone."""

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.api.openapi.router import Contract
from service.runtime.registry import Registry

Connect = Callable[..., httpx.AsyncClient]


def unused() -> Any:
    raise AssertionError("no document is needed")


async def test_it_is_written_once_and_again_when_other_models_are_served(shipped: Registry, client_of: Connect) -> None:
    registry = Registry({"breast-cancer": shipped.served("breast-cancer")})
    async with client_of(registry) as client:
        first, second = [(await client.get("/openapi.json")).json() for _ in range(2)]
        assert first == second  # moments in examples included
        registry.replace("again", shipped.served("breast-cancer"))
        third = (await client.get("/openapi.json")).json()
    names = [one["components"]["examples"]["list_models.response.example"]["value"]["models"] for one in (first, third)]
    assert names == [["breast-cancer"], ["again", "breast-cancer"]]


def test_nothing_is_written_before_it_is_requested(shipped: Registry) -> None:
    Contract(shipped, "1", unused, unused, unused)


async def test_it_is_there_even_if_no_model_is(client_of: Connect) -> None:
    async with client_of(Registry({})) as client:
        assert (await client.head("/openapi.json")).status_code == 200
        document = (await client.get("/openapi.json")).json()
    assert "/v1/models/{name}:decide" in document["paths"]


async def test_examples_count_nowhere_and_log_nothing(
    shipped: Registry, client_of: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(shipped) as client:
        before = (await client.get("/v2/models/breast-cancer/stats")).json()
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "temperance"):
            assert (await client.get("/openapi.json")).status_code == 200
        assert [record for record in caplog.records if vars(record).get("route") != "/openapi.json"] == []
        assert (await client.get("/v2/models/breast-cancer/stats")).json() == before
        metrics = (await client.get("/metrics")).text
    assert "temperance_rows_total{" not in metrics
    assert 'route="/v1/models/{name}:decide"' not in metrics
