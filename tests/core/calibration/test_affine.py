import numpy as np
import pytest
import scipy.optimize
import scipy.special

from service.core.calibration.affine import AffineLoss
from service.core.numerics import Array

K, N = 4, 120


def problem(centre: Array, *, absent: bool) -> AffineLoss:
    rng = np.random.default_rng(centre.ndim)
    logits, labels = 2.0 * rng.normal(size=(N, K)), rng.integers(0, K - absent, size=N)
    weights = rng.dirichlet(np.ones(N))
    normaliser = scipy.special.logsumexp(logits, axis=1)
    return AffineLoss(logits, labels, weights, normaliser, 0.6, centre, 0.05 + 0.1 * np.abs(centre), 0.02)


shapes = pytest.mark.parametrize("centre", [np.array(1.0), np.ones(K), np.eye(K)], ids=["one", "vector", "matrix"])
absence = pytest.mark.parametrize("absent", [False, True])


@shapes
@absence
def test_the_gradient_agrees_with_central_differences(centre: Array, *, absent: bool) -> None:
    loss = problem(centre, absent=absent)
    point = loss.start() + 0.3 * np.random.default_rng(1).normal(size=centre.size + K)
    steps = 1e-5 * np.eye(len(point))
    slopes = [(loss.evaluate(point + step)[0] - loss.evaluate(point - step)[0]) / 2e-5 for step in steps]
    value, gradient = loss.evaluate(point)
    assert np.isfinite(value)
    moved = np.ones(len(point), dtype=np.bool_)
    if absent and centre.ndim:  # the slope of an absent class is held, whatever the rows say
        moved[: centre.size].reshape(centre.shape)[K - 1] = False
    np.testing.assert_allclose(gradient[moved], np.array(slopes)[moved], rtol=0, atol=1e-8)


@shapes
def test_the_optimum_is_the_one_that_scipy_finds(centre: Array) -> None:
    from service.core.calibration.descent import minimise

    loss = problem(centre, absent=False)
    ours = minimise(loss.evaluate, loss.start(), loss.curvature())
    options = {"gtol": 1e-12, "ftol": 1e-15, "maxiter": 5000}
    theirs = scipy.optimize.minimize(loss.evaluate, loss.start(), jac=True, method="L-BFGS-B", options=options)
    assert np.abs(loss.evaluate(ours)[1]).max() < 1e-8
    np.testing.assert_allclose(ours, theirs.x, rtol=0, atol=1e-5)
