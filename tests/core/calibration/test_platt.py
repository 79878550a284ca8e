import numpy as np
import pytest
from sklearn.calibration import _SigmoidCalibration
from sklearn.linear_model import LogisticRegression

from service.core.calibration.logistic import platt_targets
from service.core.calibration.platt import Platt


def rows(n: int, seed: int):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(np.intp)
    return 2.0 * rng.normal(size=(n, 2)) + np.eye(2)[labels], labels


@pytest.mark.parametrize(("n", "unit"), [(40, 1.0), (1000, 1.0), (1000, 50.0)])
def test_it_is_the_sigmoid_of_scikit_learn(n: int, unit: float) -> None:
    logits, labels = rows(n, seed=n)
    logits = unit * logits
    weights = np.random.default_rng(n).exponential(size=n)
    weights /= weights.mean()
    evidence = logits[:, 1] - logits[:, 0]
    theirs = _SigmoidCalibration().fit(evidence, labels, sample_weight=weights)
    ours = np.exp(Platt.fit(logits, labels, weights=weights).apply(logits))[:, 1]
    np.testing.assert_allclose(ours, theirs.predict(evidence), rtol=0, atol=1e-5)  # their optimiser stops at 1e-6


@pytest.mark.parametrize("n", [40, 1000])
def test_it_is_logistic_regression_on_platts_targets(n: int) -> None:
    logits, labels = rows(n, seed=n)
    targets = platt_targets(labels, np.ones(n))
    evidence = np.tile(logits[:, 1] - logits[:, 0], 2)[:, None]
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(
        evidence, np.repeat([1, 0], n), sample_weight=np.concatenate([targets, 1.0 - targets])
    )
    ours = Platt.fit(logits, labels)
    assert ours.slope == pytest.approx(theirs.coef_[0, 0], abs=1e-6)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-6)


def test_separable_rows_stay_finite() -> None:
    fitted = Platt.fit(np.array([[0.0, -2.0], [0.0, -1.0], [0.0, 1.0], [0.0, 3.0]]), np.array([0, 0, 1, 1]))
    assert 0.1 < fitted.slope < 10.0


def test_rows_of_one_class_only_get_its_smoothed_frequency() -> None:
    fitted = Platt.fit(np.zeros((8, 2)), np.ones(8, dtype=np.intp))
    assert np.exp(fitted.apply(np.zeros((1, 2))))[0, 1] == pytest.approx(0.9, abs=1e-9)


def test_a_model_trained_with_class_weights_is_brought_back(weighted_model) -> None:
    balanced, _, labels = weighted_model(100_000, seed=1)
    fitted = Platt.fit(balanced, labels)
    assert fitted.slope == pytest.approx(1.0, abs=0.03)
    assert fitted.intercept == pytest.approx(np.log(0.1 / 0.9), abs=0.05)
