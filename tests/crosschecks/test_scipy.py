"""SciPy: another road to the same optimum (seven digits, science.md finding 7) and exact distributions."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from service.core.assessment.decomposition import monotone_recalibration
from service.core.assessment.selective import clopper_pearson_upper
from service.core.calibration.temperature import fit_temperature
from service.core.conformal import confident_rank, marginal_rank
from service.core.numerics import log_softmax, logsumexp
from service.core.trajectory import horizon_risk


@pytest.mark.parametrize("k", [2, 10, 100])
def test_temperature(k, rows) -> None:
    z, y = rows(k=k)

    def slope(log_beta: float) -> float:
        p = scipy.special.softmax(np.exp(log_beta) * z, axis=1)
        return float(np.mean(np.sum(p * z, axis=1) - z[np.arange(len(z)), y]))

    root = scipy.optimize.brentq(slope, -5.0, 5.0, xtol=1e-13)
    assert fit_temperature(z, y).calibrator.temperature == pytest.approx(np.exp(-root), rel=1e-10)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_log_softmax(scale) -> None:
    z = scale * np.random.default_rng(0).normal(size=(100, 7))
    np.testing.assert_allclose(log_softmax(z), scipy.special.log_softmax(z, axis=1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(logsumexp(z), scipy.special.logsumexp(z, axis=1), rtol=1e-14)


def test_isotonic_regression(rows) -> None:
    z, y = rows(k=2)
    predicted, weights = np.exp(log_softmax(z)[:, 1]), np.random.default_rng(1).exponential(size=len(y))
    order = np.argsort(predicted)
    theirs = scipy.optimize.isotonic_regression(y[order], weights=weights[order]).x
    np.testing.assert_allclose(monotone_recalibration(predicted, y, weights=weights)[order], theirs, rtol=1e-10)


@pytest.mark.parametrize(
    ("n", "alpha", "delta", "rank"),
    [(1000, 0.05, 0.05, 962), (1000, 0.05, 0.1, 960), (100, 0.05, 0.05, 99), (5000, 0.01, 0.05, 4962)],
)
def test_ranks_that_hold_with_confidence(n, alpha, delta, rank) -> None:
    """science.md 4.3: the false-alarm rate of the k-th order statistic is Beta(n + 1 - k, k)."""
    assert confident_rank(n, alpha, confidence=1.0 - delta) == rank
    assert scipy.stats.beta.sf(alpha, n + 1 - rank, rank) <= delta < scipy.stats.beta.sf(alpha, n + 2 - rank, rank - 1)
    assert scipy.stats.beta.mean(n + 1 - marginal_rank(n, alpha), marginal_rank(n, alpha)) <= alpha


@pytest.mark.parametrize(("errors", "n"), [(0, 59), (3, 100), (40, 1000), (999, 1000)])
def test_clopper_pearson(errors, n) -> None:
    theirs = scipy.stats.binomtest(errors, n, alternative="less").proportion_ci(0.95, method="exact").high
    assert clopper_pearson_upper(errors, n) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("recovery", [0.0, 0.1, 0.5])
def test_the_horizon_is_the_sum_of_a_markov_chain(recovery) -> None:
    step, state, total = np.array([[0.99, 0.01], [recovery, 1.0 - recovery]]), np.array([1.0, 0.0]), 0.0
    for _ in range(100):
        state = state @ step
        total += state[1]
    assert horizon_risk(0.01, 100, recovery=recovery) == pytest.approx(total, rel=1e-12)
