"""Requests that come together and ask a model the same are judged and answered together.

Under load that is most of them: whoever uses a model sends the same words around other rows. All that does not depend
on the rows is done once in the model's life, and all that costs as much for one row as for many once for all of them.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.api.templates import Templates
from service.core.numerics import Array
from service.errors import ModelOutputInvalid, RequestError
from service.inference import Inquiry, Predictor
from service.runtime.batching import Turns, late

QUIET_TURNS: Final = 2  # what is read in one turn of the loop is asked in the next

Told = bytes | Exception | None
"""An answer's body; what to raise in its place; or None: the request is at fault, and the ordinary route tells how."""


@dataclass(slots=True, eq=False)
class _Asked:
    request_id: str
    rows: list[Any]
    deadline: float
    told: "asyncio.Future[Told] | None" = None

    @property
    def has_gone(self) -> bool:
        return self.told is not None and self.told.done()

    def tell(self, told: Told) -> None:
        if self.told is not None and not self.told.done():
            self.told.set_result(told)


class Lane:
    """Answers one inquiry; belongs to one event loop.

    Parameters
    ----------
    predictor : Predictor
    inquiry : Inquiry
        One that `Templates` suit.
    width : int
        Columns of a row.
    seconds : float
        That an answer may take; the manifest may allow fewer.
    """

    def __init__(self, predictor: Predictor, inquiry: Inquiry, *, width: int, seconds: float) -> None:
        self._predictor = predictor
        self._inquiry = inquiry
        self._templates = Templates(inquiry)
        self._width = width
        own = inquiry.model.manifest.runtime.deadline
        self._seconds = seconds if own is None else min(seconds, own)
        self._batcher = inquiry.model.batcher
        self._most_rows = inquiry.model.manifest.runtime.batch_rows
        self._turns = Turns()
        self._asked: list[_Asked] = []  # of the turn that is under way
        self._queue: list[_Asked] = []  # for the next run on a thread
        self._runner: asyncio.Task[None] | None = None

    def light(self, rows: int) -> bool:
        """Whether so many rows are judged on the event loop."""
        return self._batcher.inline(rows)

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
        Overloaded, DeadlineExceeded
        """
        mine = _Asked(request_id, rows, time.monotonic() + self._seconds)
        if not self._asked and self._turns.alone():
            return _said((await self._tell([mine]))[0])
        self._asked.append(mine)
        if len(self._asked) > 1:  # whoever came first speaks for all
            mine.told = asyncio.get_running_loop().create_future()
            return _said(await mine.told)
        return _said(await self._lead(self._asked))

    async def wait(self, request_id: str, rows: list[Any]) -> bytes | None:
        """As `answer`, for what runs on a thread: together with all that come before the next run.

        Cancelled, the request leaves the queue.
        """
        self._batcher.reserve()
        told: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        mine = _Asked(request_id, rows, time.monotonic() + self._seconds, told)
        self._queue.append(mine)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._seconds):
                return _said(await told)
        except TimeoutError:
            raise late() from None
        finally:
            if mine in self._queue:
                self._queue.remove(mine)
                self._batcher.release(1)

    async def _run(self) -> None:
        try:
            while self._queue:
                asked, self._queue = self._queue, []
                self._batcher.release(len(asked))
                for part in _parts([one for one in asked if not one.has_gone], self._most_rows):
                    for one, told in zip(part, await self._tell(part), strict=True):
                        one.tell(told)
        finally:
            self._runner = None

    async def _lead(self, asked: list[_Asked]) -> Told:
        try:
            await self._settled()
            self._asked = []
            self._turns.met(len(asked))
            told = [answer for part in _parts(asked, self._most_rows) for answer in await self._tell(part)]
            for one, answer in zip(asked, told, strict=True):
                one.tell(answer)
            return told[0]
        finally:
            self._give_up(asked)

    def _give_up(self, asked: list[_Asked]) -> None:
        # Whoever is not answered by now never will be: the one who spoke for them was cancelled.
        if self._asked is asked:
            self._asked = []
        for one in asked:
            if one.told is not None:
                one.told.cancel()

    async def _settled(self) -> None:
        # No clock: a turn of the loop takes microseconds, and under load each one brings more requests.
        quiet, known = 0, len(self._asked)
        while quiet < QUIET_TURNS and known < self._most_rows:
            await asyncio.sleep(0)
            quiet, known = (quiet + 1 if len(self._asked) == known else 0), len(self._asked)

    async def _tell(self, asked: list[_Asked]) -> list[Told]:
        try:
            return [*await self._bodies(asked)]
        except (RequestError, ModelOutputInvalid, _Misshapen):
            return [None] if len(asked) == 1 else await self._apart(asked)
        except Exception as error:  # noqa: BLE001  # all of them asked for what raised it
            return [error] * len(asked)

    async def _bodies(self, asked: list[_Asked]) -> list[bytes]:
        rows = _table([row for one in asked for row in one.rows], self._width)
        sizes, last = [len(one.rows) for one in asked], max(one.deadline for one in asked)
        judgement = await self._predictor.judge(self._inquiry, rows, sizes=sizes, deadline=last)
        ids = [one.request_id for one in asked]
        return self._templates.write(judgement, ids, sizes, at=self._predictor.now())

    async def _apart(self, asked: list[_Asked]) -> list[Told]:
        # By halves: one request at fault among n costs some 2 log n runs, and nobody else anything.
        half = len(asked) // 2
        return await self._tell(asked[:half]) + await self._tell(asked[half:])


class _Misshapen(Exception):
    """Rows that are no table of the model's columns."""


def _table(rows: list[Any], width: int) -> Array:
    try:
        table = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):  # ragged
        raise _Misshapen from None
    if table.ndim != 2 or table.shape[1] != width:
        raise _Misshapen
    return table


def _parts(asked: list[_Asked], most_rows: int) -> Iterator[list[_Asked]]:
    part: list[_Asked] = []
    rows = 0
    for one in asked:
        if part and rows + len(one.rows) > most_rows:
            yield part
            part, rows = [], 0
        part.append(one)
        rows += len(one.rows)
    if part:
        yield part


def _said(told: Told) -> bytes | None:
    if isinstance(told, Exception):
        raise told
    return told
