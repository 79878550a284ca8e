"""Models of every kind, served in process or by a process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import numpy as np
import pytest

from service.bundle.repository import Repository
from service.runtime.registry import Registry, load_registry
from tests.api.v2.bodies import INFER
from tests.api.v2.models import write_repository


@pytest.fixture(scope="session")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with a model of every kind."""
    return write_repository(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="session")
def kinds(every_kind: Repository) -> Registry:
    """The same models, loaded."""
    return load_registry(every_kind)


@pytest.fixture(scope="session")
def kinds_server(serving: Callable[..., AbstractContextManager[Any]], every_kind: Repository) -> Iterator[Any]:
    """A process that serves a model of every kind."""
    with serving(every_kind.root) as running:
        yield running


@pytest.fixture
def plain(kinds_server: Any) -> Callable[..., Any]:
    """Rows of the answer of `/v1` to a verb: ``plain("picture", rows, verb="predict")``."""

    def rows_of(model: str, instances: Any, *, verb: str = "predict") -> Any:
        answer = kinds_server.post(verb, {"instances": instances}, model=model)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    return rows_of


@pytest.fixture
def rows(test_rows: list[list[float]]) -> Any:
    """Rows of the shipped model."""
    return np.array(test_rows[:5])


@pytest.fixture
def infer(client: httpx.AsyncClient) -> Callable[..., Any]:
    """The outputs of the shipped model's response by name, and the response: ``await infer(request_of(rows))``."""

    async def inferred(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        answer = await client.post(INFER, json=body)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        return {output["name"]: output for output in document["outputs"]}, document

    return inferred
