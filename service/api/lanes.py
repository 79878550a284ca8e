"""Requests that come together and ask a model the same are judged and answered together.

Under load that is most of them: whoever uses a model sends the same words around other rows. All that does not depend
on the rows is done once in the model's life, and all that costs as much for one row as for many once for all of them.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from service.api.v1.templates import Templates
from service.core.numerics import Array
from service.errors import DeadlineExceeded, ModelOutputInvalid, RequestError
from service.prediction.predictor import Predictor
from service.prediction.query import Query
from service.runtime.batching import Turns
from service.runtime.integers import Wide, among, rows_with
from service.runtime.rows import Rows

QUIET_TURNS: Final = 2  # what is read in one turn of the loop is asked in the next

Told = bytes | Exception | None
"""An answer's body; what to raise in its place; or None: the request is at fault, and the ordinary route tells how."""


@dataclass(slots=True, eq=False)
class _Asked:
    request_id: str
    rows: list[Any]
    deadline: float


@dataclass(slots=True, eq=False)
class _Waiting(_Asked):
    told: asyncio.Future[bytes | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    queued: bool = True

    def tell(self, told: Told) -> None:
        if self.told.done():  # its client has gone
            return
        if isinstance(told, Exception):
            self.told.set_exception(told)  # whose traceback the future restores for each who is told
        else:
            self.told.set_result(told)


class Lane:
    """Answers one query; belongs to one event loop.

    Parameters
    ----------
    predictor : Predictor
    query : Query
        One that `Templates` suit.
    width : int
        Columns of a row.
    seconds : float
        That an answer may take; the manifest may allow fewer.
    """

    def __init__(self, predictor: Predictor, query: Query, *, width: int, seconds: float) -> None:
        self._predictor = predictor
        self._query = query
        self._templates = Templates(query)
        self._width = width
        self._wide = query.model.inputs.wide
        own = query.model.manifest.runtime.deadline
        self._seconds = seconds if own is None else min(seconds, own)
        self._batcher = query.model.batcher
        self._most_rows = query.model.manifest.runtime.batch_rows
        self._turns = Turns()
        self._asked: list[_Waiting] = []  # together, on the event loop
        self._leader: asyncio.Task[None] | None = None
        self._queue: list[_Waiting] = []  # for the next run on a thread
        self._runner: asyncio.Task[None] | None = None

    def light(self, rows: int) -> bool:
        """Whether so many rows would be judged on the event loop, and now."""
        return self._batcher.inline(rows) and not self._batcher.busy

    async def answer(self, request_id: str, rows: list[Any]) -> bytes | None:
        """What one request is answered, together with all that come with it.

        Parameters
        ----------
        request_id : str
        rows : list
            As they came: numbers, in lists of any depth.

        Returns
        -------
        bytes or None
            None where the request is at fault: the ordinary route tells how.

        Raises
        ------
        Exception
            Whatever is wrong with the service, and not with the request: Overloaded, DeadlineExceeded.
        """
        deadline = time.monotonic() + self._seconds
        if not self._asked and self._turns.alone():
            (told,) = await self._tell([_Asked(request_id, rows, deadline)])
            if isinstance(told, Exception):
                raise told
            return told
        mine = _Waiting(request_id, rows, deadline)
        self._asked.append(mine)
        if len(self._asked) == 1:  # a task of its own, for all who join depend on it
            self._leader = asyncio.create_task(self._lead())
        return await mine.told

    async def wait(self, request_id: str, rows: list[Any]) -> bytes | None:
        """As `answer`, for what runs on a thread: together with all that come before the next run.

        Cancelled, the request leaves the queue.
        """
        self._batcher.reserve()
        mine = _Waiting(request_id, rows, time.monotonic() + self._seconds)
        self._queue.append(mine)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._seconds):
                return await mine.told
        except TimeoutError:
            raise DeadlineExceeded.in_the_queue() from None
        finally:
            if mine.queued:
                self._queue.remove(mine)
                self._batcher.release(1)

    async def _lead(self) -> None:
        await self._settled()
        asked, self._asked = self._asked, []
        self._turns.met(len(asked))
        for part in _parts(asked, self._most_rows):
            await self._answer(part)

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._answer(self._taken())
        finally:
            self._runner = None

    def _taken(self) -> list[_Waiting]:
        part = next(_parts(self._queue, self._most_rows))
        del self._queue[: len(part)]
        self._batcher.release(len(part))
        for one in part:
            one.queued = False
        return [one for one in part if not one.told.done()]

    async def _answer(self, asked: Sequence[_Waiting]) -> None:
        for one, told in zip(asked, await self._tell(asked) if asked else [], strict=True):
            one.tell(told)

    async def _settled(self) -> None:
        # No clock: a turn of the loop takes microseconds, and under load each one brings more requests.
        quiet, known = 0, len(self._asked)
        while quiet < QUIET_TURNS and known < self._most_rows:
            await asyncio.sleep(0)
            quiet, known = (quiet + 1 if len(self._asked) == known else 0), len(self._asked)

    async def _tell(self, asked: Sequence[_Asked]) -> list[Told]:
        try:
            return [*await self._bodies(asked)]
        except (RequestError, ModelOutputInvalid, _Misshapen):
            return [None] if len(asked) == 1 else await self._apart(asked)
        except Exception as error:  # noqa: BLE001  # all of them asked for what raised it
            return [error] * len(asked)

    async def _bodies(self, asked: Sequence[_Asked]) -> list[bytes]:
        rows = _table([row for one in asked for row in one.rows], self._width, self._wide)
        sizes, last = [len(one.rows) for one in asked], max(one.deadline for one in asked)
        judgement = await self._predictor.judge(self._query, rows, sizes=sizes, deadline=last)
        ids = [one.request_id for one in asked]
        return self._templates.write(judgement, ids, sizes, at=self._predictor.now())

    async def _apart(self, asked: Sequence[_Asked]) -> list[Told]:
        # By halves: one request at fault among n costs some 2 log n runs, and nobody else anything.
        half = len(asked) // 2
        return await self._tell(asked[:half]) + await self._tell(asked[half:])


class _Misshapen(Exception):
    """Rows that are no table of the model's columns."""


def _table(rows: list[Any], width: int, wide: Sequence[Wide]) -> Rows:
    try:
        table: Array = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):  # ragged
        raise _Misshapen from None
    if table.ndim != 2 or table.shape[1] != width:
        raise _Misshapen
    return rows_with(table, among(rows, table, wide))


def _parts(asked: Sequence[_Waiting], most_rows: int) -> Iterator[list[_Waiting]]:
    part: list[_Waiting] = []
    rows = 0
    for one in asked:
        if part and rows + len(one.rows) > most_rows:
            yield part
            part, rows = [], 0
        part.append(one)
        rows += len(one.rows)
    if part:
        yield part
