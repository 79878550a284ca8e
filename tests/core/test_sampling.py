import numpy as np
import pytest

from service.core.sampling import effective_rows, mean_noise


def test_independent_rows_have_the_textbook_s_standard_error() -> None:
    rng = np.random.default_rng(0)
    deviation, weights = rng.random(50), rng.exponential(size=50)
    draws = rng.normal(size=(20_000, 50)) * deviation
    assert mean_noise(deviation, weights=weights) == pytest.approx(np.std(draws @ weights / weights.sum()), rel=0.03)


def test_rows_of_one_fate_have_the_noise_of_their_groups_and_less_dependent_ones_less() -> None:
    rng = np.random.default_rng(1)
    groups, deviation = np.arange(60) % 12, rng.random(60)
    shared = rng.normal(size=(20_000, 12))[:, groups] * deviation
    bound = mean_noise(deviation, groups=groups)
    assert np.std(shared.mean(axis=1)) == pytest.approx(bound, rel=0.03)
    assert mean_noise(deviation) < bound


def test_a_group_of_its_own_per_row_changes_nothing() -> None:
    values = np.random.default_rng(2).random(40)
    assert mean_noise(values, groups=np.arange(40)) == mean_noise(values)


def test_copies_within_groups_add_no_rows() -> None:
    assert effective_rows(30, groups=np.repeat(np.arange(10), 3)) == pytest.approx(10.0)
    assert effective_rows(3, weights=np.array([1.0, 1.0, 1e-9])) == pytest.approx(2.0, rel=1e-6)
