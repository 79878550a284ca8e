import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from service.bundle.repository import Repository
from service.bundle.writer import set_alias
from service.hangup import Watch, watching
from service.runtime.loader import Loader
from service.runtime.registry import Registry, load_registry
from service.runtime.reload import Reloaded, Reloader
from service.telemetry import Telemetry

NAME = "breast-cancer"
OFTEN = 0.005
"""Seconds between two looks."""


class Failing(Reloader):
    """Its first looks fail with an error of any kind; later ones are as they should be."""

    def __init__(self, loader: Loader, registry: Registry, error: Exception) -> None:
        super().__init__(loader, registry)
        self.errors = [error] * 3

    def poll(self) -> list[Reloaded]:
        if self.errors:
            raise self.errors.pop()
        return super().poll()


@asynccontextmanager
async def watched(reloader: Reloader, *, seconds: float = OFTEN) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(CollectorRegistry())
    async with watching(Watch(reloader, telemetry, seconds, pause=0.0)):
        yield telemetry


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what happens on a thread sets no event
            await asyncio.sleep(OFTEN)


def counted(telemetry: Telemetry, name: str, **labels: str) -> float:
    return telemetry.registry.get_sample_value(f"temperance_{name}", labels) or 0.0


@pytest.mark.parametrize("error", [ValueError("4711"), MemoryError(), RecursionError(), PermissionError(13, "no")])
async def test_a_watch_that_an_error_ends_is_logged_without_its_message_and_goes_on(
    error: Exception, repository: Repository, publish_again: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    registry = load_registry(repository)
    reloader = Failing(Loader(repository), registry, error)
    set_alias(repository, NAME, "stable", publish_again())
    async with watched(reloader):
        await until(lambda: registry.model(NAME).version == "2")
    lines = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 3
    assert {record.exc_info for record in lines} == {None}
    assert all(record.__dict__["error_lines"][0] == type(error).__name__ for record in lines)
    assert "4711" not in caplog.text


async def test_looks_and_what_comes_of_them_are_counted(
    repository: Repository, publish_again: Callable[[], int]
) -> None:
    reloader, version = Reloader(Loader(repository), load_registry(repository)), publish_again()
    async with watched(reloader) as telemetry:
        await until(lambda: counted(telemetry, "last_look_seconds") > 1e9)
        (repository.root / NAME / "aliases.toml").write_text("stable = [")
        await until(lambda: counted(telemetry, "reloads_total", model=NAME, result="refused") > 0)
        set_alias_anew(repository, version)
        await until(lambda: counted(telemetry, "reloads_total", model=NAME, result="ok") == 1)
        looked = counted(telemetry, "last_look_seconds")
        await until(lambda: counted(telemetry, "last_look_seconds") > looked)


async def test_a_dead_look_shows_in_the_time_of_the_last(repository: Repository) -> None:
    reloader = Failing(Loader(repository), load_registry(repository), MemoryError())
    reloader.errors *= 1000
    async with watched(reloader) as telemetry:
        await until(lambda: len(reloader.errors) < 2990)
        assert counted(telemetry, "last_look_seconds") == 0


async def test_without_an_interval_it_looks_at_the_start_and_on_a_signal(
    repository: Repository, publish_again: Callable[[], int]
) -> None:
    registry = load_registry(repository)
    set_alias(repository, NAME, "stable", publish_again())
    async with watched(Reloader(Loader(repository), registry), seconds=0) as telemetry:
        await until(lambda: registry.model(NAME).version == "2")
        set_alias(repository, NAME, "stable", 1)
        await until(lambda: counted(telemetry, "last_look_seconds") > 0)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: registry.model(NAME).version == "1")


async def test_a_repository_that_is_away_for_some_looks_is_followed_when_it_is_back(
    repository: Repository, publish_again: Callable[[], int]
) -> None:
    registry = load_registry(repository)
    set_alias(repository, NAME, "stable", publish_again())
    away = repository.root.rename(repository.root.with_name("away"))
    async with watched(Reloader(Loader(repository), registry)) as telemetry:
        await until(lambda: registry.served(NAME).refusal is not None)
        assert registry.model(NAME).version == "1"
        shutil.copytree(away, repository.root)
        await until(lambda: registry.model(NAME).version == "2")
        assert counted(telemetry, "reloads_total", model=NAME, result="refused") >= 1


def set_alias_anew(repository: Repository, version: int) -> None:
    """Write the list of aliases as `temperance alias` would: in one step, over one that cannot be read."""
    new = repository.root / NAME / ".new"
    new.write_text(f"stable = {version}\n")
    new.rename(repository.root / NAME / "aliases.toml")
