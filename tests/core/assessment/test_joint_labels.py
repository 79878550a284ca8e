import numpy as np
import pytest
import scipy.optimize
import scipy.special

from service.core.assessment.joint_labels import frechet_bounds, joint
from service.core.calibration.platt import Platt
from service.core.numerics import Array, Indices, two_column

HALF = 100_000
TRUTH = np.array([[1.5, -0.5], [-0.5, 0.2]])  # slope and intercept of each label's log-odds


def twins(n: int, *, seed: int) -> tuple[Array, Indices]:
    """One measurement and two labels that share one uniform number, so that they depend on each other given it."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=n), rng.random(n)
    return x, (u[:, None] < marginals(x)).astype(np.intp)


def marginals(x: Array) -> Array:
    return np.asarray(scipy.special.expit(x[:, None] * TRUTH[:, 0] + TRUTH[:, 1]))


@pytest.fixture(scope="module")
def fitted() -> list[Platt]:
    x, labels = twins(HALF, seed=0)
    return [Platt.fit(two_column(x), labels[:, j]) for j in range(2)]


def calibrated(fitted: list[Platt], x: Array) -> Array:
    return np.stack([np.exp(platt.apply(two_column(x)))[:, 1] for platt in fitted], axis=1)


def test_every_label_finds_its_own_posterior_however_labels_depend_on_each_other(fitted: list[Platt]) -> None:
    np.testing.assert_allclose([[p.slope, p.intercept] for p in fitted], TRUTH, rtol=0, atol=0.03)
    x, labels = twins(HALF, seed=1)
    q = calibrated(fitted, x)
    assert np.abs(q - marginals(x)).max() < 0.005
    noise = np.sqrt(marginals(x) * (1.0 - marginals(x))).mean(axis=0) / np.sqrt(HALF)
    assert (np.abs((q - labels).mean(axis=0)) < 4.0 * noise).all()


def test_the_product_of_right_marginals_is_wrong_and_detected(fitted: list[Platt]) -> None:
    x, labels = twins(HALF, seed=1)
    both = joint(calibrated(fitted, x), labels)
    assert both.observed == pytest.approx(0.307, abs=0.015)
    assert both.product == pytest.approx(0.195, abs=0.015)
    assert abs(both.observed - both.product) > 0.1
    assert both.product_is_wrong
    assert both.low < both.observed <= both.high + 0.005  # one shared number is the dependence that reaches the top


def test_the_exact_match_of_predicted_sets_is_detected_as_wrong_too(fitted: list[Platt]) -> None:
    x, labels = twins(HALF, seed=1)
    q = calibrated(fitted, x)
    predicted = q >= 0.5
    assert joint(np.where(predicted, q, 1.0 - q), predicted == labels).product_is_wrong


def test_independent_labels_raise_no_warning() -> None:
    rng = np.random.default_rng(0)
    q = rng.random((20_000, 3))
    assert not joint(q, rng.random(q.shape) < q).product_is_wrong


def test_certain_labels_have_no_noise_and_raise_no_warning() -> None:
    flags = np.array([[1, 1], [0, 1]])
    assert not joint(flags.astype(np.float64), flags).product_is_wrong


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_bounds_are_the_extremes_over_all_joint_distributions(m: int) -> None:
    q = np.random.default_rng(m).random((5, m))
    q[0] = np.linspace(0.9, 1.0, m)
    outcomes = np.array(list(np.ndindex(*(2,) * m)))
    constraints, every = np.vstack([outcomes.T, np.ones(2**m)]), outcomes.all(axis=1).astype(np.float64)
    for row, low, high in zip(q, *frechet_bounds(q), strict=True):
        worst, best = (
            sign * scipy.optimize.linprog(sign * every, A_eq=constraints, b_eq=[*row, 1.0]).fun for sign in (1.0, -1.0)
        )
        assert (low, high) == pytest.approx((worst, best), abs=1e-9)


def test_the_product_lies_within_the_bounds() -> None:
    q = np.random.default_rng(0).random((1000, 5)) ** 0.1
    low, high = frechet_bounds(q)
    assert (low <= q.prod(axis=1) + 1e-15).all()
    assert (q.prod(axis=1) <= high + 1e-15).all()


def test_a_weight_of_two_is_the_row_twice_in_its_group() -> None:
    rng = np.random.default_rng(4)
    q, copies = rng.uniform(0.2, 0.9, size=(80, 3)), rng.integers(1, 4, size=80)
    outcomes = (rng.random(q.shape) < q).astype(np.intp)
    rows = np.repeat(np.arange(80), copies)
    weighted = joint(q, outcomes, weights=copies.astype(np.float64), groups=np.arange(80))
    repeated = joint(q[rows], outcomes[rows], groups=rows)
    for name in ("observed", "product", "low", "high", "standard_error"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-11), name
