"""What a supervisor and its workers send each other: single bytes on a pair of sockets.

The end of the stream means that the other process is no more. Tested in `tests/api/test_supervisor.py`.
"""

from typing import Final

DRAIN: Final = b"d"
"""To a worker: the service ends; it is not ready any more, and accepts connections."""
CLOSE: Final = b"c"
"""To a worker: the service listens no more."""
LEAVE: Final = b"l"
"""To a worker: another has taken its place."""

READY: Final = b"r"
"""From a worker: it accepts connections."""
ALIVE: Final = b"a"
"""From a worker, every second."""
REPLACE: Final = b"x"
"""From a worker: it must end, and another take its place."""
