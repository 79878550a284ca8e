"""The use case alone: no HTTP, a clock of our own."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.bundle.repository import Repository
from service.core.numerics import Array
from service.core.pipeline import Policy
from service.errors import (
    CoverageUnavailable,
    InvalidInstances,
    ModelOutputInvalid,
)
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.prediction.call import Call
from service.prediction.options import FROM_REQUEST, Options
from service.prediction.predictor import Predictor
from service.runtime.model import Model
from service.runtime.registry import load_registry
from service.runtime.timing import RunTime
from service.telemetry import Telemetry
from tests.shipped_model import SHIPPED

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALL = Call("request-1")
OWN = Policy(FROM_REQUEST, "request", ("wait", "act"), np.array([[0.0, 10.0], [1.0, 0.0]]), None)


@pytest.fixture(scope="session")
def model() -> Model:
    return load_registry(Repository(SHIPPED)).model("breast-cancer")


@pytest.fixture(scope="session")
def patients(test_rows: list[list[float]]) -> Array:
    return np.array(test_rows)


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def predictor(metrics: CollectorRegistry) -> Predictor:
    return Predictor(Telemetry(metrics), lambda: NOON)


async def test_an_answer_holds_what_it_rests_on(predictor: Predictor, model: Model, patients: Array) -> None:
    made = await predictor.predict(CALL, model, patients, Options("decide", decide=True, site="screening"))
    assert (made.model, made.site) == (model, "screening")
    (part,) = made.decided
    assert part.policy is model.policies["biopsy"]
    assert made.posterior.logits.shape == made.log_probs.shape == (len(patients), 2)
    assert made.target is not None
    assert made.target.tolist() == [0.98, 0.02]
    assert part.rows.tolist() == list(range(len(patients)))
    assert part.decisions.risks.shape == (len(patients), 3)


async def test_the_posterior_stays_at_the_source_prevalence(
    predictor: Predictor, model: Model, patients: Array
) -> None:
    here = await predictor.predict(CALL, model, patients, Options("predict"))
    there = await predictor.predict(CALL, model, patients, Options("predict", site="screening"))
    assert there.posterior.log_probs.tobytes() == here.posterior.log_probs.tobytes() == here.log_probs.tobytes()
    assert np.all(there.log_probs[:, 1] < here.log_probs[:, 1])


async def test_probabilities_are_the_same_whether_or_not_something_is_decided(
    predictor: Predictor, model: Model, patients: Array
) -> None:
    for site in (None, "screening"):
        predicted = await predictor.predict(CALL, model, patients, Options("predict", site=site))
        decided = await predictor.predict(CALL, model, patients, Options("decide", decide=True, site=site))
        assert predicted.log_probs.tobytes() == decided.log_probs.tobytes()
        assert predicted.decided == ()


async def test_without_a_requested_prevalence_the_target_is_the_source(
    predictor: Predictor, model: Model, uncalibrated: Model, patients: Array
) -> None:
    known = await predictor.predict(CALL, model, patients, Options("predict"))
    unknown = await predictor.predict(CALL, uncalibrated, np.zeros((1, 2)), Options("predict"))
    assert known.target is model.source
    assert unknown.target is None


async def test_rows_flags_and_actions_are_counted(
    predictor: Predictor, metrics: CollectorRegistry, model: Model, patients: Array
) -> None:
    made = await predictor.predict(CALL, model, patients, Options("decide", decide=True))
    assert made.posterior.flagged is not None
    labels = {"model": "breast-cancer", "version": "1"}
    assert metrics.get_sample_value("temperance_rows_total", {**labels, "verb": "decide"}) == len(patients)
    assert metrics.get_sample_value("temperance_flagged_rows_total", labels) == made.posterior.flagged.sum()
    assert metrics.get_sample_value("temperance_request_rows_count", {"model": "breast-cancer"}) == 1
    counts = [
        metrics.get_sample_value("temperance_actions_total", {**labels, "policy": "biopsy", "action": action})
        for action in model.policies["biopsy"].actions
    ]
    assert counts == np.bincount(made.decided[0].decisions.action, minlength=3).tolist()


async def test_actions_of_a_request_are_counted_under_one_label(
    predictor: Predictor, metrics: CollectorRegistry, model: Model, patients: Array
) -> None:
    await predictor.predict(CALL, model, patients, Options("decide", decide=True, policy=OWN))
    labels = {"model": "breast-cancer", "version": "1", "policy": FROM_REQUEST, "action": FROM_REQUEST}
    assert metrics.get_sample_value("temperance_actions_total", labels) == len(patients)


async def test_nothing_is_counted_for_a_refused_call(
    predictor: Predictor, metrics: CollectorRegistry, model: Model, patients: Array
) -> None:
    broken = patients.copy()
    broken[3, 5] = np.nan
    with pytest.raises(InvalidInstances) as caught:
        await predictor.predict(CALL, model, broken, Options("predict"))
    assert [fault.path for fault in caught.value.faults] == [("instances", 3, model.inputs.columns[5])]
    assert not [s for metric in metrics.collect() for s in metric.samples if s.name == "temperance_rows_total"]


async def test_an_output_that_is_not_finite_is_an_error_and_no_answer(
    predictor: Predictor, tmp_path: Path, linear_graph: Callable[..., Path]
) -> None:
    repository = Repository(tmp_path / "overflowing")
    repository.root.mkdir()
    graph = linear_graph([[1e36, 0.0], [0.0, 1.0]], [0.0, 0.0])
    draft = import_model(repository, "logits", graph, Declared(output_kind="logits")).draft
    assert draft.is_dir()
    publish_draft(repository, "logits")
    overflowing = load_registry(repository).model("logits")
    with pytest.raises(ModelOutputInvalid) as caught:
        await predictor.predict(CALL, overflowing, np.array([[0.0, 0.0], [1e6, 0.0]]), Options("predict"))
    assert [fault.path for fault in caught.value.faults] == [("instances", 1)]


async def test_sets_and_discoveries_are_computed_only_when_requested(
    predictor: Predictor, model: Model, patients: Array, with_sets: Callable[..., Model]
) -> None:
    fitted = with_sets(model, rows=[50, 50])
    plain = await predictor.predict(CALL, fitted, patients, Options("detect"))
    assert (plain.sets, plain.fdr, plain.discovered) == (None, None, None)
    made = await predictor.predict(CALL, fitted, patients, Options("decide", coverage=0.9, fdr=0.1))
    assert made.sets is not None
    assert made.discovered is not None
    assert made.posterior.flagged is not None
    assert made.sets.members.any(axis=1).all()
    assert made.sets.valid.tolist() == (~made.posterior.flagged).tolist()


async def test_sets_that_are_not_there_stop_a_call_before_the_graph_runs(
    predictor: Predictor, model: Model, patients: Array, metrics: CollectorRegistry
) -> None:
    assert model.bundle.record is not None
    record = model.bundle.record.model_copy(update={"label_sets": None})
    without = dataclasses.replace(model, bundle=dataclasses.replace(model.bundle, record=record))
    with pytest.raises(CoverageUnavailable, match="fit it again"):
        await predictor.predict(CALL, without, patients, Options("predict", coverage=0.9))
    assert metrics.get_sample_value("temperance_request_rows_count", {"model": model.name}) is None


def test_what_runs_are_expected_to_take_starts_anew_with_every_model_that_is_loaded(
    predictor: Predictor, model: Model
) -> None:
    slow = dataclasses.replace(model, run_time=RunTime(1.0, 0.5))
    predictor.queue(slow).backlog.learn(2, 20.0)
    again = dataclasses.replace(slow)
    assert predictor.queue(again).backlog.cost(2) == 2.0 < predictor.queue(slow).backlog.cost(2)
    assert predictor.queue(again) is predictor.queue(again)
