"""What is written down of a version and a policy."""

import numpy as np
import orjson
import pytest

from service.prediction.record_basis import basis_json, content_digest
from service.runtime.registry import Registry
from tests.every_task import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_basis_is_canonical_json_that_names_what_answers_rest_on(case: Case, every_task: Registry) -> None:
    query = case.query(every_task)
    basis = basis_json(query)
    document = orjson.loads(basis)
    assert basis == orjson.dumps(document, option=orjson.OPT_SORT_KEYS) == basis_json(case.query(every_task))
    assert document["classes"] == list(query.model.classes)
    assert [policy["name"] for policy in document["policies"]] == [policy.name for policy in query.stages.chosen]
    assert (document["calibration"] is None) == (case.model == "raw")
    assert document["ood"]["scores"].keys() == {detector.name for detector in query.model.chain.detectors}


def test_the_basis_of_the_same_version_and_policy_is_the_same_whatever_the_verb(every_task: Registry) -> None:
    first, second = (basis_json(Case("letters", verb).query(every_task)) for verb in ("predict", "detect"))
    assert first == second


def test_another_policy_is_another_basis(every_task: Registry) -> None:
    bases = {basis_json(Case("letters", "decide", {"policy": name}).query(every_task)) for name in ("walk", "fly")}
    assert len(bases) == 2


def test_scores_are_there_as_their_digest() -> None:
    scores = np.array([0.1, 0.2])
    assert content_digest([scores]) == content_digest([scores[:1], scores[1:]]) != content_digest([scores[::-1]])
