"""Observed over expected events: value, interval, coverage."""

import numpy as np
import pytest
from scipy.stats import chi2

from service.core.assessment.observed_expected import observed_over_expected


def test_the_interval_of_rare_events_is_near_garwoods():
    found = observed_over_expected(np.full(10_000, 0.001), np.arange(10_000) < 12)
    low, high = chi2.ppf(0.025, 24) / 2 / 10, chi2.ppf(0.975, 26) / 2 / 10
    assert found.value == pytest.approx(1.2)
    assert found.low == pytest.approx(low, abs=0.06)
    assert found.high == pytest.approx(high, abs=0.12)


def test_no_event_has_an_upper_end():
    found = observed_over_expected(np.full(1000, 0.01), np.zeros(1000, dtype=bool))
    assert found.low == 0.0
    assert found.high == pytest.approx(-np.log(0.025) / 10.0, rel=0.02)


def test_a_row_twice_in_a_group_counts_once():
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = rng.random(200) < p
    rows = np.arange(200).repeat(3)
    once, thrice = observed_over_expected(p, y), observed_over_expected(p[rows], y[rows], groups=rows)
    assert [once.low, once.high] == pytest.approx([thrice.low, thrice.high])


def test_impossible_rows_leave_no_ratio():
    assert np.isnan(observed_over_expected(np.zeros(5), np.ones(5, dtype=bool)).value)


@pytest.mark.parametrize(("n", "base"), [(100, -2.0), (1000, -4.0)])
def test_it_covers(n, base):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(500):
        p = 1.0 / (1.0 + np.exp(-rng.normal(base, 1.5, n)))
        found = observed_over_expected(p, rng.random(n) < p)
        covered += found.low <= 1.0 <= found.high
    assert covered >= 465  # 0.93: two standard errors below 0.95
