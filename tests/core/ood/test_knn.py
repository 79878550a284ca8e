import numpy as np
import pytest
import sklearn.neighbors

from service.core.numerics import Array, Indices
from service.core.ood import knn
from service.core.ood.knn import Knn, directions


def rows(n: int, f: int, *, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, f)) @ rng.normal(size=(f, f)) * np.logspace(-2, 2, f) + 5.0


def unlabelled(n: int) -> Indices:
    return np.zeros(n, dtype=np.intp)


@pytest.mark.parametrize(("n", "f", "k"), [(2000, 8, 50), (500, 3, 50), (120, 20, 12), (9, 4, 1)])
def test_it_is_the_distance_to_scikit_learns_kth_neighbour(n: int, f: int, k: int) -> None:
    train, new = rows(n, f), rows(300, f, seed=1)
    center, scale = train.mean(axis=0), train.std(axis=0)
    fitted = Knn.fit(train, unlabelled(n))
    oracle = sklearn.neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute")
    oracle.fit(directions((train - center) / scale).astype(np.float32).astype(np.float64))
    distances, _ = oracle.kneighbors(directions((new - center) / scale))
    assert fitted.k == k
    np.testing.assert_allclose(fitted.score(new), distances[:, -1], rtol=1e-6)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    train, new = rows(400, 5), rows(50, 5, seed=1)
    fitted = Knn.fit(train, unlabelled(400))
    whole = fitted.score(new)
    monkeypatch.setattr(knn, "_CHUNK", 1200)
    np.testing.assert_allclose(fitted.score(new), whole, rtol=1e-12)


def test_the_bank_is_capped_and_drawn_from_all_rows() -> None:
    cap = knn.BANK_BYTES // (4 * 1024)
    train = np.zeros((cap + 500, 1024))
    train[:, 0] = np.arange(cap + 500)
    bank = Knn.fit(train, unlabelled(cap + 500)).bank
    assert bank.nbytes <= knn.BANK_BYTES
    assert len(bank) == cap
    assert 0.45 < (bank[:, 0] > 0.0).mean() < 0.55


def test_alternating_rows_of_two_classes_both_get_into_a_capped_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "BANK_BYTES", 4 * 2 * 100)
    train = np.tile([[1.0, 0.0], [-1.0, 0.0]], (100, 1))
    bank = Knn.fit(train, unlabelled(200)).bank
    assert len(bank) == 100
    assert 0.3 < (bank[:, 0] > 0.0).mean() < 0.7


def test_a_capped_bank_is_drawn_alike_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "BANK_BYTES", 4 * 3 * 50)
    one, other = (Knn.fit(rows(200, 3), unlabelled(200)).bank for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_only_direction_counts() -> None:
    train = rows(200, 4)
    fitted = Knn.fit(train, unlabelled(200))
    out = fitted.center + np.array([[1.0, -2.0, 0.5, 1.0]]) * fitted.scale
    np.testing.assert_allclose(fitted.score(fitted.center + 100.0 * (out - fitted.center)), fitted.score(out))


def test_small_distances_keep_their_digits() -> None:
    train = np.concatenate([np.eye(3), -np.eye(3)])
    fitted = Knn.fit(train, unlabelled(6))
    near = fitted.center + fitted.scale * np.array([[1.0, 1e-9, 0.0]])
    assert fitted.score(near)[0] == pytest.approx(1e-9, rel=1e-6)


def test_no_rows_have_no_distances() -> None:
    assert Knn.fit(rows(20, 3), unlabelled(20)).score(np.empty((0, 3))).shape == (0,)
