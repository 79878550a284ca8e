"""Calibration intercept and slope: values against statsmodels, coverage of their intervals."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import norm

from service.core.assessment.calibration_line import calibration_intercept, calibration_slope
from service.core.assessment.observed_expected import observed_over_expected


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def drawn(rng, n, intercept=0.0, slope=1.0, rows=1):
    """Log-odds and events; rows of a subject share a normal effect, under which the marginal model still holds."""
    subject = np.arange(n) // rows
    x = rng.normal(-2.0, 1.5, n)
    shared = 0.6 if rows > 1 else 0.0
    u = norm.cdf(np.sqrt(shared) * rng.normal(size=n)[subject] + np.sqrt(1.0 - shared) * rng.normal(size=n))
    return x, u < sigmoid(intercept + slope * x), subject if rows > 1 else None


def test_both_are_those_of_a_generalised_linear_model():
    x, y, _ = drawn(np.random.default_rng(0), 2000, 0.4, 0.8)
    line = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit()
    large = sm.GLM(y, np.ones(len(x)), family=sm.families.Binomial(), offset=x).fit()
    assert calibration_slope(x, y).value == pytest.approx(line.params[1], abs=1e-6)
    assert calibration_intercept(x, y).value == pytest.approx(large.params[0], abs=1e-6)
    low, high = line.conf_int()[1]
    slope = calibration_slope(x, y)
    assert [slope.low, slope.high] == pytest.approx([low, high])


def test_the_intercept_excludes_zero_exactly_when_the_ratio_excludes_one():
    for seed in range(40):
        x, y, _ = drawn(np.random.default_rng(seed), 300, 0.3)
        intercept, ratio = calibration_intercept(x, y), observed_over_expected(sigmoid(x), y)
        assert (intercept.low > 0.0) == (ratio.low > 1.0)


def test_no_events_leave_an_upper_end_and_no_slope():
    intercept = calibration_intercept(np.full(50, -2.0), np.zeros(50, dtype=bool))
    assert np.isnan(intercept.value)
    assert np.isneginf(intercept.low)
    assert np.isfinite(intercept.high)
    assert np.isnan(calibration_slope(np.linspace(-3, 0, 50), np.zeros(50, dtype=bool)).low)


@pytest.mark.parametrize(
    ("n", "intercept", "slope", "rows"), [(200, 0.0, 1.0, 1), (400, 0.5, 0.7, 1), (400, 0.0, 1.0, 5)]
)
def test_they_cover(n, intercept, slope, rows):
    _coverage(300, n, intercept, slope, rows, least=0.92)


@pytest.mark.simulation
@pytest.mark.parametrize("rows", [1, 5, 10])
@pytest.mark.parametrize(("n", "intercept", "slope"), [(200, 0.0, 1.0), (600, 0.5, 0.7), (3000, -0.5, 1.3)])
def test_they_cover_over_many_repeats(n, intercept, slope, rows):
    _coverage(1000, n, intercept, slope, rows, least=0.92)


def _coverage(repeats, n, intercept, slope, rows, *, least):
    rng = np.random.default_rng(2)
    found = []
    for _ in range(repeats):
        x, y, groups = drawn(rng, n, intercept, slope, rows)
        ends = [calibration_slope(x, y, groups=groups), calibration_intercept(x, y, groups=groups)]
        truth = [slope, 0.0 if (intercept, slope) == (0.0, 1.0) else np.nan]
        found.append([np.isnan(t) or e.low <= t <= e.high for e, t in zip(ends, truth, strict=True)])
    assert (np.mean(found, axis=0) >= least).all()
