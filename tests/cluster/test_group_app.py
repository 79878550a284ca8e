"""The application of a group."""

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.bundle.repository import Repository
from service.cluster.group_app import group_app
from service.errors import BundleNotFound
from service.settings import Settings
from tests.shipped_model import SHIPPED

NAMES = ("a", "b")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in NAMES:
        shutil.copytree(SHIPPED / "breast-cancer", tmp_path / "models" / name)
    return Settings(audit="off", models=tmp_path / "models", data=tmp_path / "data", expected_models=NAMES)


def is_a(name: str) -> bool:
    return name == "a"


async def statuses(app: object, *paths: str) -> list[int]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:  # type: ignore[arg-type]
        return [(await client.get(path)).status_code for path in paths]


async def test_it_serves_the_models_of_its_group_and_no_other(settings):
    made = group_app(settings, is_a, loads_all=True)
    assert await statuses(made.app, "/v1/models/a", "/v1/models/b") == [200, 404]


def test_it_follows_its_group_alone(settings):
    made = group_app(settings, is_a, loads_all=True)
    assert made.reloader.reload() == []
    assert made.registry.names() == ["a"]


def test_a_group_whose_models_are_loaded_on_request_follows_those_that_were(settings: Settings) -> None:
    made = group_app(settings, is_a, loads_all=False)
    assert (made.reloader.poll(), made.registry.names(), made.registry.listed()) == ([], [], ["a"])
    made.reloader.load("a")
    repository = Repository(settings.models)
    (repository.folder("a") / "aliases.toml").write_text("stable = 1\nother = 1\n")
    assert [reloaded.name for reloaded in made.reloader.poll()] == ["a"]
    made.reloader.unload("a")
    assert made.reloader.poll() == []


def test_a_group_without_a_model_does_not_start(settings: Settings, refuse: Callable[[str], bool]) -> None:
    with pytest.raises(BundleNotFound):
        group_app(settings, refuse, loads_all=True)


@pytest.fixture
def refuse() -> Callable[[str], bool]:
    return lambda _: False
