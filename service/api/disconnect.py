"""Whether somebody still waits for an answer: rows of a client that has gone leave the queue."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.prediction.answer import Prediction
from service.prediction.call import Call
from service.prediction.options import Options
from service.prediction.predictor import Predictor
from service.runtime.model import Model
from service.runtime.rows import Rows

Answer = TypeVar("Answer")


async def judge_while_connected(
    predictor: Predictor, call: Call, model: Model, rows: Rows, options: Options, *, receive: Receive | None
) -> Prediction:
    """What `Predictor.predict` says, to a client that waits for it; a run at once ends before anybody can go.

    Parameters
    ----------
    predictor : Predictor
    call : Call
    model : Model
    rows : Rows
    options : Options
    receive : callable or None
        ASGI's, once the body has been read; None watches nobody.

    Raises
    ------
    ClientDisconnect
    ServiceError
    """
    judging = predictor.predict(call, model, rows, options)
    if receive is None or (model.batcher.inline(len(rows)) and not model.batcher.busy):
        return await judging
    return await while_connected(judging, receive)


async def while_connected(work: Awaitable[Answer], receive: Receive) -> Answer:
    """What work comes to; ClientDisconnect, and the end of the work, when the client goes first."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
