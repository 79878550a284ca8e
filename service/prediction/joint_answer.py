"""The answer to requests that were answered together.

Tested in tests/prediction/test_queue.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.prediction.answer import Answer, Part
from service.prediction.query import Query
from service.prediction.timings import Timings
from service.runtime.rows import Rows
from service.store.submissions import Submission


@dataclass(slots=True, eq=False)
class JointAnswer:
    """The answer to requests with the same query.

    Attributes
    ----------
    query : Query
    answer : Answer
        Of the rows of all parts, in order.
    parts : list of Part
    queued : sequence of float
        When each of them had been read and came to the queue, on the monotonic clock.
    timings : Timings
        Of what came after, for all of them.
    rows : list of Rows
        What the requests held, one by one.
    bodies : list of bytes or None
        The body of every part's response, once the first of them was written.
    record : Submission or None
        The records of all parts on their way into the store, once the first of them is back.
    undelivered : list of int
        Places of requests whose clients were gone, or whose time was over, when the answer was there.
    """

    query: Query
    answer: Answer
    parts: list[Part]
    queued: Sequence[float]
    timings: Timings
    rows: Sequence[Rows] = ()
    bodies: list[bytes] | None = None
    record: Submission | None = None
    undelivered: list[int] = field(default_factory=list)

    def own(self, place: int) -> Answer:
        """The answer to one of the requests."""
        if len(self.parts) == 1:
            return self.answer
        start = sum(part.rows for part in self.parts[:place])
        return self.answer[start : start + self.parts[place].rows]


Result = tuple[JointAnswer, int]
"""A joint answer, and the place of a request among its parts."""
