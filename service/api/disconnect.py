"""Disconnected clients: their requests leave the queue."""

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


async def predict_while_connected(
    predictor: Predictor, call: Call, model: Model, rows: Rows, options: Options, *, receive: Receive | None
) -> Prediction:
    """The answer of `Predictor.predict`, to a client that stays connected; an immediate run ends before it can go.

    Parameters
    ----------
    predictor : Predictor
    call : Call
    model : Model
    rows : Rows
    options : Options
    receive : callable or None
        ASGI's, once the body has been read; None watches no connection.

    Raises
    ------
    ClientDisconnect
    ServiceError
    """
    predicting = predictor.predict(call, model, rows, options)
    if receive is None or predictor.queue(model).immediate(model, len(rows)):
        return await predicting
    return await while_connected(predicting, receive)


async def while_connected(work: Awaitable[Answer], receive: Receive) -> Answer:
    """The result of work; ClientDisconnect, and the end of the work, when the client disconnects first."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
