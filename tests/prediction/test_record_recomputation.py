"""Actions computed again from a record are those that were answered, for every kind of request."""

import numpy as np
import orjson
import pytest

from service.prediction.record_recomputation import BY_ROW, NO_DECISION, PREVALENCE, differences, recomputed
from service.runtime.registry import Registry
from tests.every_task import CASES, Case
from tests.prediction.test_records import read, recorded_case

DECIDED = [case for case in CASES if case.verb == "decide"]


@pytest.mark.parametrize("case", DECIDED, ids=str)
def test_the_recorded_action_is_computed_again(case: Case, every_task: Registry) -> None:
    query, _, content = recorded_case(case, every_task)
    recorded = read(content)
    found = recomputed(recorded, basis_of(content))
    if found.reason is None:
        assert found.actions
        assert differences(recorded, found) == []
    else:
        assert found.reason in {BY_ROW, PREVALENCE}
        by_row = any(policy.cost.ndim > 2 for policy in query.stages.chosen) or len(query.stages.chosen) > 1
        assert by_row if found.reason == BY_ROW else np.asarray(query.target).ndim > 1


def test_most_kinds_of_request_can_be_computed_again(every_task: Registry) -> None:
    reasons = [recomputed(read(one), basis_of(one)).reason for one in contents(every_task)]
    assert sum(reason is None for reason in reasons) > len(reasons) * 2 / 3


def contents(registry: Registry):
    return [recorded_case(case, registry)[2] for case in DECIDED]


def basis_of(content):
    return orjson.loads(next(one.content for one in content.recording.documents if one.kind == "basis"))


def test_other_costs_are_another_action(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "decide"), every_task)
    basis = basis_of(content)
    basis["policies"][0]["costs"] = [[-cost for cost in row] for row in basis["policies"][0]["costs"]]
    recorded = read(content)
    assert differences(recorded, recomputed(recorded, basis)) == ["decision.action"]


def test_an_answer_without_a_decision_is_named_so(every_task: Registry) -> None:
    _, _, content = recorded_case(Case("letters", "predict"), every_task)
    assert recomputed(read(content), basis_of(content)).reason == NO_DECISION
