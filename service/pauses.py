"""What holds every request of a process at once: the garbage collector, and a thread that does not let others go on.

Tested in tests/api/test_worst_bodies.py.
"""

import gc
import sys
from typing import Final

OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000
SWITCH_SECONDS: Final = 0.0002
"""After which the event loop lets the thread that writes records go on, which waits for it at every statement. Python's
own interval is 5 ms."""


def set_aside() -> None:
    """Keep the garbage collector off what was loaded, which stays, and off the middle of a document.

    Walks through all of the first take milliseconds, in which requests wait. A large body is a hundred thousand lists:
    looked at after every 700 of them, it takes three times as long to read.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    sys.setswitchinterval(SWITCH_SECONDS)
