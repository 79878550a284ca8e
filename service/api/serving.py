"""uvicorn, as the service runs it: one process or several, on sockets that exist already."""

import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final, NoReturn

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.api.connection_scan import ConnectionScan
from service.api.http_limits import LINGER_SECONDS, HttpLimits
from service.api.http_protocol import StrictHttpProtocol
from service.api.loop_load import LoopLoad
from service.api.tls import Tls

NO_SNIFF: Final = (("X-Content-Type-Options", "nosniff"),)
"""Browsers take an answer for what its media type says."""


READY_SECONDS: Final = 30
"""For which a worker may be silent, and in which one that takes another's place must be ready: it loads every model."""


class Terminated(BaseException):
    """SIGTERM has ended the process; what it leaves behind can be removed, and the signal raised again."""


ACCEPTED_IN_A_TURN: Final = 32


@dataclass(frozen=True, slots=True)
class Serving:
    """How requests are served.

    Attributes
    ----------
    limits : HttpLimits
    deadline : float
        Seconds in which every request is answered; a process that ends waits no longer than two more.
    tls : Tls or None
    """

    limits: HttpLimits
    deadline: float
    tls: Tls | None = None

    def in_one_process(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        """Serve an application until a signal ends it.

        Raises
        ------
        Terminated
        """
        server = uvicorn.Server(self._config(app))
        # uvicorn raises a signal that it has handled once more; by default SIGTERM would then end everything at once.
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            with suppress(KeyboardInterrupt):
                server.run(_handles(sockets))
        finally:
            signal.signal(signal.SIGTERM, before)
        if not server.started:
            sys.exit(STARTUP_FAILURE)

    def in_processes(self, factory: str, workers: int, sockets: Sequence[socket.socket]) -> None:
        """Serve what a factory makes, in several processes, until a signal ends them.

        Parameters
        ----------
        factory : str
            `module:function`; every process imports it.
        workers : int
        sockets : sequence of socket
        """
        supervisor = Multiprocess(self._config(factory, factory=True, workers=workers), _handles(sockets))
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            sys.exit(STARTUP_FAILURE)

    def _config(self, app: ASGIApp | str, **more: Any) -> uvicorn.Config:
        advertised = self.limits.advertised
        return uvicorn.Config(
            app,
            http=partial(StrictHttpProtocol, limits=self.limits, scan=ConnectionScan(), load=LoopLoad()),  # type: ignore[arg-type]
            ws="none",
            interface="asgi3",
            headers=[*NO_SNIFF, *([("Keep-Alive", f"timeout={advertised}")] if advertised else [])],
            timeout_graceful_shutdown=self.deadline + LINGER_SECONDS,  # type: ignore[arg-type]  # of asyncio.wait_for
            timeout_worker_healthcheck=READY_SECONDS,
            ssl_context_factory=self.tls,
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            **more,
        )


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise Terminated


def _handles(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    # libuv accepts one connection per handle and turn of the loop. Under load a turn takes many milliseconds, and with
    # one handle a probe waits for a turn of every connection that was made before it.
    return [*sockets, *(made.dup() for made in sockets for _ in range(ACCEPTED_IN_A_TURN - 1))]
