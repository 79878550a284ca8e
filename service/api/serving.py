"""uvicorn, as the service runs it: one process or several, on sockets that exist already."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from service.api.connection_scan import ConnectionScan
from service.api.http_limits import HttpLimits
from service.api.http_protocol import StrictHttpProtocol
from service.api.loop_load import LoopLoad
from service.api.server import EndTimes, Server
from service.api.supervisor import Supervisor
from service.api.tls import Tls
from service.errors import ServiceError

NO_SNIFF: Final = (("X-Content-Type-Options", "nosniff"),)
"""Browsers take an answer for what its media type says."""
ACCEPTED_IN_A_TURN: Final = 32

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class Serving:
    """How requests are served.

    Attributes
    ----------
    limits : HttpLimits
    deadline : float
        Seconds in which every request is answered; a process that ends waits no longer than two more.
    tls : Tls or None
    drain_seconds : float
        After SIGTERM, in which the service is not ready and accepts connections.
    """

    limits: HttpLimits
    deadline: float
    tls: Tls | None = None
    drain_seconds: float = 0.0

    @property
    def times(self) -> EndTimes:
        """How long an end may take."""
        return EndTimes(drain=self.drain_seconds, deadline=self.deadline)

    def in_one_process(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        """Serve an application until a signal ends it."""
        server = Server(self._config(app), self.times)
        server.run(_handles(sockets))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the process has nothing more to do
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
        target = partial(_work, self, factory, list(sockets))
        code = asyncio.run(Supervisor(target, workers, sockets, self.times).run())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if code:
            sys.exit(code)

    def as_worker(self, factory: str, sockets: Sequence[socket.socket], supervisor: socket.socket) -> None:
        """Serve what a factory makes until the supervisor ends it.

        Parameters
        ----------
        factory : str
            `module:function`, imported here.
        sockets : sequence of socket
        supervisor : socket
            Connection to the supervisor.
        """
        server = Server(self._config(factory, factory=True), self.times, supervisor)
        try:
            server.run(_handles(sockets))
        except ServiceError as error:
            log.error("a worker cannot start: %s", error)  # noqa: TRY400  # the trace says nothing more
        if not server.started:
            sys.exit(STARTUP_FAILURE)

    def _config(self, app: ASGIApp | str, **more: Any) -> uvicorn.Config:
        advertised = self.limits.advertised
        return uvicorn.Config(
            app,
            http=partial(StrictHttpProtocol, limits=self.limits, scan=ConnectionScan(), load=LoopLoad()),  # type: ignore[arg-type]
            ws="none",
            interface="asgi3",
            headers=[*NO_SNIFF, *([("Keep-Alive", f"timeout={advertised}")] if advertised else [])],
            timeout_graceful_shutdown=self.times.answers,  # type: ignore[arg-type]  # of asyncio.wait_for
            ssl_context_factory=self.tls,
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            workers=1,  # of this process; else uvicorn reads a variable of its own
            **more,
        )


def _work(serving: Serving, factory: str, sockets: list[socket.socket], supervisor: socket.socket) -> None:
    # A terminal's Control-C was blocked at the start. It and a hang-up are for the supervisor.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    serving.as_worker(factory, sockets, supervisor)


def _handles(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    # libuv accepts one connection per handle and turn of the loop. Under load a turn takes many milliseconds, and with
    # one handle a probe waits for a turn of every connection that was made before it.
    for made in sockets:
        made.setblocking(False)  # else the handles that other processes have of it would block too, and their loops
    return [*sockets, *(made.dup() for made in sockets for _ in range(ACCEPTED_IN_A_TURN - 1))]
