from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from sklearn.linear_model import LogisticRegression

from service.core.assessment.miscalibration import calibration_error
from service.core.assessment.reliability import null_test
from service.core.numerics import Array, Indices, log_softmax
from service.evaluation.calibration_report import PREDICTED, CalibrationReport, class_calibration, event_of
from service.evaluation.classification_problem import ClassificationProblem, SampleDesign
from service.prediction.bulk import posterior_of
from service.runtime.model import Model
from tests.evaluation.conftest import evaluated

Served = Callable[..., Model]
Truth = Callable[..., tuple[Array, Indices]]


def check(model: Model, rows: Array, labels: Indices) -> CalibrationReport:
    return evaluated(model, rows, labels).report.parts["rows"].probabilities.calibration


def test_a_calibrated_model_is_within_chance_and_an_uncalibrated_one_is_not(served: Served, truth: Truth) -> None:
    rows, labels = truth(2000, seed=5)
    served_check = check(served(), rows, labels)
    assert served_check.error <= served_check.chance
    raw = check(served(calibrator="identity"), rows, labels)
    assert raw.error > raw.chance
    assert raw.p_value < 0.01
    assert raw.line.slope is not None
    assert raw.line.slope < 0.7  # twice as over-confident


def test_slope_and_intercept_are_those_of_a_logistic_regression(served: Served, truth: Truth) -> None:
    model = served(calibrator="identity")
    rows, labels = truth(2000, seed=6)
    line = check(model, rows, labels).line
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit((rows[:, 1] - rows[:, 0])[:, None], labels)
    assert line.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert line.intercept == pytest.approx(oracle.intercept_[0], abs=1e-4)


def test_the_parts_of_the_brier_score_add_up(served: Served, truth: Truth) -> None:
    model = served()
    rows, labels = truth(800, seed=7)
    found = check(model, rows, labels)
    p = np.exp(posterior_of(model, rows).log_probs[:, 1])
    parts = found.parts
    whole = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert whole == pytest.approx(np.mean((p - labels) ** 2), abs=1e-12)
    assert found.classes["bob"].mean_predicted_probability == pytest.approx(p.mean())
    assert found.classes["bob"].observed_frequency == pytest.approx(labels.mean())


def test_more_than_two_classes_are_checked_by_the_predicted_one(served: Served, truth: Truth) -> None:
    found = check(served(4, tail=""), *truth(800, 4, seed=8))
    line = found.line
    assert found.of == PREDICTED
    assert line.slope is not None
    assert line.slope_low is not None
    assert line.slope_high is not None
    assert line.slope_low < line.slope < line.slope_high
    assert set(found.classes) == {"ann", "bob", "cyd", "dee"}


def test_the_event_of_many_classes_is_the_predicted_one(truth: Truth) -> None:
    x, y = truth(200, 4)
    log_probs = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    found = event_of(log_probs, y, tuple("abcd"))
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-found.log_odds)), found.probabilities)
    assert null_test(found.probabilities, found.occurred).error == pytest.approx(calibration_error(log_probs, y))


def test_one_class_alone_leaves_undetermined_what_it_cannot_determine(served: Served, truth: Truth) -> None:
    rows, _ = truth(50, seed=10)
    found = check(served(), rows, np.zeros(50, dtype=np.intp))
    assert found.line.intercept is None or np.isfinite(found.line.intercept)
    assert np.isfinite([found.error, found.chance, found.parts.uncertainty]).all()


@pytest.mark.parametrize("loss", ["brier", "log_loss"])
def test_murphys_parts_add_up_to_the_loss(loss: str, served: Served, truth: Truth) -> None:
    model = served()
    rows, labels = truth(800, seed=12)
    parts = check(model, rows, labels).binned[loss]
    p = np.exp(posterior_of(model, rows).log_probs[:, 1])
    right = np.where(labels == 1, p, 1.0 - p)
    whole = np.mean((p - labels) ** 2) if loss == "brier" else -np.mean(np.log(right))
    numbers = [parts.reliability, parts.resolution, parts.uncertainty, parts.within]
    signed = sum(sign * (number or 0.0) for sign, number in zip((1, -1, 1, 1), numbers, strict=True))
    assert parts.score == pytest.approx(whole)
    assert signed == pytest.approx(whole)


def test_a_class_predicted_too_often_is_named_and_chance_alone_names_none(served: Served, truth: Truth) -> None:
    model = served(3, tail="")
    same = check(model, *truth(2000, 3, seed=13)).classes
    assert not any(own.shifted for own in same.values())
    other = check(model, *truth(2000, 3, seed=13, log_ratio=(0.0, 0.0, 1.5))).classes
    assert other["cyd"].shifted
    assert other["cyd"].gap < 0.0 < other["ann"].gap


def test_chance_names_a_class_in_one_sample_of_twenty() -> None:
    rng, named = np.random.default_rng(0), 0
    for _ in range(300):
        log_probs = log_softmax(rng.normal(size=(400, 3)))
        labels = (log_probs + rng.gumbel(size=(400, 3))).argmax(axis=1)
        problem = ClassificationProblem(
            tuple("abc"), log_probs, log_probs, labels, SampleDesign(None, None), {}, {}, "identity"
        )
        named += any(own.shifted for own in class_calibration(problem).values())
    assert named <= 27  # 15 expected at most; 27 is beyond the 99.8 % quantile


def test_one_convention_of_the_brier_score_holds_in_every_place(served: Served, truth: Truth) -> None:
    model, (rows, labels) = served(), truth(400, seed=14)
    found = evaluated(model, rows, labels)
    part, p = found.report.parts["rows"].probabilities, np.exp(found.problems["rows"].log_probs[:, 1])
    brier, parts = part.metrics["brier_loss"], part.calibration.parts
    assert brier == pytest.approx(sklearn.metrics.brier_score_loss(labels, p))
    assert parts.squared_error == pytest.approx(brier)
    assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(brier)
    assert part.calibration.binned["brier"].score == pytest.approx(brier)
    before = part.uncalibrated_metrics["brier_loss"]
    assert part.calibration.uncalibrated_parts.squared_error == pytest.approx(before)
