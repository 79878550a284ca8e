"""Disconnected clients: their requests leave the queue."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

Result = TypeVar("Result")


async def while_connected(work: Awaitable[Result], receive: Receive) -> Result:
    """The result of work; ClientDisconnect, and the end of the work, when the client disconnects first.

    Parameters
    ----------
    work : awaitable
    receive : callable
        ASGI's, once the body has been read.

    Raises
    ------
    ClientDisconnect
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def has_left(receive: Receive) -> bool:
    """Whether the client has disconnected by now; never waits.

    Parameters
    ----------
    receive : callable
        ASGI's, once the body has been read and nothing else waits for it.
    """
    receiving = receive().__await__()
    try:
        next(receiving)
    except StopIteration as done:
        message: Message = done.value
        return bool(message["type"] == "http.disconnect")
    receiving.close()
    return False


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
