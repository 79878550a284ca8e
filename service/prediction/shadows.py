"""Versions that run beside `stable`: after an answer has left, a share of the requests is answered by them too.

What they answer is recorded and never returned. One thread of low priority does it, one request at a time. Requests
wait in a short line; where it is full they are left out, and counted.
"""

import contextlib
import dataclasses
import os
import queue
import threading
import time
from asyncio import AbstractEventLoop, get_running_loop, to_thread
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from logging import getLogger
from typing import Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from service.bundle.writer import FIRST_ALIAS
from service.errors import ServiceError
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.query import Query
from service.prediction.records import Origin, RecordPlan
from service.prediction.timings import Timings
from service.record_errors import StoreUnavailable
from service.runtime.loader import Shadow
from service.runtime.model import Model
from service.runtime.registry import Registry
from service.runtime.rows import Rows
from service.store.entries import Write
from service.store.keyed_tokens import Tokens
from service.store.record_writer import Writer

log = getLogger("temperance")

MOST_WAITING: Final = 64
SECONDS: Final = 30.0
"""Deadline of a run."""

NICENESS: Final = 10
RECORDED, DROPPED, FAILED = "recorded", "dropped", "failed"


class Count(Protocol):
    """Counts requests that a shadow was to see."""

    def __call__(self, model: str, version: str, result: str, /) -> None:
        """By model, version, and ``recorded``, ``dropped`` or ``failed``."""


class _Task(NamedTuple):
    shadow: Shadow
    query: Query
    plan: RecordPlan
    part: Part
    rows: Rows
    loop: AbstractEventLoop


class Shadows:
    """Runs shadows; belongs to one event loop.

    Parameters
    ----------
    registry : Registry
    writer : Writer
        Of records.
    tokens : Tokens
    clock : callable
        The time of day, with its zone.
    new_id : callable
        Makes request ids.
    count : Count
    """

    def __init__(
        self,
        registry: Registry,
        writer: Writer,
        tokens: Tokens,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        count: Count,
    ) -> None:
        self._registry, self._writer, self._tokens = registry, writer, tokens
        self._clock, self._new_id, self._count = clock, new_id, count
        self._tasks: queue.Queue[_Task | None] = queue.Queue(MOST_WAITING)
        self._plans: WeakKeyDictionary[RecordPlan, dict[str, RecordPlan]] = WeakKeyDictionary()
        self._thread: threading.Thread | None = None

    def offer(self, joint: JointAnswer, place: int, plan: RecordPlan) -> None:
        """Let shadows see a request whose answer has left; returns at once, on the event loop.

        Parameters
        ----------
        joint : JointAnswer
        place : int
            Of the request among its parts.
        plan : RecordPlan
            Of its record.
        """
        model = joint.query.model
        served = self._registry.find(model.name)
        if served is None or not served.shadows or not plan.has_rows:
            return
        if served.models.get(served.aliases.get(FIRST_ALIAS, 0)) is not model:
            return
        part = joint.parts[place]
        for shadow in served.shadows:
            if shadow.model.version != model.version and is_chosen(part.request_id, shadow.share):
                self._put(_Task(shadow, joint.query, plan, part, joint.rows[place], get_running_loop()))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until the context ends; what waits then is left out."""
        try:
            yield
        finally:
            await to_thread(self._end)

    def _put(self, task: _Task) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadows", daemon=True)
            self._thread.start()
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            self._counted(task.shadow.model, DROPPED)

    def _end(self) -> None:
        if self._thread is None:
            return
        with contextlib.suppress(queue.Empty):
            while (task := self._tasks.get_nowait()) is not None:
                self._counted(task.shadow.model, DROPPED)
        self._tasks.put(None)
        self._thread.join(SECONDS)

    def _work(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a thread has a priority of its own on Linux alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (task := self._tasks.get()) is not None:
            self._attempt(task)

    def _attempt(self, task: _Task) -> None:
        try:
            write = self._answered(task)
            task.loop.call_soon_threadsafe(self._submit, task.shadow.model, write)
        except ServiceError as error:
            self._failed(task.shadow.model, type(error).__name__)
        except Exception as error:  # noqa: BLE001  # no request waits for it, and the next one is another
            self._failed(task.shadow.model, type(error).__name__)

    def _answered(self, task: _Task) -> Write:
        plan, started = self._plan(task), time.monotonic()
        query = plan.query
        raw = query.model.raw(task.rows, deadline=started + SECONDS)
        ran = time.monotonic()
        answer = query.conclude(query.model.posterior_of(raw))
        timings = Timings(started, ran, time.monotonic())
        content = plan.contents(JointAnswer(query, answer, [task.part], [started], timings, [task.rows]), self._tokens)[
            0
        ]
        caller, request_id, traceparent, _ = task.part.sender
        created, latency = int(self._clock().timestamp() * 1e6), int(1e6 * (time.monotonic() - started))
        origin = Origin(self._new_id(), created, caller, request_id, traceparent, latency)
        recording = content.recording
        prediction = content.prediction(origin, shadow_of=task.part.request_id)
        return Write([prediction], [recording.context], list(recording.documents))

    def _plan(self, task: _Task) -> RecordPlan:
        """The plan of the shadow's records; checked once for every kind of request."""
        model, other = task.shadow.model, task.query.model
        if model.manifest.inputs != other.manifest.inputs:
            raise InputsDiffer
        plans = self._plans.setdefault(task.plan, {})
        key = f"{model.version}:{model.bundle.digest}"
        if task.query.options.vary_by_row or key not in plans:
            options = dataclasses.replace(task.query.options, session=None)
            plans[key] = task.plan.beside(Query.of(model, options), shadow_of=int(other.version))
        return plans[key]

    def _submit(self, model: Model, write: Write) -> None:
        try:
            self._writer.submit(write)
        except StoreUnavailable:
            self._counted(model, DROPPED)
        else:
            self._counted(model, RECORDED)

    def _failed(self, model: Model, kind: str) -> None:
        self._counted(model, FAILED)
        log.debug("the shadow %s could not answer: %s", model.bundle.title, kind)

    def _counted(self, model: Model, result: str) -> None:
        self._count(model.name, model.version, result)


class InputsDiffer(Exception):  # a finding
    """A shadow takes other inputs than the version that answers, so the same rows mean something else to it."""


def is_chosen(request_id: str, share: float) -> bool:
    """Whether a request is one of a share: always the same ones, by the random end of their ids.

    Examples
    --------
    >>> is_chosen("0192f0c1-0000-7000-8000-000000000000", 0.25), is_chosen("0192f0c1-0000-7000-8000-0000ffffffff", 0.25)
    (True, False)
    """
    return int(request_id[-8:], 16) < share * (1 << 32)
