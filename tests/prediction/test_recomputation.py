"""A decision follows from its record and its basis alone."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from service.core.sequence import flat
from service.errors import StoreDamaged
from service.prediction.recomputation import recompute
from service.prediction.record_columns import KEPT
from service.prediction.records import Content
from service.runtime.registry import Registry
from service.store.entries import Document
from tests.every_task import CASES, Case
from tests.prediction.test_records import read, recorded_case


def basis_of(content: Content) -> Document:
    return next(document for document in content.recording.documents if document.kind == "basis")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_probabilities_and_actions_follow_from_the_record(case: Case, every_task: Registry) -> None:
    query, answer, content = recorded_case(case, every_task)
    recorded = read(content)
    again = recompute(recorded, basis_of(content))
    assert again is not None
    lengths = answer.posterior.lengths
    expected = answer.log_probs if lengths is None else flat(answer.log_probs, lengths)
    np.testing.assert_allclose(again.log_probs, expected, atol=1e-4)
    assert bool(again.actions) == (case.verb == "decide")
    assert again.differing(recorded) == []


def test_another_cost_is_noticed(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    basis = orjson.loads(basis_of(content).content)
    basis["policies"][0]["costs"] = [[0.0] * 3, [50.0] * 3]
    again = recompute(read(content), Document(b"", "basis", orjson.dumps(basis)))
    assert again is not None
    assert again.differing(read(content)) == ["decision.action"]


@pytest.mark.parametrize("bad", [b"{}", b"nonsense", b'{"task": "multiclass"}'])
def test_a_basis_that_cannot_be_read_is_damage(every_task: Registry, bad: bytes) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    with pytest.raises(StoreDamaged):
        recompute(read(content), Document(b"", "basis", bad))


def test_nothing_is_computed_from_a_part_of_the_logits(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    recorded = read(content)
    some = replace(recorded, layout=replace(recorded.layout, kept=KEPT))
    assert recompute(some, basis_of(content)) is None
