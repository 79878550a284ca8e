"""uvicorn's server with an end of its own: not ready at once, listening for a while, over in a bounded time.

uvicorn closes its sockets with connections in them, waits for threads that still work, and raises a signal again once
it has handled it. Here no client is reset, nothing delays the end, and an end in good order has exit code 0.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import uvicorn

from service.api.ending import AT_THE_END, ENDING, REPLACED, Ending, Patience
from service.api.http_limits import LINGER_SECONDS
from service.api.last_connections import last_accepted
from service.api.worker_messages import ALIVE, CLOSE, DRAIN, LEAVE, READY, REPLACE

UNWIND_SECONDS: Final = 0.5
"""In which a process has ended after its application."""
ALIVE_SECONDS: Final = 1.0
"""Between two signs of life of a worker."""

log = logging.getLogger("temperance")


@dataclass(frozen=True, slots=True)
class EndTimes:
    """How long an end may take.

    Attributes
    ----------
    drain : float
        Seconds between SIGTERM and the end of listening.
    deadline : float
        Seconds in which every request is answered.
    """

    drain: float
    deadline: float

    @property
    def answers(self) -> float:
        """Seconds after the end of listening in which every answer is written."""
        return self.deadline + LINGER_SECONDS - 3.0 * UNWIND_SECONDS

    @property
    def process(self) -> float:
        """Seconds after the end of listening in which the process has ended."""
        # Before are half a second in which the last are accepted, and after one in which a supervisor kills.
        return self.deadline + LINGER_SECONDS - 2.0 * UNWIND_SECONDS


class Server(uvicorn.Server):
    """One process that serves.

    Parameters
    ----------
    config : uvicorn.Config
    times : EndTimes
    supervisor : socket, optional
        Connection to the process that supervises this one: SIGTERM and SIGINT are for that process then.
    """

    def __init__(self, config: uvicorn.Config, times: EndTimes, supervisor: socket.socket | None = None) -> None:
        super().__init__(config)
        self._times, self._supervisor = times, supervisor
        self._ending = Ending()  # until the application hands over its own
        self._patience = AT_THE_END

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end; threads that still work then are not waited for."""
        await super().serve(sockets)
        end_within(UNWIND_SECONDS)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take signals and what the supervisor sends."""
        loop = asyncio.get_running_loop()
        if self._supervisor is None:
            loop.add_signal_handler(signal.SIGTERM, self._terminate)
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
        else:
            loop.add_signal_handler(signal.SIGTERM, self._send, REPLACE)
            loop.add_reader(self._supervisor, self._receive)
            threading.Thread(target=self._show_life, name="alive", daemon=True).start()
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections."""
        await super().startup(sockets)
        self._ending = self.lifespan.state[ENDING]
        self._send(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, finish what is under way, and end the application."""
        if self._supervisor is None:  # else the sockets stay open in other processes
            await last_accepted(sockets or [])
        self._ending.close(self._patience)
        await super().shutdown(sockets)

    def _terminate(self) -> None:
        if self._ending.is_draining or not (self.started and self._times.drain):
            self._close(AT_THE_END)
            return
        self._ending.drain()
        log.info("not ready; connections are accepted for %g more seconds", self._times.drain)
        asyncio.get_running_loop().call_later(self._times.drain, self._close, AT_THE_END)

    def _interrupt(self) -> None:
        if self.should_exit:
            self._cut_off()
        self._close(AT_THE_END)

    def _cut_off(self) -> None:
        # As if all clients had left. uvicorn's forced end cancels requests, each with a traceback in the log.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        end_within(UNWIND_SECONDS)

    def _close(self, patience: Patience) -> None:
        if self.should_exit:
            return
        self._patience = patience
        if patience is AT_THE_END:
            self._ending.drain()
        self.should_exit = True
        end_within(self._times.process)

    # With a supervisor

    def _receive(self) -> None:
        try:
            words = b"" if self._supervisor is None else self._supervisor.recv(64)
        except BlockingIOError:
            return
        except OSError:  # it was killed, with words of ours unread
            words = b""
        if DRAIN in words:
            self._ending.drain()
        if LEAVE in words:
            self._close(REPLACED)
        if CLOSE in words:
            self._close(AT_THE_END)
        if not words:
            self._go_on_alone()

    def _go_on_alone(self) -> None:
        # The supervisor was killed. Without it nothing replaces this process, and nothing frees the address.
        if self._supervisor is not None:
            asyncio.get_running_loop().remove_reader(self._supervisor)
            self._supervisor = None
            self._close(AT_THE_END)

    def _send(self, word: bytes) -> None:
        if self._supervisor is not None:
            with suppress(OSError):
                self._supervisor.send(word)

    def _show_life(self) -> None:
        # A thread: the event loop is held while models are loaded.
        while (supervisor := self._supervisor) is not None:
            try:
                supervisor.send(ALIVE)
            except BlockingIOError:  # the supervisor is suspended
                pass
            except OSError:
                break
            time.sleep(ALIVE_SECONDS)
        time.sleep(self._times.process if self.started else 0.0)
        os._exit(os.EX_OK)


def end_within(seconds: float) -> None:
    """End the process after some time, if something still keeps it: a thread that works, a collector that is slow."""
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.warning("ended, though a thread of this process still works")
    os._exit(os.EX_OK)
