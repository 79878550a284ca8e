"""While the server runs, outcomes are looked at for alarms every so often, on a thread beside the event loop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Final

import uuid_utils

from service.errors import ServiceError
from service.log_format import error_lines
from service.monitoring.alarm_watch import AlarmWatch
from service.monitoring.alarms import Alarm, CurrentEvidence, Watched
from service.record_places import secrets_of, store_url
from service.runtime.registry import Registry
from service.settings import Settings
from service.store.engine import Store, open_store
from service.telemetry import Telemetry

log = logging.getLogger("temperance")

UNSEEN: Final = "outcomes could not be looked at for alarms; they are looked at again"


@dataclass(frozen=True, slots=True)
class AlarmLooks:
    """Looks for alarms, and shows them as a metric.

    Attributes
    ----------
    watch : AlarmWatch
    connect : callable
        Opens the store; called on a thread, for every look.
    telemetry : Telemetry
    seconds : float
        Between two looks.
    """

    watch: AlarmWatch
    connect: Callable[[], Store]
    telemetry: Telemetry
    seconds: float

    async def supervised(self) -> None:
        """Look for as long as the process serves; whatever fails is logged, and tried again at the next look."""
        while True:
            await asyncio.sleep(self.seconds)
            try:
                self._show(*await asyncio.to_thread(self._look))
            except ServiceError as error:
                log.warning("%s: %s", UNSEEN, error.detail)
            except Exception as error:  # noqa: BLE001  # whatever it is, later outcomes must be looked at
                log.error(UNSEEN, extra={"error_lines": error_lines(error)})  # noqa: TRY400  # the lines hold no message

    def _look(self) -> tuple[list[Alarm], list[CurrentEvidence]]:
        store = self.connect()
        try:
            return self.watch.look(store), self.watch.evidence(store)
        finally:
            store.close()

    def _show(self, alarms: list[Alarm], evidence: list[CurrentEvidence]) -> None:
        for test in evidence:
            labels = test.model, str(test.version), test.test
            self.telemetry.alarm_evidence.labels(*labels).set(test.share)
            self.telemetry.alarm_outcomes.labels(*labels).set(test.outcomes)
        for alarm in alarms:
            gauge = self.telemetry.alarm.labels(alarm.model, str(alarm.version), alarm.test)
            gauge.set(0.0 if alarm.acknowledged else 1.0)


@asynccontextmanager
async def looking(looks: AlarmLooks) -> AsyncIterator[None]:
    """While the context lasts, outcomes are looked at."""
    task = asyncio.create_task(looks.supervised())
    try:
        yield
    finally:
        looks.watch.ending.set()
        task.cancel()


def looking_for_alarms(
    settings: Settings, registry: Registry, telemetry: Telemetry
) -> AbstractAsyncContextManager[None]:
    """The looks of a server; none without a record, or where they are switched off."""
    if settings.audit == "off" or not settings.monitor_seconds:
        return nullcontext()
    watch = AlarmWatch(str(uuid_utils.uuid7()), lambda: _versions(registry), Event())

    def connect() -> Store:
        return open_store(store_url(settings), signer=secrets_of(settings).current.signer)

    return looking(AlarmLooks(watch, connect, telemetry, settings.monitor_seconds))


def _versions(registry: Registry) -> list[Watched]:
    found = (Watched.of(model.bundle) for model in registry.all_models() if model.bundle.record is not None)
    return [watched for watched in found if watched.tests]
