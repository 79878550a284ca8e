import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import CollectorRegistry

from service.alarm_looks import AlarmLooks, looking, looking_for_alarms
from service.monitoring.alarm_watch import AlarmWatch
from service.record_errors import StoreUnavailable
from service.runtime.registry import Registry
from service.settings import Settings
from service.store.engine import Store, open_store
from service.telemetry import Telemetry
from tests.monitoring.test_alarm_watch import drift
from tests.monitoring.test_alarms import WATCHED
from tests.store.kept import FixedSigner


class Places:
    """A store that cannot be reached at the first look."""

    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        self.url, self.errors = f"sqlite:///{folder}/audit.db", [] if error is None else [error]

    def connect(self) -> Store:
        if self.errors:
            raise self.errors.pop()
        return open_store(self.url, signer=FixedSigner())


def looks_of(places: Places) -> AlarmLooks:
    watch = AlarmWatch("one", lambda: [WATCHED], Event())
    return AlarmLooks(watch, places.connect, Telemetry(CollectorRegistry()), 0.01)


def shown(looks: AlarmLooks) -> float | None:
    labels = {"model": "breast-cancer", "version": "1", "test": "intercept:malignant"}
    return looks.telemetry.registry.get_sample_value("temperance_alarm", labels)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what happens on a thread sets no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", [StoreUnavailable("it is locked"), ValueError("4711")])
async def test_a_look_that_fails_is_logged_and_the_next_one_raises_the_alarm(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    places = Places(tmp_path, error)
    store = open_store(places.url, signer=FixedSigner())
    drift(store)
    store.close()
    looks = looks_of(places)
    with caplog.at_level(logging.WARNING, logger="temperance"):
        async with looking(looks):
            await until(lambda: shown(looks) == 1.0)
    assert "outcomes could not be looked at" in caplog.records[0].getMessage()
    assert "4711" not in caplog.text
    assert looks.watch.ending.is_set()


async def test_the_evidence_of_every_test_is_shown_and_reaches_one_where_it_raises_an_alarm(tmp_path: Path) -> None:
    places = Places(tmp_path)
    store = open_store(places.url, signer=FixedSigner())
    drift(store)
    store.close()
    looks = looks_of(places)
    async with looking(looks):
        await until(lambda: shown(looks) == 1.0)
    for test in WATCHED.tests:
        labels = {"model": "breast-cancer", "version": "1", "test": test.key}
        share = looks.telemetry.registry.get_sample_value("temperance_alarm_evidence", labels)
        outcomes = looks.telemetry.registry.get_sample_value("temperance_alarm_outcomes", labels)
        assert share is not None
        assert (share >= 1.0) >= (test.key == "intercept:malignant")
        assert outcomes == (0.0 if test.site else 400.0)


def none_of(settings: Settings) -> AbstractAsyncContextManager[None]:
    return looking_for_alarms(settings, Registry({}), Telemetry(CollectorRegistry()))


def test_without_a_record_or_an_interval_nothing_looks() -> None:
    assert isinstance(none_of(Settings(audit="off")), nullcontext)
    assert isinstance(none_of(Settings(monitor_seconds=0)), nullcontext)
