"""A request in the queue.

Tested in tests/prediction/test_queue.py.
"""

import asyncio
from dataclasses import dataclass

from service.core.trajectory import Monitor
from service.errors import DeadlineExceeded
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer, Result
from service.prediction.query import Query
from service.runtime.rows import Rows


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue.

    Attributes
    ----------
    query : Query
    rows : Rows
    part : Part
    deadline : float or None
        On the monotonic clock.
    since : float
        When it came.
    caller : str
        Its name.
    monitor : Monitor or None
        Of its session.
    result : Future
    is_counted : bool
        Whether its rows are in the backlog: not once they run, and not once it left.
    """

    query: Query
    rows: Rows
    part: Part
    deadline: float | None
    since: float
    caller: str = ""
    monitor: Monitor | None = None
    result: asyncio.Future[Result] | None = None
    is_counted: bool = False

    @property
    def left(self) -> bool:
        """Whether nothing waits for the result any more: its client disconnected, or its time is over."""
        return self.result is not None and self.result.done()

    def is_late(self, now: float) -> bool:
        """Whether its time is over; it is then refused."""
        if self.deadline is None or now <= self.deadline:
            return False
        self.fail(DeadlineExceeded.in_the_queue())
        return True

    def settle(self, joint: JointAnswer, place: int) -> None:
        """Hand over the result."""
        if self.result is not None and not self.result.done():
            self.result.set_result((joint, place))

    def fail(self, error: Exception) -> None:
        """Raise an error in place of a result."""
        if self.result is not None and not self.result.done():
            self.result.set_exception(error)
