"""What a real server keeps of requests: rows, subjects, columns, and what computes the action again."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson

from service.prediction.record_reader import read_records
from service.prediction.record_recomputation import differences, recomputed
from service.store.engine import Store, open_store
from service.store.entries import Prediction, Selection
from tests.shipped_model import SHIPPED

SUBJECTS, IDS, GROUPS = ["patient-4711", "patient-4712"], ["sample-one", "sample-two"], ["ward-north", "ward-south"]


def records_of(folder: Path) -> tuple[Store, list[Prediction]]:
    (database,) = [path for path in folder.rglob("*") if path.suffix in (".sqlite", ".db")]
    store = open_store(f"sqlite:///{database}")
    return store, list(store.predictions(Selection()))


def test_a_row_is_the_same_row_of_the_same_subject_on_v1_and_v2(
    serving: Callable[..., AbstractContextManager[Any]], test_rows: list[list[float]], tmp_path: Path
) -> None:
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path), TEMPERANCE_AUDIT="strict") as server:
        send(server, test_rows)
    store, (decided, inferred, estimated) = records_of(tmp_path)
    assert decided.row_digests == inferred.row_digests
    assert decided.subjects == inferred.subjects
    assert decided.groups is not None
    assert inferred.groups is None
    assert (estimated.columns, estimated.rows) == (b"", 60)
    context = store.context(decided.context)
    assert context is not None
    assert context.schema is not None
    schema, basis = store.document(context.schema), store.document(context.basis)
    assert schema is not None
    assert basis is not None
    recorded = read_records([decided], schema)
    found = recomputed(recorded, orjson.loads(basis.content))
    assert found.actions["decision.action"] == recorded.texts("decision.action")
    assert differences(recorded, found) == []
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [text for text in (*SUBJECTS, *IDS, *GROUPS) if text.encode() in stored]
    assert {(text.row, text.kind) for text in store.sealed_of(decided.request_id)} == {
        (row, kind) for row in range(2) for kind in ("id", "subject", "group")
    }


def send(server: Any, rows: list[list[float]]) -> None:
    texts = {"subjects": SUBJECTS, "ids": IDS, "groups": GROUPS}
    assert server.post("decide", {"instances": rows[:2], "parameters": texts}).status_code == 200
    (described,) = server.client.get("/v2/models/breast-cancer").json()["inputs"]
    values = [value for row in rows[:2] for value in row]
    tensors = [
        {"name": described["name"], "datatype": "FP64", "shape": [2, 30], "data": values},
        {"name": "subjects", "datatype": "BYTES", "shape": [2], "data": SUBJECTS},
    ]
    assert server.client.post("/v2/models/breast-cancer/infer", json={"inputs": tensors}).status_code == 200
    assert server.post("estimate", {"instances": rows[:60]}).status_code == 200
