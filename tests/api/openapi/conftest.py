"""Documents of servers with models of every task."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.repository import Repository
from service.main import compose
from service.runtime.registry import Registry, load_registry
from service.settings import Settings
from tests.bench import task_models


@pytest.fixture(scope="session")
def task_models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a multilabel, a sequence and a text model."""
    folder = tmp_path_factory.mktemp("models")
    task_models.publish_all(folder)
    return folder


@pytest.fixture(scope="session")
def every_task(task_models_folder: Path) -> Registry:
    """Those models in memory."""
    return load_registry(Repository(task_models_folder))


@pytest.fixture(scope="session")
def contract_of_every_task(every_task: Registry, task_models_folder: Path) -> dict[str, Any]:
    """The document of those models, with an open repository."""

    async def requested() -> dict[str, Any]:
        transport = httpx.ASGITransport(
            compose(Settings(audit="off", models=task_models_folder, repository_api=True), every_task)
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://temperance") as client:
            document: dict[str, Any] = (await client.get("/openapi.json")).json()
        return document

    return asyncio.run(requested())


@pytest.fixture(params=["shipped", "every task"])
def any_contract(
    request: pytest.FixtureRequest, contract: dict[str, Any], contract_of_every_task: dict[str, Any]
) -> dict[str, Any]:
    """The document of the shipped models, and of models of every task."""
    return contract if request.param == "shipped" else contract_of_every_task
