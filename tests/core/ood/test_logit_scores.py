import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, log_softmax
from service.core.ood.logit_scores import Energy, LogitNorm, MaxLogit, free_energy
from service.core.ood.mahalanobis import Mahalanobis

logits = arrays(np.float64, (6, 5), elements=st.floats(-300.0, 300.0))


@pytest.mark.parametrize(("t", "golden"), [(1.0, -3.40760596444438), (2.0, -4.360539341283469)])
def test_the_energy_of_one_two_three(t: float, golden: float) -> None:
    assert free_energy(np.array([[1.0, 2.0, 3.0]]), temperature=t)[0] == pytest.approx(golden, rel=1e-15)


@given(logits, st.floats(0.2, 20.0))
def test_free_energy_is_mean_energy_less_temperature_times_entropy(z: Array, t: float) -> None:
    p, log_p = np.exp(log_softmax(z / t)), log_softmax(z / t)
    mean_energy, entropy = -(p * z).sum(axis=1), -(p * log_p).sum(axis=1)
    np.testing.assert_allclose(free_energy(z, temperature=t), mean_energy - t * entropy, rtol=1e-12, atol=1e-10)


@given(logits, st.floats(0.2, 20.0))
def test_cross_entropy_is_the_gap_between_a_states_energy_and_the_free_energy(z: Array, t: float) -> None:
    gap = (-z[:, 2] - free_energy(z, temperature=t)) / t
    np.testing.assert_allclose(gap, -log_softmax(z / t)[:, 2], rtol=1e-12, atol=1e-11)
    assert (free_energy(z, temperature=t) <= (-z).min(axis=1) + 1e-9).all()


@given(logits)
def test_energy_is_scipys_logsumexp(z: Array) -> None:
    np.testing.assert_allclose(Energy().score(z), -scipy.special.logsumexp(z, axis=1), rtol=1e-14, atol=1e-13)


def test_energy_of_normalised_log_probabilities_is_constant() -> None:
    z = np.random.default_rng(0).normal(size=(200, 5)) * 4.0
    scores = Energy().score(log_softmax(z))
    np.testing.assert_allclose(scores, 0.0, rtol=0, atol=1e-14)
    assert np.ptp(Energy().score(z)) > 1.0


def test_energy_between_its_limits_of_temperature() -> None:
    z = np.random.default_rng(1).normal(size=(50, 6))
    np.testing.assert_allclose(free_energy(z, temperature=1e-4), MaxLogit().score(z), rtol=0, atol=1e-3)
    hot = free_energy(z, temperature=1e6) + 1e6 * np.log(6.0)
    np.testing.assert_allclose(hot, -z.mean(axis=1), rtol=0, atol=1e-5)


@given(logits, st.floats(0.01, 100.0), st.floats(-100.0, 100.0))
def test_logit_norm_sees_neither_scale_nor_level(z: Array, scale: float, level: float) -> None:
    spread = np.ptp(z, axis=1) > 1.0
    np.testing.assert_allclose(
        LogitNorm().score(scale * z + level)[spread], LogitNorm().score(z)[spread], rtol=1e-8, atol=1e-10
    )


def test_logit_norm_is_lowest_for_a_single_winner_and_zero_for_equal_logits() -> None:
    for k in (3, 10, 100):
        assert LogitNorm().score(7.0 * np.eye(k)[:1])[0] == pytest.approx(-np.sqrt(1.0 - 1.0 / k), rel=1e-12)
        assert LogitNorm().score(np.full((1, k), 0.1))[0] == 0.0


def test_logit_norm_of_two_classes_is_constant() -> None:
    z = np.random.default_rng(2).normal(size=(50, 2))
    np.testing.assert_allclose(LogitNorm().score(z), -np.sqrt(0.5), rtol=1e-12)


def test_far_from_the_data_energy_is_certain_and_the_distance_is_not() -> None:
    rng = np.random.default_rng(5)
    head, near = rng.normal(size=(16, 10)), rng.normal(size=(1000, 16))
    far = 20.0 * rng.normal(size=(1000, 16))
    fitted = Mahalanobis.fit(rng.normal(size=(1000, 16)), rng.integers(0, 10, size=1000))
    assert separation_score(fitted.score(near), fitted.score(far)) > 0.95
    assert separation_score(Energy().score(near @ head), Energy().score(far @ head)) < 0.1
