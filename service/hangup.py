"""What an operator changes on disk is taken over while the service runs: aliases every so often, all of it on SIGHUP.

Tested in tests/test_main.py and tests/api/test_tls.py.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.api.tls import Tls
from service.runtime.reload import Reloader


@asynccontextmanager
async def watching(reloader: Reloader, seconds: float, tls: Tls | None = None) -> AsyncIterator[None]:
    """While the context lasts, aliases are looked at every so often; on SIGHUP at once, and so is the certificate.

    Parameters
    ----------
    reloader : Reloader
    seconds : float
        Between two looks; 0 for none but on SIGHUP.
    tls : Tls, optional
    """
    loop, hangup = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    watch = asyncio.create_task(_watch(reloader, hangup, seconds or None, tls))
    try:
        yield
    finally:
        watch.cancel()
        loop.remove_signal_handler(signal.SIGHUP)


async def _watch(reloader: Reloader, hangup: asyncio.Event, seconds: float | None, tls: Tls | None) -> None:
    while True:
        try:
            await asyncio.wait_for(hangup.wait(), seconds)
        except TimeoutError:
            await asyncio.to_thread(reloader.poll)
        else:
            hangup.clear()
            if tls is not None:
                tls.reload()
            await asyncio.to_thread(reloader.reload)
