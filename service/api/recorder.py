"""Records of answers on their way out: none leaves before its record is durable, where the audit is strict.

Requests that were answered together are recorded together, by the first of them that is back. Tested in
tests/test_record_parts.py.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any, Final

import orjson

from service.errors import ServiceError
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.records import Content, Origin, RecordPlan
from service.prediction.shadows import Shadows
from service.record_errors import AuditUnavailable, StoreUnavailable
from service.store.entries import Context, Document, Event, Prediction, Reply, Sealed, SubjectKey, Write
from service.store.keyed_tokens import Tokens
from service.store.record_writer import Writer
from service.store.seals import Seals
from service.store.submissions import Submission

UNDELIVERED: Final = "undelivered"
DISCONNECTED, DEADLINE = "client-disconnected", "deadline-exceeded"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Keeps the records of answers.

    Attributes
    ----------
    writer : Writer
    tokens : Tokens
    seals : Seals
    clock : callable
        The time of day, with its zone.
    unrecorded : callable
        Counts answers that left without a record.
    is_strict : bool
        Whether answers wait for their records.
    shadows : Shadows or None
        Versions that run beside those that answer.
    """

    writer: Writer
    tokens: Tokens
    seals: Seals
    clock: Callable[[], datetime]
    unrecorded: Callable[[int], None]
    is_strict: bool = True
    shadows: Shadows | None = None

    def left(self, state: Mapping[str, Any]) -> None:
        """An answer with a record has left: versions that run beside the one that answered may see the request."""
        if self.shadows is not None and "plan" in state:
            joint, place = state["answer"]
            self.shadows.offer(joint, place, state["plan"])

    def check(self) -> None:
        """Refuse a request whose answer could not leave, before it is run.

        Raises
        ------
        AuditUnavailable
        """
        fault = self.writer.fault
        if self.is_strict and fault is not None:
            raise AuditUnavailable(f"no answer leaves without its record, and records cannot be kept now: {fault}")

    async def keep(
        self, joint: JointAnswer, place: int, plan: RecordPlan, *, deadline: float, reply: Reply | None = None
    ) -> None:
        """Record the answers of a joint answer; where the audit is strict, return once they are durable.

        Parameters
        ----------
        joint : JointAnswer
        place : int
            Of the request among its parts.
        plan : RecordPlan
            Of their query.
        deadline : float
            Of the request, on the monotonic clock.
        reply : Reply, optional
            Of a part that `is_apart`; such a request waits for its record and its reply, whatever the audit.

        Raises
        ------
        AuditUnavailable
        DeadlineExceeded
            The record is there later; that it was not delivered is recorded too.
        """
        if reply is not None:
            record = self._submitted(joint, plan, [place], [reply])
        elif joint.record is None:
            places = [i for i, part in enumerate(joint.parts) if not part.is_apart]
            record = joint.record = self._submitted(joint, plan, places)
        else:
            record = joint.record
        if not self.is_strict and reply is None:
            return
        try:
            await record.durable(deadline)
        except StoreUnavailable as error:
            detail = f"no answer leaves without its record, and this one could not be kept: {error.detail}"
            raise AuditUnavailable(detail) from None
        except ServiceError:
            self.undelivered(joint.parts[place].request_id, DEADLINE)
            raise

    def undelivered(self, request_id: str, reason: str) -> None:
        """Record that an answer with a record did not reach its caller."""
        if self.writer.fault is None:
            self.writer.submit(Write(events=[self._undelivered(request_id, reason)]))

    def _submitted(
        self, joint: JointAnswer, plan: RecordPlan, places: Sequence[int], replies: Sequence[Reply] = ()
    ) -> Submission:
        try:
            submission = self.writer.submit(replace(self._write(joint, plan, places), replies=replies))
        except StoreUnavailable as error:
            submission = Submission.failed(error)
        if not (self.is_strict or replies):
            self._count_failure(submission, len(places))
        return submission

    def _count_failure(self, submission: Submission, answers: int) -> None:
        def count(done: asyncio.Future[None]) -> None:
            if done.exception() is not None:
                self.unrecorded(answers)

        submission.durable(math.inf).add_done_callback(count)

    def _write(self, joint: JointAnswer, plan: RecordPlan, places: Sequence[int]) -> Write:
        now = time.monotonic()
        created = int(self.clock().timestamp() * 1e6)
        contents = plan.contents(joint, self.tokens)
        recordings = {id(content.recording): content.recording for content in contents}.values()
        predictions: list[Prediction] = [
            contents[place].prediction(_origin(joint.parts[place], created, now)) for place in places
        ]
        contexts: list[Context] = [recording.context for recording in recordings]
        documents: list[Document] = list(chain.from_iterable(recording.documents for recording in recordings))
        sealed, keys = self._sealed(joint, contents, places)
        events = list(self._of_disconnected(joint, places))
        return Write(predictions, contexts, documents, sealed, keys, events=events)

    def _sealed(
        self, joint: JointAnswer, contents: Sequence[Content], places: Sequence[int]
    ) -> tuple[list[Sealed], list[SubjectKey]]:
        sealed: list[Sealed] = []
        keys: list[SubjectKey] = []
        for place in places:
            if contents[place].texts:
                own, of_subjects = self.seals.texts(joint.parts[place].request_id, contents[place].texts)
                sealed += own
                keys += of_subjects
        return sealed, keys

    def _of_disconnected(self, joint: JointAnswer, places: Sequence[int]) -> Iterator[Event]:
        for place in set(joint.undelivered).intersection(places):
            yield self._undelivered(joint.parts[place].request_id, DISCONNECTED)

    def _undelivered(self, request_id: str, reason: str) -> Event:
        detail = orjson.dumps({"request_id": request_id, "reason": reason}).decode()
        return Event(int(self.clock().timestamp() * 1e6), UNDELIVERED, detail)


def _origin(part: Part, created: int, now: float) -> Origin:
    caller, request_id, traceparent, started = part.sender
    return Origin(part.request_id, created, caller, request_id, traceparent, int(1e6 * (now - started)))
