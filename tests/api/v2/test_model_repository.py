"""Models loaded and unloaded over HTTP, in process: who may, what it changes, and what it must not."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.main import compose
from service.runtime.registry import Registry, load_registry
from service.settings import Settings

NAME = "breast-cancer"
AT = f"/v2/repository/models/{NAME}"
TENSOR = {"inputs": [{"name": "X", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30}]}


@pytest.fixture
def registry(repository: Repository) -> Registry:
    return load_registry(repository)


@pytest.fixture
async def client(
    repository: Repository, registry: Registry, client_of: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(registry, models=repository.root, repository_api=True) as running:
        yield running


@asynccontextmanager
async def alive(app: ASGIApp) -> AsyncIterator[None]:
    """An application's lifespan, as a server drives it; without one the server is never ready."""
    sent, received = asyncio.Queue[Any](), asyncio.Queue[Any]()
    life = asyncio.ensure_future(app({"type": "lifespan"}, sent.get, received.put))
    await sent.put({"type": "lifespan.startup"})
    assert (await received.get())["type"] == "lifespan.startup.complete"
    yield
    await sent.put({"type": "lifespan.shutdown"})
    await life


async def index(client: httpx.AsyncClient, **body: Any) -> dict[tuple[str, str], str]:
    listed = (await client.post("/v2/repository/index", json=body)).json()
    return {(entry["name"], entry["version"]): entry["state"] for entry in listed}


async def test_the_index_tells_served_versions_from_others(client, publish_again) -> None:
    publish_again()
    assert await index(client) == {(NAME, "1"): "READY", (NAME, "2"): "UNAVAILABLE"}
    assert await index(client, ready=True) == {(NAME, "1"): "READY"}
    assert (await client.post("/v2/repository/index")).json()[1]["reason"] == "no alias names this version"
    assert "model_repository" in (await client.get("/v2")).json()["extensions"]


async def test_a_load_serves_what_the_alias_names_now(client, repository, publish_again) -> None:
    set_alias(repository, NAME, "stable", publish_again())
    loaded = await client.post(f"{AT}/load")
    assert (loaded.status_code, loaded.json()) == (200, {})
    assert (await client.post(f"/v2/models/{NAME}/infer", json=TENSOR)).json()["model_version"] == "2"


async def test_a_model_published_after_the_start_is_loaded(client, repository) -> None:
    shutil.copytree(repository.root / NAME, repository.root / "second")
    assert (await client.get("/v2/models/second/ready")).status_code == 404
    assert (await index(client))["second", "1"] == "UNAVAILABLE"
    assert (await client.post("/v2/repository/models/second/load", json={})).status_code == 200
    assert (await client.get("/v2/models/second/ready")).status_code == 200
    assert (await client.get("/v1/models")).json() == {"models": [NAME, "second"]}


async def test_a_load_that_fails_says_why_and_the_old_version_answers(client, repository, publish_again) -> None:
    version = publish_again()
    (repository.root / NAME / str(version) / "model.onnx").write_bytes(b"no graph")
    set_alias(repository, NAME, "stable", version)
    refused = await client.post(f"{AT}/load", json={})
    assert refused.status_code == 409
    assert list(refused.json()) == ["error"]
    assert "model.onnx does not match its sum" in refused.json()["error"]
    assert (await client.post(f"/v2/models/{NAME}/infer", json=TENSOR)).json()["model_version"] == "1"
    assert await index(client) == {(NAME, "1"): "READY", (NAME, "2"): "UNAVAILABLE"}


async def test_an_unloaded_model_is_unknown_to_every_protocol(client, example_row) -> None:
    body = {"instances": [example_row]}
    assert (await client.post(f"{AT}/unload", json={"parameters": {"unload_dependents": False}})).status_code == 200
    infer = await client.post(f"/v2/models/{NAME}/infer", json=TENSOR)
    assert (infer.status_code, list(infer.json())) == (404, ["error"])
    for path in (f"/v1/models/{NAME}:decide", f"/v1/models/{NAME}/versions/1:predict"):
        decide = await client.post(path, json=body)
        assert (decide.status_code, decide.headers["content-type"]) == (404, "application/problem+json")
        assert decide.json()["type"] == "urn:temperance:problem:model-not-found"
    assert await index(client) == {(NAME, "1"): "UNAVAILABLE"}
    assert "temperance_model_info{" not in (await client.get("/metrics")).text


