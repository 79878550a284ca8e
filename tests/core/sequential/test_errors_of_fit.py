import numpy as np
import pytest

from service.core.assessment.recalibration import cox
from service.core.numerics import log_softmax
from service.core.sequential.errors_of_fit import intercept_errors, slope_error


def test_the_error_of_an_intercept_is_that_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0.0, 1.0, size=4000)
    p = 1.0 / (1.0 + np.exp(-log_odds))
    y = rng.random(4000) < p
    brier = 2.0 * float(np.mean((p - y) ** 2))
    found = intercept_errors(brier, np.array([1.0 - y.mean(), y.mean()]), units=4000)
    assert found == pytest.approx(cox(log_odds, y).intercept_error, rel=0.05)


def test_no_error_is_zero_or_infinite_where_rows_hold_no_information() -> None:
    found = intercept_errors(0.0, np.array([1.0, 0.0]), units=10)
    assert np.all(np.isfinite(found))
    assert np.all(found > 100.0)


def test_an_open_interval_counts_as_wide_as_its_other_side() -> None:
    assert slope_error(2.0, 1.0, np.inf) == pytest.approx(slope_error(2.0, 1.0, 4.0))


def test_classes_share_the_information() -> None:
    log_probs = log_softmax(np.random.default_rng(1).normal(size=(500, 3)))
    p = np.exp(log_probs)
    found = intercept_errors(float((p * (1 - p)).sum(axis=1).mean()), p.mean(axis=0), units=500)
    assert found == pytest.approx(1.0 / np.sqrt(500 * (p * (1 - p)).mean(axis=0)), rel=0.1)
