import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.bundle.repository import Repository
from service.core.pipeline import Policy
from service.prediction.answer import Part
from service.prediction.counts import Counts
from service.prediction.options import FROM_REQUEST, Options
from service.prediction.query import Query
from service.prediction.timings import Timings
from service.runtime.model import Model
from service.runtime.registry import load_registry
from service.telemetry import Telemetry
from tests.shipped_model import SHIPPED

NAMED = {"model": "breast-cancer", "version": "1"}


@pytest.fixture(scope="module")
def model() -> Model:
    return load_registry(Repository(SHIPPED)).model("breast-cancer")


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


def count(
    metrics: CollectorRegistry, model: Model, rows: list[list[float]], sizes: list[int], options: Options
) -> None:
    answer = Query.of(model, options).conclude(model.posterior(np.array(rows)))
    Counts(Telemetry(metrics)).count(options.verb, answer, [Part("id", size) for size in sizes])


def test_rows_and_requests_of_a_joint_answer_are_counted(
    metrics: CollectorRegistry, model: Model, test_rows: list[list[float]]
) -> None:
    count(metrics, model, test_rows[:6], [1, 2, 3], Options("detect"))
    assert metrics.get_sample_value("temperance_rows_total", {**NAMED, "verb": "detect"}) == 6
    assert metrics.get_sample_value("temperance_request_rows_count", {"model": "breast-cancer"}) == 3
    assert metrics.get_sample_value("temperance_request_rows_sum", {"model": "breast-cancer"}) == 6


def test_every_action_of_a_named_policy_has_a_counter_and_those_taken_add_up(
    metrics: CollectorRegistry, model: Model, test_rows: list[list[float]]
) -> None:
    count(metrics, model, test_rows, [len(test_rows)], Options("decide", decide=True))
    policy = model.policies["biopsy"]
    labels = [{**NAMED, "policy": policy.name, "action": action} for action in policy.actions]
    found = [metrics.get_sample_value("temperance_actions_total", label) for label in labels]
    assert sum(value or 0.0 for value in found) == len(test_rows)
    assert None not in found


def test_costs_of_a_request_count_under_no_name_of_the_caller(
    metrics: CollectorRegistry, model: Model, test_rows: list[list[float]]
) -> None:
    own = Policy(FROM_REQUEST, "request", ("mine", "yours"), np.array([[0.0, 10.0], [1.0, 0.0]]), None)
    count(metrics, model, test_rows[:4], [4], Options("decide", decide=True, policy=own))
    labels = {**NAMED, "policy": FROM_REQUEST, "action": FROM_REQUEST}
    assert metrics.get_sample_value("temperance_actions_total", labels) == 4
    assert "mine" not in str(list(metrics.collect()))


def test_stages_are_observed_once_for_a_run_and_waits_for_each_request(metrics: CollectorRegistry) -> None:
    Counts(Telemetry(metrics)).time("breast-cancer", [1.0, 1.5], Timings(started=2.0, ran=2.25, concluded=2.375))
    named = {"model": "breast-cancer"}
    found = {
        stage: [metrics.get_sample_value(f"temperance_{stage}_seconds_{part}", named) for part in ("count", "sum")]
        for stage in ("queue", "run", "postprocess")
    }
    assert found == {"queue": [2, 1.5], "run": [1, 0.25], "postprocess": [1, 0.125]}
