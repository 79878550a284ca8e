"""What the card of `yeast-genes` claims, on the published version and the genes that it was never trained on."""

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.assessment.metrics import log_loss
from service.evaluation.report import EvaluationReport
from service.runtime.model import Model, load_model
from tests.models.recipes import MODELS, recipe, splits

NAME = "yeast-genes"
MISSED = {"Class9": 10.0, "Class10": 10.0, "Class11": 10.0, "Class14": 10.0, "Class12": 2.0, "Class13": 2.0}


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(Repository(MODELS).bundle(NAME, 1))


@pytest.fixture(scope="module")
def report(model: Model) -> EvaluationReport:
    """The version on its test genes."""
    test = splits(recipe(NAME))["test"]
    from service.training.publication import report_of

    return report_of(model, test)


def test_every_label_has_costs_and_a_calibrator_of_its_own(model: Model) -> None:
    costs = model.label_policies["assay"]
    assert {model.classes[m]: policy.cost[0, 1] for m, policy in costs.items()} == {
        label: MISSED.get(label, 5.0) for label in model.classes
    }
    assert model.bundle.record is not None
    assert {own.chain for own in model.bundle.record.labels.values()} == {("platt",)}


def test_no_gene_is_in_two_splits() -> None:
    parts = splits(recipe(NAME))
    rows = np.concatenate([part.inputs for part in parts.values()])
    assert len(np.unique(rows, axis=0)) == len(rows) == 2417


def test_the_product_of_the_labels_is_wrong_and_the_bounds_hold(report: EvaluationReport) -> None:
    assert report.structure is not None
    found = report.structure.exact_match  # type: ignore[union-attr]
    assert found.product_is_wrong
    assert found.low <= found.observed <= found.high


def test_every_label_is_predicted_as_often_as_it_occurs(report: EvaluationReport) -> None:
    gaps = {name: part.probabilities.calibration.classes["present"] for name, part in report.parts.items()}
    # Of two samples of as many genes: those of the calibration and those of the test.
    assert {name: own.gap for name, own in gaps.items() if abs(own.gap) > 2.0 * np.sqrt(2.0) * own.noise} == {}


def test_the_network_is_better_than_the_frequencies(report: EvaluationReport) -> None:
    parts = splits(recipe(NAME))
    share = np.concatenate([parts["train"].labels, parts["calibration"].labels]).mean(axis=0)
    labels = parts["test"].labels
    alone = [log_loss(np.tile(np.log([1.0 - p, p]), (len(labels), 1)), y) for p, y in zip(share, labels.T, strict=True)]
    assert report.metrics["log_loss"] < np.mean(alone) - 0.04


def test_least_cost_actions_cost_less_than_those_of_the_likely_state(report: EvaluationReport) -> None:
    policies = [part.policies["assay"] for part in report.parts.values()]
    assert sum(own.realised_cost for own in policies) < 0.8 * sum(own.label_cost for own in policies)
