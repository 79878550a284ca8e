import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from service.core.assessment.metrics import log_loss
from service.core.calibration.isotonic import Isotonic
from service.core.calibration.onevsrest import log_odds
from service.core.numerics import Array, log_softmax


def before_mixing(fitted: Isotonic, log_probs: Array) -> Array:
    k = log_probs.shape[1]
    q: Array = (np.exp(log_probs) - fitted.blend / k) / (1.0 - fitted.blend)
    return q


@pytest.mark.parametrize("decimals", [0, 1, 15])
@pytest.mark.parametrize("n", [30, 2000])
def test_it_is_the_isotonic_regression_of_scikit_learn_ties_included(n: int, decimals: int) -> None:
    rng = np.random.default_rng(n)
    x = np.round(2.0 * rng.normal(size=n), decimals)
    labels = (rng.random(n) < 1.0 / (1.0 + np.exp(-x))).astype(np.intp)
    weights = rng.exponential(size=n)
    weights[:3] = 0.0
    theirs = IsotonicRegression(out_of_bounds="clip").fit(x, labels, sample_weight=weights)
    fitted = Isotonic.fit(np.stack([np.zeros(n), x], axis=1), labels, weights=weights)
    fresh = np.concatenate([x, 4.0 * rng.normal(size=500)])
    ours = before_mixing(fitted, fitted.apply(np.stack([np.zeros(n + 500), fresh], axis=1)))[:, 1]
    np.testing.assert_allclose(ours, theirs.predict(fresh), rtol=0, atol=1e-12)


def test_every_class_has_the_curve_of_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(500, 3)), rng.integers(0, 3, size=500)
    fitted = Isotonic.fit(logits, labels)
    odds = log_odds(logits)
    theirs = np.stack([IsotonicRegression().fit_transform(odds[:, c], labels == c) for c in range(3)], axis=1)
    ours = before_mixing(fitted, fitted.apply(logits))
    np.testing.assert_allclose(ours, theirs / theirs.sum(axis=1, keepdims=True), rtol=0, atol=1e-12)


def test_a_class_without_rows_is_unlikely_and_not_impossible(truth) -> None:
    logits, labels = truth(3).draw(300, seed=0)
    seen = labels != 0
    log_p = Isotonic.fit(logits[seen], labels[seen]).apply(logits)
    assert np.median(np.exp(log_p[:, 0])) == pytest.approx(1.0 / (seen.sum() + 1) / 3.0, rel=1e-9)


def test_a_higher_score_is_never_a_lower_probability() -> None:
    rng = np.random.default_rng(1)
    logits = np.stack([np.zeros(400), np.sort(rng.normal(size=400))], axis=1)
    log_p = Isotonic.fit(logits, rng.integers(0, 2, size=400)).apply(logits)
    assert (np.diff(log_p[:, 1]) >= -1e-12).all()


def test_it_follows_a_curve_that_no_line_fits() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(-3.0, 3.0, size=40_000)
    q = np.where(x < 0.0, 0.2, 0.7)
    labels = (rng.random(40_000) < q).astype(np.intp)
    logits = np.stack([np.zeros(40_000), x], axis=1)
    ours = log_loss(Isotonic.fit(logits[::2], labels[::2]).apply(logits[1::2]), labels[1::2])
    assert ours < log_loss(np.log(np.stack([1.0 - q, q], axis=1))[1::2], labels[1::2]) + 0.003


def test_log_odds_are_exact_where_probabilities_have_run_out_of_digits() -> None:
    logits = np.array([[800.0, 0.0, -5.0], [0.1, 0.2, 0.3]])
    odds = log_odds(logits)
    assert odds[0] == pytest.approx([800.0 - np.log1p(np.exp(-5.0)), -800.0, -805.0], rel=1e-15)
    p = np.exp(log_softmax(logits[1:]))
    np.testing.assert_allclose(odds[1:], np.log(p / (1.0 - p)), rtol=1e-12)
