"""Signals before there is a server that takes them.

Tested in tests/api/test_serving.py.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def take_signals() -> None:
    """Let SIGTERM end a start with exit code 0, and SIGHUP do nothing, until there is a server.

    The kernel sends the first process of a container no signal that the process does not handle.
    """
    signal.signal(signal.SIGTERM, _end_the_start)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _end_the_start(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    sys.exit(os.EX_OK)
