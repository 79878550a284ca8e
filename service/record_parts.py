"""The record of a process, put together: what writes it, what reads it, and what answers wait for.

Tested in tests/test_record_parts.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial

from service.api.idempotency import ForgetReplies, Idempotency
from service.api.record_access import RecordAccess
from service.api.recorder import Recorder
from service.errors import SettingsInvalid
from service.prediction.shadows import Shadows
from service.record_errors import StoreUnavailable
from service.record_metrics import CountedGroups, MeasuredStore
from service.record_places import anchors_of, folder_of, retention_of, secrets_of, store_url
from service.runtime.registry import Registry
from service.settings import PREFIX, Settings
from service.store.commit_thread import Chore
from service.store.engine import Store, open_store
from service.store.entries import Write
from service.store.reading import Readers
from service.store.record_writer import Writer
from service.store.seals import Seals
from service.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class RecordParts:
    """The record of a process.

    Attributes
    ----------
    recorder : Recorder or None
        Of answers; None where none are recorded.
    access : RecordAccess or None
        Of requests about the record.
    idempotency : Idempotency
        Of requests with a key; without an audit, its first one opens the store.
    running : callable
        Opens the store when its context begins; at its end, what waits is written, and it is closed.
    """

    recorder: Recorder | None
    access: RecordAccess | None
    idempotency: Idempotency
    running: Callable[[], AbstractAsyncContextManager[None]]


def record_parts(settings: Settings, telemetry: Telemetry, clock: Callable[[], datetime]) -> RecordParts:
    """The record by the settings.

    Raises
    ------
    SettingsInvalid
        If there are no secrets, or none that can be used.
    """
    if settings.audit == "off":
        return _without_audit(settings, telemetry)
    secrets, url = secrets_of(settings), store_url(settings)
    connect = partial(open_store, url, signer=secrets.current.signer)
    measures = MeasuredStore(telemetry, folder_of(url), lambda: writer.waiting)
    chores: list[Chore] = [anchors_of(settings, secrets), retention_of(settings, secrets), ForgetReplies(), measures]
    writer = Writer(connect, CountedGroups(telemetry), chores)
    readers = Readers(partial(open_store, url))
    tokens, is_strict = secrets.current.tokens, settings.audit == "strict"
    recorder = Recorder(writer, tokens, Seals(secrets), clock, telemetry.unrecorded.inc, is_strict=is_strict)
    idempotency = Idempotency(writer, lambda: secrets, seconds=settings.deadline)
    access = RecordAccess(readers, _keeping(writer))
    return RecordParts(recorder, access, idempotency, partial(_running, writer, readers))


def _without_audit(settings: Settings, telemetry: Telemetry) -> RecordParts:
    secrets = cache(lambda: secrets_of(settings))  # neither made nor read before a key needs them

    def connect() -> Store:
        return open_store(store_url(settings), signer=secrets().current.signer)

    writer = Writer(connect, CountedGroups(telemetry), [ForgetReplies()])
    idempotency = Idempotency(writer, secrets, seconds=settings.deadline)
    return RecordParts(None, None, idempotency, partial(writer.running, opens=False))


def with_shadows(
    record: RecordParts,
    registry: Registry,
    telemetry: Telemetry,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
) -> RecordParts:
    """The record of a process whose shadows are recorded too; without records of answers, shadows have no use."""
    recorder = record.recorder
    if recorder is None:
        return record

    def count(model: str, version: str, result: str) -> None:
        telemetry.shadows.labels(model, version, result).inc()

    shadows = Shadows(registry, recorder.writer, recorder.tokens, clock=clock, new_id=new_id, count=count)
    return replace(record, recorder=replace(recorder, shadows=shadows), running=partial(_both, record.running, shadows))


def check_record(settings: Settings) -> None:
    """Open the store once, so that what is wrong with it is reported at the start; its schema is brought up to date.

    Raises
    ------
    SettingsInvalid
    """
    if settings.audit == "off":
        return
    signer = secrets_of(settings).current.signer
    try:
        store = open_store(store_url(settings), signer=signer)
        store.check()
        store.close()
    except StoreUnavailable as error:
        if settings.audit == "strict":
            detail = f"the record cannot be kept: {error.detail}; see {PREFIX}STORE and {PREFIX}DATA"
            raise SettingsInvalid(f"{detail}, or set {PREFIX}AUDIT=off to serve without one") from None


def _keeping(writer: Writer) -> Callable[[Write, float], Awaitable[None]]:
    async def keep(write: Write, deadline: float) -> None:
        await writer.submit(write).durable(deadline)

    return keep


@asynccontextmanager
async def _both(recording: Callable[[], AbstractAsyncContextManager[None]], shadows: Shadows) -> AsyncIterator[None]:
    async with recording(), shadows.running():  # shadows end first: their records are still written
        yield


@asynccontextmanager
async def _running(writer: Writer, readers: Readers) -> AsyncIterator[None]:
    try:
        async with writer.running():
            yield
    finally:
        await asyncio.to_thread(readers.close)
