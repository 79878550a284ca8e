"""Clients that hold a connection and do nothing more, as they are there when a process is to end."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.bench.shipped import DECIDE
from tests.life.load import decided

MANY_ROWS: Final = 8_000
"""Rows whose answer no buffer of a socket holds."""

HEAD: Final = f"POST {DECIDE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
Stall = Callable[[int], socket.socket]
"""Connects to a port and stalls."""


def silent(port: int) -> socket.socket:
    """Sends nothing."""
    return socket.create_connection(("127.0.0.1", port))


def half_head(port: int) -> socket.socket:
    """Sends half a head."""
    return _begun(port, HEAD)


def half_body(port: int) -> socket.socket:
    """Sends a head, and half of the body."""
    return _begun(port, HEAD + b'Content-Length: 1000\r\n\r\n{"instances": [[')


def idle(port: int) -> socket.socket:
    """Has had an answer, and keeps the connection."""
    made = _begun(port, decided(keeps=True))
    made.recv(1 << 16)
    return made


def deaf(port: int) -> socket.socket:
    """Requests much, and reads nothing of the answer."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port))
    made.sendall(decided(keeps=True, rows=MANY_ROWS))
    return made


def _begun(port: int, data: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(data)
    return made


@contextmanager
def stalled(port: int, kinds: Sequence[str], each: int) -> Iterator[None]:
    """So many clients of each of these kinds, while the context lasts."""
    with ExitStack() as stack:
        for kind in kinds:
            for _ in range(FEW.get(kind, each)):
                stack.enter_context(STALLS[kind](port))
        yield


FEW: Final = {"reads nothing": 2}
"""Kinds whose every client is much work."""

STALLS: Final[dict[str, Stall]] = {
    "silent": silent,
    "half a head": half_head,
    "half a body": half_body,
    "idle": idle,
    "reads nothing": deaf,
}
