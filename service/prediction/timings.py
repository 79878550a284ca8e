"""When the stages of an answer happened.

Tested in tests/prediction/test_queue.py.
"""

from typing import NamedTuple


class Timings(NamedTuple):
    """Moments on the monotonic clock, in seconds; the same for all requests that were answered together.

    A request was read until it queued (`JointAnswer.queued`), waited until the run started, and was concluded after it.

    Attributes
    ----------
    started : float
        The run of the graph began.
    ran : float
        It ended.
    concluded : float
        Stages A to E ended.
    """

    started: float
    ran: float
    concluded: float
