import numpy as np
import pytest
import sklearn.covariance

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, Indices
from service.core.ood.mahalanobis import Mahalanobis, shrunk_covariance
from service.core.ood.nll import Nll


def clusters(n: int, f: int, *, k: int = 3, seed: int = 0) -> tuple[Array, Indices]:
    """Rows of k classes with unequal units and correlated features."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, size=n)
    mixing = rng.normal(size=(f, f))
    return (3.0 * rng.normal(size=(k, f))[labels] + rng.normal(size=(n, f))) @ mixing * np.logspace(-3, 3, f), labels


@pytest.mark.parametrize(("n", "f"), [(500, 4), (50, 20), (12, 30), (5, 2)])
def test_the_covariance_is_ledoit_and_wolfs(n: int, f: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, f)) @ np.random.default_rng(f).normal(size=(f, f))
    oracle = sklearn.covariance.LedoitWolf(assume_centered=True).fit(rows).covariance_
    np.testing.assert_allclose(shrunk_covariance(rows), oracle, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("n", "f"), [(500, 4), (60, 25)])
def test_the_score_is_the_distance_to_the_nearest_centre(n: int, f: int) -> None:
    rows, labels = clusters(n, f)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    means = np.stack([scaled[labels == k].mean(axis=0) for k in range(3)])
    oracle = sklearn.covariance.LedoitWolf(assume_centered=True).fit(scaled - means[labels])
    precision = np.linalg.inv(oracle.covariance_)
    by_hand = [min((x - m) @ precision @ (x - m) for m in means) for x in scaled]
    np.testing.assert_allclose(Mahalanobis.fit(rows, labels).score(rows), by_hand, rtol=1e-7)


def test_neither_units_nor_origin_of_a_feature_matter() -> None:
    rows, labels = clusters(200, 5)
    unit, origin = np.array([1e-6, 1e6, 3.0, -2.0, 1.0]), np.array([5.0, -1e3, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(
        Mahalanobis.fit(unit * rows + origin, labels).score(unit * rows + origin),
        Mahalanobis.fit(rows, labels).score(rows),
        rtol=1e-5,
    )


def test_names_and_order_of_classes_do_not_matter() -> None:
    rows, labels = clusters(200, 5)
    renamed = Mahalanobis.fit(rows, np.array([7, 2, 40])[labels])
    np.testing.assert_allclose(renamed.score(rows), Mahalanobis.fit(rows, labels).score(rows), rtol=1e-12)
    assert renamed.means.shape == (3, 5)


def test_rows_of_the_training_population_score_about_their_dimension() -> None:
    rng = np.random.default_rng(3)
    score = Mahalanobis.fit(rng.normal(size=(5000, 8)), np.zeros(5000, dtype=np.intp))
    assert score.score(rng.normal(size=(5000, 8))).mean() == pytest.approx(8.0, rel=0.05)


def test_between_two_classes_is_far_from_both() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(400) % 2
    rows = rng.normal(size=(400, 2)) + 20.0 * labels[:, None]
    score = Mahalanobis.fit(rows, labels)
    assert score.score(np.array([[10.0, 10.0]]))[0] > score.score(rows).max()


@pytest.mark.parametrize("value", [0.1, 0.3, 1e-5, 123.456, 1e9 / 7])
def test_a_constant_feature_is_not_scaled_by_rounding_noise(value: float) -> None:
    rows, labels = clusters(97, 3)
    rows = np.concatenate([rows, np.full((97, 1), value)], axis=1)
    score = Mahalanobis.fit(rows, labels)
    moved = rows.copy()
    moved[:, 3] = np.nextafter(value, np.inf)
    np.testing.assert_allclose(score.score(moved), score.score(rows), rtol=1e-6)


def test_a_feature_with_a_large_mean_and_a_small_spread_still_counts() -> None:
    rng = np.random.default_rng(6)
    rows = 1e6 + 1e-3 * rng.normal(size=(200, 1))
    score = Mahalanobis.fit(rows, np.zeros(200, dtype=np.intp))
    assert score.score(np.array([[1e6 + 0.1]]))[0] > 1000.0


def test_far_from_the_data_a_linear_head_is_certain_and_the_distance_is_not() -> None:
    rng = np.random.default_rng(5)
    head, near = rng.normal(size=(16, 10)), rng.normal(size=(1000, 16))
    far = 20.0 * rng.normal(size=(1000, 16))
    fitted = Mahalanobis.fit(rng.normal(size=(1000, 16)), rng.integers(0, 10, size=1000))
    assert separation_score(fitted.score(near), fitted.score(far)) > 0.95
    assert separation_score(Nll().score(near @ head), Nll().score(far @ head)) < 0.1
