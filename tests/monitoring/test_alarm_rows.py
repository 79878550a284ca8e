from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.api.v1.verbs import VERBS
from service.core.numerics import Array
from service.monitoring.alarm_rows import Picked, RecordedRows
from service.prediction.answer import Part
from service.prediction.record_reader import Recorded
from service.runtime.registry import Registry
from service.store.engine import Store, open_store
from service.store.entries import Prediction, Write
from tests.every_task import CASES, ROWS, Case, answer_of, rows_of
from tests.prediction.test_records import ORIGIN, joint_of, plan_of, read
from tests.recorded_answers import TOKENS
from tests.store.kept import FixedSigner

LETTERS = [case for case in CASES if case.model == "letters"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/audit.db", signer=FixedSigner())
    yield opened
    opened.close()


def kept_answer(
    store: Store, case: Case, registry: Registry
) -> tuple[Prediction, Recorded, RecordedRows, Array | None]:
    query = case.query(registry)
    rows = rows_of(query.model)
    answer = answer_of(query, rows)
    joint = joint_of(query, answer, [Part("request", ROWS, case.ids)], [rows])
    content = plan_of(query, case.verb).contents(joint, TOKENS)[0]
    record = content.prediction(ORIGIN)
    store.write([Write([record], [content.recording.context], content.recording.documents)])
    return record, read(content), RecordedRows(query.model.bundle), query.target


@pytest.mark.parametrize("case", LETTERS, ids=str)
def test_rows_are_read_back_as_they_were_answered(case: Case, every_task: Registry, store: Store) -> None:
    record, recorded, reader, _ = kept_answer(store, case, every_task)
    context = store.context(record.context)
    assert context is not None
    picked = [Picked(record, context, row, 0) for row in (3, 0, 11)]
    found = reader.rows(store, picked)
    for pick, row in zip(picked, found, strict=True):
        assert row is not None
        assert np.exp(row.log_probs).sum() == pytest.approx(1.0)
        for name, score in row.scores.items():
            assert score == recorded.values(f"ood.scores.{name}.score")[pick.row]
        if "probabilities" in VERBS[case.verb].topics:
            assert np.exp(row.log_probs) == pytest.approx(recorded.values("probabilities")[pick.row], abs=1e-6)


def test_the_site_of_a_row_is_read_back(every_task: Registry, store: Store) -> None:
    sites = {case.options["site"] for case in LETTERS if isinstance(case.options.get("site"), str)}
    case = next(case for case in LETTERS if isinstance(case.options.get("site"), str))
    record, _, reader, _ = kept_answer(store, case, every_task)
    context = store.context(record.context)
    assert context is not None
    (row,) = reader.rows(store, [Picked(record, context, 0, 0)])
    assert row is not None
    assert row.site in sites