@pytest.mark.parametrize("path", ["/v1/models/heavy:detect", "/v2/models/heavy/infer"])
async def test_a_request_under_way_keeps_the_model_that_is_unloaded(client_of, heavy, path) -> None:
    registry = load_registry(heavy)
    tally = registry.model("heavy").tally
    tensor = {"name": "x", "shape": [8000, 2], "datatype": "FP32", "data": [0.5] * 16000}
    body = {"inputs": [tensor]} if "v2" in path else {"instances": [[0.5, 0.5]] * 8000}
    async with client_of(registry, models=heavy.root, repository_api=True) as client:
        pending = asyncio.ensure_future(client.post(path, json=body))
        async with asyncio.timeout(30.0):
            while not tally.waited:  # noqa: ASYNC110  # a tally is no event
                await asyncio.sleep(0)
        assert (await client.post("/v2/repository/models/heavy/unload")).status_code == 200
        assert not pending.done()
        assert (await client.post(path, json=body)).status_code == 404
        assert (await pending).status_code == 200


async def test_the_server_is_not_ready_once_the_last_model_is_unloaded(repository, registry) -> None:
    app = compose(Settings(audit="off", models=repository.root, repository_api=True, reload_seconds=0), registry)
    transport = httpx.ASGITransport(app)
    async with alive(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:

        async def ready() -> list[int]:
            return [(await client.get(path)).status_code for path in ("/readyz", "/v2/health/ready")]

        assert await ready() == [200, 200]
        await client.post(f"{AT}/unload")
        assert await ready() == [503, 503]
        assert (await client.get("/livez")).status_code == 200
        missing = await client.post(f"/v1/models/{NAME}:decide", json={"instances": [[1]]})
        assert (missing.status_code, "was unloaded" in missing.json()["detail"]) == (404, True)
        await client.post(f"{AT}/load")
        assert await ready() == [200, 200]


@pytest.mark.parametrize(
    "parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}, {"config": "{}", "file:x": ""}, ["config"]]
)
async def test_a_load_takes_no_configuration_and_no_files(client, parameters) -> None:
    refused = await client.post(f"{AT}/load", json={"parameters": parameters})
    assert (refused.status_code, list(refused.json())) == (422, ["error"])
    assert "a load takes none" in refused.json()["error"]


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"a":1,"a":2}', 400)])
@pytest.mark.parametrize("path", ["/v2/repository/index", f"{AT}/load", f"{AT}/unload"])
async def test_a_body_that_cannot_be_read_changes_nothing(client, body, status, path) -> None:
    refused = await client.post(path, content=body)
    assert (refused.status_code, list(refused.json())) == (status, ["error"])
    assert await index(client) == {(NAME, "1"): "READY"}


@pytest.mark.parametrize("name", ["missing", "..%2F..", "%2e%2e", "breast-cancer%2F1"])
@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_a_name_that_is_not_published_is_not_found(client, name, verb) -> None:
    refused = await client.post(f"/v2/repository/models/{name}/{verb}", json={})
    assert (refused.status_code, list(refused.json())) == (404, ["error"])


async def test_one_worker_of_several_changes_nothing_that_the_others_would_not_hear_of(
    client_of, registry, repository
) -> None:
    async with client_of(registry, models=repository.root, repository_api=True, workers=2) as client:
        assert await index(client) == {(NAME, "1"): "READY"}
        for verb in ("load", "unload"):
            refused = await client.post(f"{AT}/{verb}", json={})
            assert (refused.status_code, "temperance alias" in refused.json()["error"]) == (403, True)
        assert await index(client) == {(NAME, "1"): "READY"}


async def test_loads_run_one_after_another_and_hold_up_no_probe(client) -> None:
    verbs = ["load", "unload", "load", "load", "unload", "load"]
    pending = [asyncio.ensure_future(client.post(f"{AT}/{verb}")) for verb in verbs]
    assert (await client.get("/livez")).status_code == 200
    assert {(await one).status_code for one in pending} == {200}
    assert await index(client) == {(NAME, "1"): "READY"}


async def test_metrics_name_the_whole_route(client) -> None:
    await client.post("/v2/repository/index")
    await client.get(f"/v2/models/{NAME}/stats")
    metrics = (await client.get("/metrics")).text
    for method, route in (("POST", "/v2/repository/index"), ("GET", "/v2/models/{name}/stats")):
        assert f'temperance_requests_total{{method="{method}",route="{route}",status="200"}} 1.0' in metrics
