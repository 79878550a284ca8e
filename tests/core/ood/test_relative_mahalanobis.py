import numpy as np
import pytest
import sklearn.covariance

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, Indices
from service.core.ood.mahalanobis import Mahalanobis, shrunk_covariance
from service.core.ood.relative_mahalanobis import RelativeMahalanobis


def clusters(n: int, f: int, *, k: int = 3, seed: int = 0) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, size=n)
    return (3.0 * rng.normal(size=(k, f))[labels] + rng.normal(size=(n, f))) @ rng.normal(size=(f, f)), labels


@pytest.mark.parametrize(("n", "f"), [(500, 4), (60, 25)])
def test_it_is_the_distance_to_the_nearest_class_less_that_to_all(n: int, f: int) -> None:
    rows, labels = clusters(n, f)
    x = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    means = np.stack([x[labels == k].mean(axis=0) for k in range(3)])
    within = shrunk_covariance(x - means[labels])
    overall = within + np.cov(means[labels].T, bias=True)
    p, p0 = np.linalg.inv(within), np.linalg.inv(overall)
    by_hand = [min((row - m) @ p @ (row - m) for m in means) - row @ p0 @ row for row in x]
    np.testing.assert_allclose(RelativeMahalanobis.fit(rows, labels).score(rows), by_hand, rtol=1e-6, atol=1e-8)


def test_with_many_rows_the_covariances_are_the_empirical_ones() -> None:
    rows, labels = clusters(40_000, 3)
    means = np.stack([rows[labels == k].mean(axis=0) for k in range(3)])
    within = sklearn.covariance.EmpiricalCovariance(assume_centered=True).fit(rows - means[labels])
    overall = sklearn.covariance.EmpiricalCovariance().fit(rows)
    nearest = np.min([within.mahalanobis(rows - m) for m in means], axis=0)
    expected = nearest - overall.mahalanobis(rows)
    np.testing.assert_allclose(RelativeMahalanobis.fit(rows, labels).score(rows), expected, rtol=0.01, atol=0.01)


def test_what_all_classes_share_does_not_count() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(4000) % 2
    rows = rng.normal(size=(4000, 2))
    rows[:, 0] += 8.0 * labels
    between, aside = np.array([[4.0, 0.0]]), np.array([[0.0, 9.0]])
    plain, relative = Mahalanobis.fit(rows, labels), RelativeMahalanobis.fit(rows, labels)
    assert plain.score(aside)[0] > plain.score(between)[0]
    assert relative.score(aside)[0] < relative.score(rows).max() < relative.score(between)[0]


def test_near_rows_hidden_in_noisy_features_are_heard_better_than_by_the_plain_distance() -> None:
    rng = np.random.default_rng(2)
    centres = 6.0 * np.eye(4)
    labels = rng.integers(0, 4, size=4000)

    def measured(places: Array) -> Array:
        return np.concatenate([places + rng.normal(size=places.shape), rng.normal(size=(len(places), 60))], axis=1)

    inside, outside = measured(centres[labels[:500]]), measured(np.full((500, 4), 1.5))
    rows = measured(centres[labels])
    plain, relative = Mahalanobis.fit(rows, labels), RelativeMahalanobis.fit(rows, labels)
    heard = separation_score(relative.score(inside), relative.score(outside))
    assert heard > separation_score(plain.score(inside), plain.score(outside)) + 0.02


def test_far_away_it_never_falls() -> None:
    rows, labels = clusters(30, 10)
    fitted = RelativeMahalanobis.fit(rows, labels)
    directions = np.random.default_rng(3).normal(size=(200, 10))
    assert (fitted.score(1e4 * directions) > fitted.score(1e2 * directions)).all()


def test_one_class_alone_scores_nothing() -> None:
    rows, _ = clusters(50, 3)
    np.testing.assert_allclose(RelativeMahalanobis.fit(rows, np.zeros(50, dtype=np.intp)).score(rows), 0.0, atol=1e-9)
