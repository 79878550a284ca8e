import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import norm

from service.core.assessment.discrimination import FEWEST, auroc, roc_curve


def drawn(n: int = 200, *, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    event = rng.random(n) < 0.3
    scores = event + rng.normal(size=n)
    return (np.round(scores, 1) if ties else scores), event


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_curve_and_area_agree_with_scikit_learn(ties: bool, weighted: bool) -> None:  # noqa: FBT001  # pytest's
    scores, event = drawn(ties=ties)
    weights = np.random.default_rng(1).uniform(0.2, 2.0, len(scores)) if weighted else None
    curve = roc_curve(scores, event, weights=weights)
    oracle = sklearn.metrics.roc_curve(event, scores, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, oracle[0], atol=1e-12)
    np.testing.assert_allclose(curve.sensitivity, oracle[1], atol=1e-12)
    expected = sklearn.metrics.roc_auc_score(event, scores, sample_weight=weights)
    assert auroc(scores, event, weights=weights).value == pytest.approx(expected)


def test_a_thinned_curve_keeps_its_ends_and_its_points() -> None:
    scores, event = drawn(5000)
    whole, thin = roc_curve(scores, event), roc_curve(scores, event, points=50)
    assert 20 < len(thin.sensitivity) <= 52
    points = set(zip(whole.false_positive_rate, whole.sensitivity, strict=True))
    assert points.issuperset(zip(thin.false_positive_rate, thin.sensitivity, strict=True))
    for rate in (thin.false_positive_rate, thin.sensitivity):
        assert (rate[0], rate[-1]) == (0.0, 1.0)
        assert (np.diff(rate) >= 0.0).all()
    area = float(np.trapezoid(thin.sensitivity, thin.false_positive_rate))
    assert area == pytest.approx(auroc(scores, event).value, abs=0.01)


def test_an_order_of_the_rows_and_a_monotone_map_change_nothing() -> None:
    scores, event = drawn()
    order = np.random.default_rng(2).permutation(len(scores))
    mapped = auroc(np.exp(scores[order]), event[order])
    assert (mapped.value, mapped.low) == pytest.approx((auroc(scores, event).value, auroc(scores, event).low))
    other = auroc(-scores, ~event)
    assert (other.value, other.low, other.high) == pytest.approx(
        (auroc(scores, event).value, auroc(scores, event).low, auroc(scores, event).high)
    )


@pytest.mark.parametrize(("events", "others", "apart"), [(6, 60, 1.0), (40, 40, 0.5), (12, 200, 3.0)])
def test_intervals_have_their_stated_coverage(events: int, others: int, apart: float) -> None:
    rng = np.random.default_rng(3)
    event = np.arange(events + others) < events
    true, held = norm.cdf(apart / np.sqrt(2.0)), 0
    for _ in range(400):
        found = auroc(apart * event + rng.normal(size=len(event)), event)
        held += found.low <= true <= found.high
    assert held >= 0.93 * 400


def test_intervals_of_grouped_rows_have_their_stated_coverage_and_those_that_ignore_groups_do_not() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(30), 10)
    sick = np.arange(30) % 2 == 0  # a patient is sick or not: all rows of a group have one label
    true, held, ignoring = norm.cdf(1.0 / np.sqrt(2.0 * 2.0)), 0, 0
    for _ in range(300):
        scores = sick[groups] * 1.0 + rng.normal(size=30)[groups] + rng.normal(size=300)
        found, plain = auroc(scores, sick[groups], groups=groups), auroc(scores, sick[groups])
        held += found.low <= true <= found.high
        ignoring += plain.low <= true <= plain.high
    assert held >= 0.92 * 300
    assert ignoring < 0.8 * 300


def test_a_weight_of_two_is_the_row_twice_in_the_area_and_no_more_rows_in_its_interval() -> None:
    scores, event = drawn(60)
    weights = np.random.default_rng(5).integers(1, 4, 60)
    heavy, twice = (
        auroc(scores, event, weights=weights.astype(float)),
        auroc(scores.repeat(weights), event.repeat(weights)),
    )
    assert heavy.value == pytest.approx(twice.value)
    assert heavy.high - heavy.low > twice.high - twice.low


def test_too_few_events_have_no_interval_and_perfect_separation_no_certainty() -> None:
    few = auroc(np.arange(50.0), np.arange(50) >= 50 - (FEWEST - 1))
    assert (few.value, few.rows) == (1.0, FEWEST - 1)
    assert np.isnan([few.low, few.high]).all()
    assert np.isnan(auroc(np.arange(5.0), np.ones(5, dtype=bool)).value)
    sure = auroc(np.arange(50.0), np.arange(50) >= 40)
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert 0.8 < sure.low < 0.95
    one_group = auroc(np.arange(50.0), np.arange(50) >= 40, groups=np.zeros(50, dtype=int))
    assert np.isnan(one_group.low)
