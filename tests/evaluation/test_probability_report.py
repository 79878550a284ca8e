import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.metrics import accuracy_score, log_loss

from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS
from service.core.numerics import Array, Indices, log_softmax
from service.core.pipeline import Policy, choose
from service.evaluation.classification_problem import ClassificationProblem, SampleDesign
from service.evaluation.policy_report import policy_report
from service.evaluation.probability_report import probability_report
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model
from tests.evaluation.conftest import TAIL, evaluated

Served = Callable[..., Model]
Truth = Callable[..., tuple[Array, Indices]]


def test_metrics_are_those_of_the_served_and_of_the_raw_probabilities(model: Model, truth: Truth) -> None:
    x, y = truth(500, seed=7)
    part = evaluated(model, x, y).report.parts["rows"]
    found = part.probabilities
    probabilities = np.exp(posterior_of(model, x).log_probs)
    raw = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    assert found.metrics["log_loss"] == pytest.approx(log_loss(y, probabilities))
    assert found.metrics["accuracy_score"] == pytest.approx(accuracy_score(y, probabilities.argmax(axis=1)))
    assert found.uncalibrated_metrics["log_loss"] == pytest.approx(log_loss(y, raw))
    assert found.metrics["log_loss"] < found.uncalibrated_metrics["log_loss"]
    assert set(found.metrics) == set(found.uncalibrated_metrics) == set(METRICS)
    assert (part.rows, part.class_counts) == (500, {"ann": int((y == 0).sum()), "bob": int((y == 1).sum())})


def test_the_change_of_the_log_loss_is_that_of_the_metrics(model: Model, truth: Truth) -> None:
    found = evaluated(model, *truth(500, seed=7)).report.parts["rows"].probabilities
    change = found.loss_change
    assert change.served == pytest.approx(found.metrics["log_loss"])
    assert change.uncalibrated == pytest.approx(found.uncalibrated_metrics["log_loss"])
    assert change.difference.mean == pytest.approx((change.served or 0.0) - (change.uncalibrated or 0.0))
    low, mean, high = (
        float(end or 0.0) for end in (change.difference.low, change.difference.mean, change.difference.high)
    )
    assert low < mean < high < 0.0


def test_a_class_ruled_out_leaves_an_infinite_code_length_and_a_report_that_is_json(
    toy: Callable[..., Repository], truth: Truth
) -> None:
    x, y = truth(100)
    problem = evaluated(load_model(toy(2, TAIL).draft("toy")), x, y).problems["rows"]
    log_probs, labels = problem.log_probs.copy(), y.copy()
    labels[0], log_probs[0] = 0, [-np.inf, 0.0]
    found = probability_report(replace(problem, log_probs=log_probs, labels=labels))
    assert found.code_length.bits is None
    assert [part for part, bits in found.code_length.per_label.items() if bits is None] == ["1"]
    assert found.loss_change.difference.reason == "infinite_loss"
    json.dumps(asdict(found), allow_nan=False)


def test_the_guaranteed_error_rate_is_kept_on_other_rows_and_a_looser_one_answers_more(
    served: Served, truth: Truth
) -> None:
    model, (rows, labels) = served(), truth(4000, seed=9)
    at_risk = evaluated(model, *truth(4000, seed=10)).report.parts["rows"].probabilities.selective.at_risk
    assert at_risk is not None
    assert at_risk["0.01"].coverage <= at_risk["0.05"].coverage <= at_risk["0.1"].coverage
    log_probs, threshold = posterior_of(model, rows).log_probs, at_risk["0.1"].threshold
    assert threshold is not None
    answered = np.exp(log_probs.max(axis=1)) >= threshold
    assert 0.0 < np.mean((log_probs.argmax(axis=1) != labels)[answered]) < 0.1


def test_weighted_rows_guarantee_no_error_rate(served: Served, truth: Truth) -> None:
    model, (rows, labels) = served(), truth(500)
    weighted = evaluated(model, rows, labels, weights=np.linspace(1.0, 2.0, 500))
    selective = weighted.report.parts["rows"].probabilities.selective
    assert (selective.at_risk, selective.at_risk_reason) == (None, "weights")
    assert selective.excess_area >= 0.0


def not_plain(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from not_plain(inner, f"{place}/{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from not_plain(inner, place)
    elif type(value) not in (float, int, str, bool, type(None)):
        yield place


@pytest.mark.parametrize("width", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (1, 120), (50, 2), (50, 120)])
def test_reports_hold_plain_values_for_logits_of_any_width(n: int, k: int, width: type) -> None:
    rng = np.random.default_rng(0)
    log_probs: Array = log_softmax(rng.normal(size=(n, k))).astype(width)
    labels = rng.integers(0, k, size=n)
    policy = Policy("p", "manifest", ("a", "b", "c"), rng.random((3, k)), None)
    decisions = {"p": choose(log_probs, policy, flagged=None)}
    classes = tuple(map(str, range(k)))
    problem = ClassificationProblem(
        classes, log_probs, log_probs, labels, SampleDesign(None, None), {"p": policy}, decisions, "identity"
    )
    found = {"probabilities": asdict(probability_report(problem)), "policy": asdict(policy_report(problem, "p"))}
    assert list(not_plain(found)) == []
    orjson.dumps(found)
    json.dumps(found, allow_nan=False)
