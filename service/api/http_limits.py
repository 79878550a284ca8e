"""How much a connection may send, and how long it may take.

Tested in `tests/api/test_http_protocol.py`.
"""

from dataclasses import dataclass
from typing import Final

LINGER_SECONDS: Final = 2.0
"""For which a client that still sends is read, after its last answer or once the process ends."""
FRESH_SECONDS: Final = 0.5
"""After a connection was made, in which its first request may be on the way, whether or not the process ends."""
MOST_UNREAD: Final = 128 << 20
"""Bytes of a body that are read and dropped after its answer: who sends 64 MiB in one go still gets its 413."""
MOST_FRAMING: Final = 512 << 10
"""Bytes of a chunked body beside its data: sizes, extensions, trailers. A million chunks of one byte have 5 MB."""
MOST_PIPELINED: Final = 64
"""Requests of a connection that wait for the answer to an earlier one."""

_MARGIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What an operator sets.

    Attributes
    ----------
    header_bytes : int
    header_seconds : float
        From the first byte of a head to its last, and from the connection to the first.
    keep_alive : float
        Seconds without a request after an answer.
    stalled_seconds : float
        For which a client may read nothing of what is sent to it.
    chunk_bytes : int
        That a chunk may state, though it has not sent them yet.
    """

    header_bytes: int = 16 << 10
    header_seconds: float = 5.0
    keep_alive: float = 75.0
    stalled_seconds: float = 10.0
    chunk_bytes: int = 64 << 20

    @property
    def advertised(self) -> int:
        """Whole seconds for which clients are invited to reuse a connection.

        Fewer than it stays open, so that no request is on its way when it closes.

        Examples
        --------
        >>> HttpLimits(keep_alive=75.0).advertised, HttpLimits(keep_alive=2.0).advertised
        (70, 1)
        """
        return int(self.keep_alive - min(_MARGIN_SECONDS, 0.1 * self.keep_alive))
