"""Health, metrics and the documentation page."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.api.operations import ASSETS
from service.api.problems import MEDIA_TYPE
from service.runtime.registry import Registry


def test_a_started_server_is_alive_and_ready(server: Any) -> None:
    for path, status in (("/livez", "alive"), ("/readyz", "ready")):
        answer = server.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": status})


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_answers_requests_without_a_body(path: str, server: Any) -> None:
    answer = server.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_process_that_has_not_started_is_alive_but_not_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200  # no lifespan runs in process: nothing has started
    refused = await client.get("/readyz")
    assert (refused.status_code, refused.headers["content-type"]) == (503, MEDIA_TYPE)
    assert refused.json()["type"] == "urn:temperance:problem:not-ready"


async def test_metrics_say_whether_readyz_answers_200(client: httpx.AsyncClient, server: Any) -> None:
    assert "\ntemperance_ready 0.0\n" in (await client.get("/metrics")).text  # it has not started
    assert "\ntemperance_ready 1.0\n" in server.client.get("/metrics").text


async def test_metrics_count_requests_rows_flags_and_actions(
    client: httpx.AsyncClient, ask: Callable[..., Any], test_rows: list[list[float]]
) -> None:
    answer = await ask("decide", test_rows)
    flagged = sum(row["ood"]["flagged"] for row in answer["predictions"])
    biopsies = sum(row["decision"]["action"] == "biopsy" for row in answer["predictions"])
    exposed = await client.get("/metrics")
    assert exposed.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'temperance_requests_total{method="POST",route="/v1/models/{name}:decide",status="200"} 1.0',
        f'temperance_rows_total{{model="breast-cancer",verb="decide",version="1"}} {len(test_rows)}.0',
        f'temperance_flagged_rows_total{{model="breast-cancer",version="1"}} {flagged}.0',
        f'temperance_actions_total{{action="biopsy",model="breast-cancer",policy="biopsy",version="1"}} {biopsies}.0',
    ):
        assert line in exposed.text.splitlines()
    assert f'digest="{answer["digest"]}"' in exposed.text
    build = r'^temperance_build_info{onnxruntime="[0-9.]+",python="3[0-9.]+",version="[0-9.]+"} 1.0$'
    assert re.search(build, exposed.text, re.MULTILINE)


async def test_the_documentation_page_loads_nothing_from_another_host(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert loaded
    assert not [url for url in loaded if re.match(r"(?:[a-z]+:)?//", url, re.IGNORECASE)]
    for url in loaded:
        assert (await client.get(f"/{url.removeprefix('/')}")).status_code == 200
    assert "cdn" not in page.text.lower()


@pytest.mark.parametrize("name", ASSETS)
async def test_the_pages_files_come_from_the_service(name: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/docs/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == ASSETS[name]
    assert len(answer.content) > 100


async def test_documentation_can_be_turned_off(client_of: Callable[..., httpx.AsyncClient], shipped: Registry) -> None:
    async with client_of(shipped, docs=False) as client:
        for path in ("/docs", "/docs/swagger-ui-bundle.js", "/openapi.json", "/redoc"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/v1/models")).status_code == 200
