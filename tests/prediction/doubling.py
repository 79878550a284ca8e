"""A model, its queries and a queue without any graph."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from service.bundle.runtime_options import Runtime
from service.core.numerics import Array
from service.prediction.answer import Part
from service.prediction.counts import Counts
from service.prediction.query import Query
from service.prediction.queue import Queue
from service.prediction.timings import Timings
from service.runtime.rows import Fields, Rows
from service.runtime.timing import RunTime, Tally

POISON = -1.0


class Doubling:
    """A model that doubles its rows, remembers every run, and fails on poison."""

    def __init__(self, *, gate: threading.Event | None = None, run_time: RunTime | None = None) -> None:
        self.runs: list[int] = []
        self.threads: set[str] = set()
        self.entered = threading.Event()
        self.run_time = run_time or RunTime()
        self.tally = Tally()
        self._gate = gate

    name = "doubling"

    def raw(self, rows: Rows, *, deadline: float | None = None) -> Array:
        del deadline
        self.entered.set()
        if self._gate is not None:
            self._gate.wait(10.0)
        self.runs.append(len(rows))
        self.threads.add(threading.current_thread().name)
        numbers = rows.numbers if isinstance(rows, Fields) else rows
        if (numbers == POISON).any():
            raise ValueError(f"{int((numbers == POISON).any(axis=1).argmax())}")
        doubled: Array = 2.0 * numbers
        return doubled

    def posterior_of(self, raw: Array) -> Array:
        return raw


@dataclass
class Options:
    verb: str = "predict"
    session: None = None


@dataclass(eq=False)
class Asking:
    """A query whose answer is the posterior as it is; it remembers how many rows it concluded at once."""

    model: Doubling
    joins: bool = True
    options: Options = field(default_factory=Options)
    concluded: list[int] = field(default_factory=list)
    fails: bool = False

    def conclude(self, posterior: Array, *, monitor: object = None) -> Array:
        self.concluded.append(len(posterior))
        if self.fails:
            raise RuntimeError("stage E")
        return posterior if monitor is None else posterior + 1.0


class Counted(Counts):
    """What was counted."""

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.waiting = self.most_waiting = 0

    def count(self, verb: str, answer: object, parts: Iterable[Part]) -> None:
        del verb, answer
        self.parts += [part.rows for part in parts]

    def wait(self, model: str, requests: int = 1) -> None:
        del model
        self.waiting += requests
        self.most_waiting = max(self.most_waiting, self.waiting)

    def time(self, model: str, queued: Iterable[float], timings: Timings) -> None:
        del model, queued, timings


def row(value: float, n: int = 1) -> Array:
    return np.full((n, 3), value)


def queue_of(counts: Counts | None = None, **limits: object) -> Queue:
    return Queue(Runtime.model_validate(limits), counts or Counted())


async def answer(queue: Queue, query: Asking, rows: Rows, **more: Any) -> Array:
    joint, place = await queue.answer(cast("Query", query), rows, Part("id", len(rows)), **more)
    return cast("Array", joint.own(place))


async def together(queue: Queue, query: Asking, *rows: Rows) -> list[Array | BaseException]:
    return await asyncio.gather(*(answer(queue, query, part) for part in rows), return_exceptions=True)


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
