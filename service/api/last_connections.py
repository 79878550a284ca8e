"""How listening ends: clients are refused, and none is reset.

A connection is made by the kernel and waits there until a process accepts it. Those that wait when the last handle of
a socket is closed are reset. So new ones are kept out first, then what waits is accepted, and only then the socket is
closed: a client that was kept out sends again after a second, as TCP does, and is refused.
"""

import asyncio
import ctypes
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

SETTLE_SECONDS: Final = 0.1
"""In which a connection that a client has begun to make is made."""
ACCEPT_SECONDS: Final = 0.5
"""In which all that wait are accepted."""
_LOOK_SECONDS: Final = 0.02


async def last_accepted(listeners: Sequence[socket.socket]) -> None:
    """Wait until no connection waits to be accepted, and let no new one be made.

    Parameters
    ----------
    listeners : sequence of socket
        That processes still accept from.
    """
    keep_out(listeners)
    await asyncio.sleep(SETTLE_SECONDS)
    for _ in range(round((ACCEPT_SECONDS - SETTLE_SECONDS) / _LOOK_SECONDS)):
        if not any(map(waiting_on, listeners)):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def keep_out(listeners: Sequence[socket.socket]) -> None:
    """Let no new connection be made, in any process that shares the sockets; those that wait can be accepted."""
    program = ctypes.create_string_buffer(_NO_FIRST_PACKET, len(_NO_FIRST_PACKET))
    filter_ = struct.pack("@HP", len(_NO_FIRST_PACKET) // _INSTRUCTION, ctypes.addressof(program))
    for one in listeners:
        with suppress(OSError):  # a kernel without filters, or no listener: what arrives from now on may be reset
            if one.family == socket.AF_UNIX:
                one.shutdown(socket.SHUT_RD)  # clients are refused at once
            else:
                one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def waiting_on(listener: socket.socket) -> int:
    """How many connections wait to be accepted; 0 where the kernel does not say, as of Unix domain sockets."""
    try:
        information = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    number: int = struct.unpack_from("=I", information, _UNACKED)[0]
    return number


def close(listeners: Sequence[socket.socket]) -> None:
    """End listening for all processes that share the sockets, whatever handles they still have."""
    for one in listeners:
        with suppress(OSError), one:  # it may not listen
            one.shutdown(socket.SHUT_RDWR)


_SO_ATTACH_FILTER: Final = 26  # of asm-generic/socket.h; Python has no name for it
# struct tcp_info: of a socket that listens, `tcpi_unacked` is the length of its queue.
_TCP_INFO_BYTES: Final = 104
_UNACKED: Final = 24
_INSTRUCTION: Final = struct.calcsize("=HBBI")
# Classic BPF, on the header of TCP: drop a packet with SYN and without ACK, the first of a connection; pass all others.
_NO_FIRST_PACKET: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFF_FFFF),  # pass
    )
)
