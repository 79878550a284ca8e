"""Records of real answers, of models of every task."""

from typing import Final

import uuid_utils

from service.api.v1.verbs import VERBS
from service.prediction.answer import Answer, Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.records import Origin, RecordPlan
from service.prediction.timings import Timings
from service.runtime.registry import Registry
from service.store.entries import Write
from service.store.keyed_tokens import Tokens
from tests.every_task import ROWS, Case, answer_of, rows_of

TOKENS: Final = Tokens("k1", bytes(32))


def recorded_answer(registry: Registry, model: str, verb: str = "decide") -> tuple[str, Write, Answer]:
    """A record of the rows of `tests.every_task`, its request id, and the answer."""
    query = Case(model, verb).query(registry)
    rows = rows_of(query.model)
    answer = answer_of(query, rows)
    request_id = str(uuid_utils.uuid7())
    joint = JointAnswer(query, answer, [Part(request_id, ROWS)], [0.0], Timings(0.0, 0.0, 0.0), [rows])
    plan = RecordPlan(query, verb=verb, topics=VERBS[verb].topics, software="{}")
    content = plan.contents(joint, TOKENS)[0]
    record = content.prediction(Origin(request_id, 1_767_225_600_000_000, "key:ward-3", None, None, 900))
    shared = content.recording
    return request_id, Write(predictions=[record], contexts=[shared.context], documents=shared.documents), answer
