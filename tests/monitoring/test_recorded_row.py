import numpy as np
import pytest

from service.monitoring.recorded_row import row_values
from service.prediction.record_reader import Recorded, read_records
from service.store.entries import Write
from tests.recorded_answers import recorded_answer


def read(write: Write) -> Recorded:
    schema = next(document for document in write.documents if document.kind == "schema")
    return read_records(write.predictions, schema)


def test_a_row_has_the_values_of_its_answer_by_path(every_task):
    _, write, answer = recorded_answer(every_task, "letters")
    recorded = read(write)
    for row in (0, 2, 7):
        found = row_values(recorded, row)
        classes = answer.model.classes
        assert found["logits"] == dict(
            zip(classes, answer.posterior.logits[row].astype(np.float32).tolist(), strict=True)
        )
        assert found["label"] == classes[int(answer.log_probs[row].argmax())]
        assert found["ood.flagged"] is bool(recorded.values("ood.flagged")[row])
        assert set(found["decision.risks"]) == {"go", "ask"}
        assert found["decision.risk"] == found["decision.risks"][found["decision.action"]]


def test_positions_of_a_sequence_are_lists_of_its_own_length(every_task):
    _, write, answer = recorded_answer(every_task, "motion")
    recorded = read(write)
    assert recorded.lengths is not None
    ends = np.cumsum(recorded.lengths)
    for row, length in enumerate(recorded.lengths.tolist()):
        found = row_values(recorded, row)
        assert len(found["logits"]) == len(found["label"]) == length
        first = recorded.values("logits")[ends[row] - length]
        assert list(found["logits"][0].values()) == pytest.approx(first.tolist())
        assert set(found["label"]) <= set(answer.model.classes)


def test_of_an_uncalibrated_version_flags_and_p_values_are_null(every_task):
    _, write, _ = recorded_answer(every_task, "raw")
    found = row_values(read(write), 0)
    assert found["ood.flagged"] is None
    assert found["ood.p_value"] is None
