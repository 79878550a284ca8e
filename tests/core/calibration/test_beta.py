import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from service.core.calibration.beta import Beta
from service.core.numerics import Array, Indices, log_softmax


def drawn(n: int, a: float, b: float, c: float, seed: int) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    s = rng.beta(1.5, 1.5, size=n)
    logits = np.stack([np.log1p(-s), np.log(s)], axis=1)
    q = 1.0 / (1.0 + np.exp(-(a * np.log(s) - b * np.log1p(-s) + c)))
    return logits, (rng.random(n) < q).astype(np.intp)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_logistic_regression_on_both_logarithms(seed: int) -> None:
    logits, labels = drawn(2000, 0.6, 1.8, 0.3, seed)
    weights = np.random.default_rng(seed).exponential(size=2000)
    features = log_softmax(logits)[:, ::-1] * np.array([1.0, -1.0])
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    theirs = model.fit(features, labels, sample_weight=weights)
    ours = Beta.fit(logits, labels, weights=weights)
    assert min(ours.a, ours.b) > 0.0
    assert (ours.a, ours.b, ours.c) == pytest.approx((*theirs.coef_[0], theirs.intercept_[0]), abs=1e-4)


def test_it_recovers_the_map_behind_the_labels() -> None:
    fitted = Beta.fit(*drawn(200_000, 0.5, 2.0, -0.4, 9))
    assert (fitted.a, fitted.b, fitted.c) == pytest.approx((0.5, 2.0, -0.4), abs=0.05)


@pytest.mark.parametrize(("a", "b"), [(-0.5, 1.5), (1.5, -0.5)])
def test_a_negative_slope_is_dropped_and_the_rest_fitted_again(a: float, b: float) -> None:
    logits, labels = drawn(4000, a, b, 0.0, 5)
    fitted = Beta.fit(logits, labels)
    column, sign = (0, -1.0) if a < 0.0 else (1, 1.0)
    features = sign * log_softmax(logits)[:, [column]]
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(features, labels)
    assert min(fitted.a, fitted.b) == 0.0
    assert max(fitted.a, fitted.b) == pytest.approx(theirs.coef_[0, 0], abs=1e-4)


def test_rows_that_rank_backwards_leave_only_the_frequency() -> None:
    logits, labels = drawn(4000, -1.0, -1.0, 0.5, 6)
    fitted = Beta.fit(logits, labels)
    assert (fitted.a, fitted.b) == (0.0, 0.0)
    assert np.exp(fitted.apply(logits[:1]))[0, 1] == pytest.approx(labels.mean(), abs=1e-9)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1], [1] * 6, [0] * 6])
def test_separable_rows_stay_finite(labels: list[int]) -> None:
    fitted = Beta.fit(np.stack([np.zeros(6), np.linspace(-2.0, 2.0, 6)], axis=1), np.array(labels))
    assert 0.0 <= max(fitted.a, fitted.b) < 100.0
    assert abs(fitted.c) < 100.0
