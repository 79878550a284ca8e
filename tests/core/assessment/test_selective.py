"""Answering only where it is safe."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from service.core.assessment.selective import (
    area_under_risk_coverage,
    clopper_pearson_upper,
    coverage_at_risk,
    excess_area,
    risk_coverage,
)

GOLDEN = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.0, 1.0, 0.0, 1.0])


# ------------------------------------------------------------------------------------------------ risk and coverage


def test_the_golden_curve() -> None:
    coverage, risk = risk_coverage(*GOLDEN)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(risk, [0.0, 0.5, 1 / 3, 0.5])
    assert area_under_risk_coverage(*GOLDEN) == pytest.approx(1 / 3, rel=1e-14)


def test_with_everything_answered_the_risk_is_the_error_rate() -> None:
    rng = np.random.default_rng(1)
    losses = rng.random(100)
    assert risk_coverage(rng.random(100), losses)[1][-1] == pytest.approx(losses.mean(), rel=1e-12)


def test_ties_enter_in_random_order() -> None:
    rng = np.random.default_rng(2)
    confidence, losses = np.repeat([0.9, 0.5, 0.1], 5), (rng.random(15) < 0.5) * 1.0
    broken = np.mean([risk_coverage(confidence + 1e-6 * rng.random(15), losses)[1] for _ in range(4000)], axis=0)
    np.testing.assert_allclose(risk_coverage(confidence, losses)[1], broken, atol=0.03)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30))
def test_no_order_beats_the_best_one(rows: list[tuple[int, int]]) -> None:
    confidence, losses = np.array(rows, dtype=np.float64).T
    assert excess_area(confidence, losses) >= -1e-12
    assert excess_area(-losses, losses) == 0.0


# ------------------------------------------------------------------------------------------------------- guarantees


@pytest.mark.parametrize("n", [1, 7, 100, 20_000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_upper_bound_is_the_beta_quantile(n: int, confidence: float) -> None:
    for errors in {0, n // 100, n // 3, n // 2, n - 1}:
        oracle = scipy.stats.beta.ppf(confidence, errors + 1, n - errors)
        assert clopper_pearson_upper(errors, n, confidence=confidence) == pytest.approx(oracle, rel=1e-9)


def test_nothing_is_bounded_by_nothing_or_by_errors_alone() -> None:
    assert clopper_pearson_upper(0, 0) == 1.0
    assert clopper_pearson_upper(5, 5) == 1.0


def test_answered_rows_keep_the_bound_on_the_risk_nearly_always() -> None:
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(200):
        sure = rng.random(400)
        found = coverage_at_risk(sure, (rng.random(400) > sure) * 1.0, risk=0.2, confidence=0.9)
        true_risk = (1.0 - found.threshold) / 2.0 if np.isfinite(found.threshold) else 0.0
        broken += true_risk > 0.2
    assert broken <= 20


def test_more_rows_allow_more_coverage() -> None:
    rng = np.random.default_rng(4)
    coverages = []
    for n in (100, 1000, 20_000):
        sure = rng.random(n)
        coverages.append(coverage_at_risk(sure, (rng.random(n) > sure) * 1.0, risk=0.2).coverage)
    assert coverages == sorted(coverages)
    assert coverages[-1] == pytest.approx(0.4, abs=0.05)


def test_the_rows_above_the_threshold_are_those_answered_even_with_ties() -> None:
    rng = np.random.default_rng(5)
    sure = rng.integers(0, 8, size=900) / 8.0
    wrong = (rng.random(900) > sure) * 1.0
    found = coverage_at_risk(sure, wrong, risk=0.3)
    assert found.coverage == np.mean(sure >= found.threshold)
    assert found.risk == pytest.approx(wrong[sure >= found.threshold].mean(), rel=1e-12)


def test_a_bound_that_no_threshold_keeps_answers_nothing() -> None:
    found = coverage_at_risk(np.linspace(0.0, 1.0, 50), np.ones(50), risk=0.1)
    assert found.threshold == np.inf
    assert found.coverage == 0.0
    assert np.isnan(found.risk)
