"""A model that could not be loaded while others are served: it says so, everywhere, and the others do not notice."""

import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from service.api.problems import MEDIA_TYPE
from service.bundle.repository import Repository
from service.errors import BundleDamaged
from service.main import compose, load
from service.runtime.registry import load_registry
from service.settings import Settings

JSON = {"content-type": "application/json"}


@pytest.fixture
def damaged(repository: Repository) -> Repository:
    """A repository in which a second model, `second`, is damaged."""
    second = shutil.copytree(repository.root / "breast-cancer", repository.root / "second")
    (second / "1" / "model.onnx").write_bytes(b"zq7canary")
    return repository


@pytest.fixture
async def lenient(damaged: Repository) -> AsyncIterator[httpx.AsyncClient]:
    """A service of it that starts all the same, in this process."""
    settings = Settings(models=damaged.root, strict_start=False, audit="off")
    transport = httpx.ASGITransport(compose(settings, load(settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


def test_by_default_one_damaged_model_stops_the_start(damaged: Repository) -> None:
    with pytest.raises(BundleDamaged, match="second"):
        load(Settings(models=damaged.root))


def test_a_refused_model_is_held_with_its_reason(damaged: Repository) -> None:
    registry = load_registry(damaged, strict=False)
    assert registry.names() == ["breast-cancer"]
    assert list(registry.refused) == ["second"]
    assert "model.onnx does not match its sum" in registry.refused["second"]


async def test_the_list_of_models_names_it(lenient: httpx.AsyncClient) -> None:
    assert (await lenient.get("/v1/models")).json() == {"models": ["breast-cancer", "second"]}


async def test_its_own_description_says_that_it_is_not_ready_and_why(lenient: httpx.AsyncClient) -> None:
    answer = await lenient.get("/v1/models/second")
    described = answer.json()
    assert answer.status_code == 200
    assert described.keys() == {"name", "ready", "refusal"}
    assert (described["name"], described["ready"]) == ("second", False)
    assert "model.onnx does not match its sum" in described["refusal"]
    assert (await lenient.get("/v1/models/breast-cancer")).json()["ready"] is True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/second/versions/1"),
        ("GET", "/v1/models/second/versions/x"),
        ("GET", "/v1/models/second/labels/stable"),
        *(("POST", f"/v1/models/second:{verb}") for verb in ("predict", "detect", "decide", "evaluate", "estimate")),
        ("POST", "/v1/models/second/versions/1:decide"),
        ("POST", "/v1/models/second/labels/stable:decide"),
    ],
)
async def test_all_else_of_it_is_503(method: str, path: str, lenient: httpx.AsyncClient) -> None:
    refused = await lenient.request(method, path, content=b"{}" if method == "POST" else None, headers=JSON)
    assert (refused.status_code, refused.headers["content-type"]) == (503, MEDIA_TYPE)
    assert refused.json()["type"] == "urn:temperance:problem:model-not-ready"
    assert "does not match" not in refused.text  # callers learn where it is shown


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/second"),
        ("GET", "/v2/models/second/ready"),
        ("GET", "/v2/models/second/stats"),
        ("GET", "/v2/models/second/versions/1/ready"),
        ("POST", "/v2/models/second/infer"),
        ("POST", "/v2/models/second/versions/1/infer"),
    ],
)
async def test_it_is_not_ready_for_the_open_inference_protocol(
    method: str, path: str, lenient: httpx.AsyncClient
) -> None:
    refused = await lenient.request(method, path, content=b"{}" if method == "POST" else None, headers=JSON)
    assert refused.status_code == 503
    assert refused.json()["error"].startswith("no version of this model could be loaded")


async def test_a_name_that_no_model_has_is_404_as_before(lenient: httpx.AsyncClient) -> None:
    for path in ("/v1/models/third", "/v2/models/third/ready"):
        assert (await lenient.get(path)).status_code == 404


async def test_a_metric_counts_it(lenient: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    assert "\ntemperance_refused_models 1.0\n" in (await lenient.get("/metrics")).text
    assert "\ntemperance_refused_models 0.0\n" in (await client.get("/metrics")).text


async def test_the_document_describes_both_answers(lenient: httpx.AsyncClient) -> None:
    document = (await lenient.get("/openapi.json")).json()
    answered = document["paths"]["/v1/models/{name}"]["get"]["responses"]["200"]["content"]["application/json"]
    names = [entry["$ref"].rpartition("/")[2] for entry in answered["schema"]["anyOf"]]
    assert names == ["ModelDescription", "RefusedModel"]
    assert "503" in document["paths"]["/v2/models/{name}/ready"]["get"]["responses"]


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_the_others_are_served_and_the_service_is_ready(
    workers: str,
    serving: Callable[..., AbstractContextManager[Any]],
    damaged: Repository,
    test_rows: list[list[float]],
) -> None:
    with serving(damaged.root, "--workers", workers, TEMPERANCE_STRICT_START="false") as server:
        assert server.client.get("/readyz").status_code == 200
        assert server.client.get("/v2/health/ready").status_code == 200
        assert server.post("decide", {"instances": test_rows[:1]}).status_code == 200
        assert server.post("decide", {"instances": test_rows[:1]}, model="second").status_code == 503
        assert server.client.get("/v1/models/second").json()["ready"] is False
        assert "\ntemperance_refused_models 1.0\n" in server.client.get("/metrics").text
        (line,) = [line for line in server.log.read_text().splitlines() if "not serving second: " in line][:1]
        assert "model.onnx does not match its sum" in line


async def test_where_every_model_is_refused_the_service_is_not_ready(
    damaged: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    (damaged.root / "breast-cancer" / "1" / "state.npz").write_bytes(b"")
    settings = Settings(models=damaged.root, strict_start=False, audit="off")
    with caplog.at_level(logging.ERROR):
        app = compose(settings, load(settings))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/v1/models")).json() == {"models": ["breast-cancer", "second"]}
        assert (await client.get("/v1/models/breast-cancer")).json()["ready"] is False
