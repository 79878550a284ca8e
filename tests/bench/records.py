"""What a record costs: columns, digests and tokens of a plain one-row `:decide`, alone and among others.

    OPENBLAS_NUM_THREADS=1 python -m tests.bench.records

Measured on 2026-11-27 (two shared cores, breast-cancer: 30 features, 2 classes, 1 score): 35 us alone, 4 us among 64,
608 bytes of columns; 1.3 million records are read in a second.
"""

import time

from service.bundle.repository import Repository
from service.prediction.answer import Part
from service.prediction.joint_answer import JointAnswer
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.record_reader import read_records
from service.prediction.records import Origin, RecordPlan
from service.prediction.timings import Timings
from service.runtime.registry import load_registry
from service.store.keyed_tokens import Tokens
from tests.shipped_model import SHIPPED

REPEATS = 200
ORIGIN = Origin("request", 0, "key:ward", None, None, 0)


def main() -> None:
    """Print the figures."""
    model = load_registry(Repository(SHIPPED)).model("breast-cancer")
    query, tokens = Query.of(model, Options("decide", decide=True)), Tokens("k1", bytes(32))
    plan = RecordPlan(query, verb="decide", topics=("probabilities", "ood", "decision"), software="{}")
    for requests in (1, 64):
        joint = joint_answer(query, requests)
        best = min(seconds(plan, joint, tokens) for _ in range(5)) / requests
        print(f"{requests:3} requests: {1e6 * best:.1f} us each")  # noqa: T201  # what it is for
    contents = plan.contents(joint, tokens)
    schema = contents[0].recording.documents[0]
    predictions = [content.prediction(ORIGIN) for content in contents] * 1000
    start = time.perf_counter()
    read_records(predictions, schema).values("probabilities")
    print(f"{len(contents[0].columns)} bytes; {len(predictions) / (time.perf_counter() - start):,.0f} read in a second")  # noqa: T201


def joint_answer(query: Query, requests: int) -> JointAnswer:
    """Requests of one row each, answered together."""
    rows = query.model.inputs.synthetic(requests)
    answer = query.conclude(query.model.posterior(rows))
    parts = [Part("request", 1) for _ in range(requests)]
    alone = [rows[row : row + 1] for row in range(requests)]
    return JointAnswer(query, answer, parts, [0.0] * requests, Timings(0.0, 0.0, 0.0), alone)


def seconds(plan: RecordPlan, joint: JointAnswer, tokens: Tokens) -> float:
    """Of the records of a joint answer, on average."""
    start = time.perf_counter()
    for _ in range(REPEATS):
        for content in plan.contents(joint, tokens):
            content.prediction(ORIGIN)
    return (time.perf_counter() - start) / REPEATS


if __name__ == "__main__":
    main()
