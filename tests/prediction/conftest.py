import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.bundle.repository import Repository
from service.core.numerics import Array
from service.prediction.queue import Queue
from service.runtime.model import Model
from service.runtime.registry import Registry, load_registry
from tests.api.v2.models import write_repository
from tests.prediction.doubling import Asking, Doubling, answer, row
from tests.shipped_model import SHIPPED


@pytest.fixture(params=["inline", "thread", "auto"])
def execution(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def blocked(gate: threading.Event) -> Doubling:
    """A model whose runs last until the gate opens."""
    return Doubling(gate=gate)


Start = Callable[..., Any]


@pytest.fixture
def started() -> Start:
    async def start(queue: Queue, model: Doubling) -> asyncio.Future[Array]:
        first = asyncio.ensure_future(answer(queue, Asking(model), row(1.0)))
        await asyncio.to_thread(model.entered.wait, 10.0)
        return first

    return start


@pytest.fixture(scope="session")
def shipped_model() -> Model:
    """The shipped model."""
    return load_registry(Repository(SHIPPED)).model("breast-cancer")


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A model of every kind of input."""
    return load_registry(write_repository(tmp_path_factory.mktemp("kinds")))
