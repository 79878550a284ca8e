"""What is written down of a version and a policy."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from service.core.pipeline import Policy
from service.prediction.options import Options
from service.prediction.query import Query
from service.prediction.record_basis import basis_json, content_digest
from service.runtime.parity import Difference, Parity
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


def test_a_provider_and_the_ties_that_cover_it_are_stated(every_task: Registry) -> None:
    parity = Parity(32, 1e-5, Difference(2e-6, 3e-6, (1e-6,)), 0.0)
    model = replace(every_task.model("letters"), parity=parity)
    costs = Policy("request", "request", ("a", "b"), np.arange(2.0 * len(model.classes)).reshape(2, -1), None)
    document = orjson.loads(basis_json(Query.of(model, Options("decide", decide=True, policy=costs))))
    assert document["provider"]["from_cpu"] == {"logits": 2e-6, "probabilities": 3e-6}
    assert document["policies"][0]["ties"] == parity.ties == 24.0


def test_on_the_cpu_there_is_nothing_to_state(every_task: Registry) -> None:
    document = orjson.loads(basis_json(Case("letters", "decide").query(every_task)))
    assert "provider" not in document
    assert "ties" not in document["policies"][0]
