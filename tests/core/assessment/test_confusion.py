import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from service.core.assessment.confusion import Rates, confusion_matrix, proportion, rates, student


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    event = rng.random(n) < 0.3
    return (rng.random(n) < np.where(event, 0.8, 0.2)), event


def values(found: Rates) -> list[float]:
    names = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")
    return [getattr(found, name).value for name in names]


def test_the_matrix_and_its_rates_agree_with_scikit_learn() -> None:
    predicted, event = drawn(300, 0)
    weights = np.random.default_rng(1).uniform(0.5, 3.0, 300)
    for w in (None, weights):
        oracle = sklearn.metrics.confusion_matrix(event, predicted, sample_weight=w)
        found = confusion_matrix(predicted.astype(np.intp), event.astype(np.intp), shape=(2, 2), weights=w)
        np.testing.assert_allclose(found, oracle.T)
        (tn, fp), (fn, tp) = oracle
        expected = [tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)]
        assert values(rates(predicted, event, weights=w)) == pytest.approx(expected)


@given(st.integers(1, 60), st.integers(0, 60))
def test_an_interval_of_equal_independent_rows_is_wilsons(n: int, hits: int) -> None:
    hits = min(n, hits)
    found = proportion(np.arange(n) < hits)
    oracle = binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert found.rows == n


def test_a_weight_of_two_is_the_row_twice_in_every_share() -> None:
    predicted, event = drawn(100, 2)
    weights = np.random.default_rng(3).integers(1, 4, 100)
    twice = rates(np.repeat(predicted, weights), np.repeat(event, weights))
    assert values(rates(predicted, event, weights=weights.astype(float))) == pytest.approx(values(twice))


def test_rows_copied_within_groups_tell_no_more_than_one_of_them() -> None:
    predicted, event = drawn(40, 4)
    alone, copied = proportion(predicted), proportion(np.repeat(predicted, 5), groups=np.repeat(np.arange(40), 5))
    assert copied.value == alone.value
    assert copied.high - copied.low >= alone.high - alone.low
    assert event.any()


def test_all_rows_right_is_no_certainty_and_one_group_bounds_nothing() -> None:
    sure = proportion(np.ones(30, dtype=bool), groups=np.arange(30) // 3)
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert sure.low == pytest.approx(binomtest(10, 10).proportion_ci(method="wilson").low)
    one = proportion(np.ones(30, dtype=bool), groups=np.zeros(30, dtype=int))
    assert (one.value, one.rows) == (1.0, 30)
    assert np.isnan([one.low, one.high]).all()
    assert np.isnan(proportion(np.ones(0, dtype=bool)).value)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 40])
def test_the_quantile_of_t_is_scipys(freedom: int) -> None:
    assert student(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=2e-3)


def test_intervals_of_groups_have_their_stated_coverage() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        level = rng.beta(4.0, 1.0, size=20)
        groups = np.repeat(np.arange(20), 4)
        found = proportion(rng.random(80) < level[groups], groups=groups)
        held += found.low <= 0.8 <= found.high
    assert held >= 0.92 * 400
