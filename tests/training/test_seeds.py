import numpy as np
import pytest
import scipy.stats

from service.training.seeds import STUDENT, Gap, Spread, over_seeds, paired


def test_a_spread_is_mean_and_deviation_with_n_less_one():
    spread = Spread((1.0, 2.0, 6.0))
    assert spread.mean == 3.0
    assert spread.sd == pytest.approx(np.std([1.0, 2.0, 6.0], ddof=1))
    assert spread.text(1) == "3.0 (2.6)"


def test_one_value_has_no_deviation():
    assert Spread((2.0,)).sd == 0.0


def test_a_paired_difference_is_scipys():
    first, second = np.random.default_rng(0).normal(size=(2, 7))
    found = paired(Spread(tuple(first)), Spread(tuple(second)))
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert found.mean == pytest.approx((first - second).mean())


def test_the_table_of_student_is_scipys():
    np.testing.assert_allclose(STUDENT, scipy.stats.t.ppf(0.975, np.arange(1, len(STUDENT) + 1)), atol=5e-4)


def test_beyond_the_table_the_interval_is_a_little_wider_never_narrower():
    values = tuple(np.random.default_rng(0).normal(size=200))
    found = paired(Spread(values), Spread((0.0,) * 200))
    exact = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.low < exact.low < exact.high < found.high < exact.high + 0.01


def test_a_gap_shows_its_sign():
    assert Gap(0.0123, -0.001, 0.02).text() == "+0.012 (-0.001 to +0.020)"


def test_every_seed_runs_once_in_its_order():
    seen: list[int] = []

    def run(seed):
        seen.append(seed)
        return {"loss": seed / 2, "cost": -seed}

    found = over_seeds(range(3), run)
    assert seen == [0, 1, 2]
    assert found == {"loss": Spread((0.0, 0.5, 1.0)), "cost": Spread((0.0, -1.0, -2.0))}


def test_pairs_need_the_same_seeds_and_two_of_them():
    with pytest.raises(ValueError, match="at least two seeds"):
        paired(Spread((1.0,)), Spread((2.0,)))
    with pytest.raises(ValueError, match="zip"):
        paired(Spread((1.0, 2.0)), Spread((2.0,)))
