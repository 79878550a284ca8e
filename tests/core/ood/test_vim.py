import numpy as np
import pytest
import scipy.special

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, log_softmax
from service.core.ood.vim import Vim, last_layer, residual_directions

LABELS = np.zeros(0, dtype=np.intp)


def features(n: int, *, seed: int = 0, rank: int = 4, f: int = 12) -> Array:
    basis = np.random.default_rng(99).normal(size=(rank, f))
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, rank)) @ basis + 0.05 * rng.normal(size=(n, f)) + 2.0


def test_the_last_layer_is_recovered_from_features_and_logits() -> None:
    rng = np.random.default_rng(1)
    points, weights, bias = rng.normal(size=(300, 12)), rng.normal(size=(12, 5)), rng.normal(size=5)
    points -= points.mean(axis=0)
    found, constant = last_layer(points, points @ weights + bias)
    np.testing.assert_allclose(found, weights, rtol=1e-9)
    np.testing.assert_allclose(constant, bias, rtol=1e-9)


def test_it_is_the_papers_formula_on_standardised_features_and_centred_logits() -> None:
    rng = np.random.default_rng(2)
    train, new = features(400), features(50, seed=3) + rng.normal(size=(50, 12))
    head, bias = rng.normal(size=(12, 5)), rng.normal(size=5)
    center, scale = train.mean(axis=0), train.std(axis=0)
    x, y = (train - center) / scale, (new - center) / scale
    w = (head - head.mean(axis=1, keepdims=True)) * scale[:, None]
    b = (center @ head + bias) - (center @ head + bias).mean()
    u = -np.linalg.pinv(w.T, rcond=1e-9) @ b
    values, axes = np.linalg.eigh((x - u).T @ (x - u))
    residual = axes[:, np.argsort(values)[:6]]
    alpha = (x @ w + b).max(axis=1).mean() / np.linalg.norm((x - u) @ residual, axis=1).mean()
    expected = alpha * np.linalg.norm((y - u) @ residual, axis=1) - scipy.special.logsumexp(y @ w + b, axis=1)
    fitted = Vim.fit(train, LABELS, logits=train @ head + bias)
    np.testing.assert_allclose(fitted.score(new), expected, rtol=1e-7, atol=1e-8)


def test_it_ranks_as_the_probability_of_the_virtual_class() -> None:
    train, new = features(400), features(50, seed=3) + np.random.default_rng(4).normal(size=(50, 12))
    fitted = Vim.fit(train, LABELS, logits=train[:, :5])
    points = (new - fitted.center) / fitted.scale
    virtual = np.linalg.norm(points @ fitted.residual - fitted.offset, axis=1)
    joined = np.concatenate([points @ fitted.head + fitted.bias, virtual[:, None]], axis=1)
    np.testing.assert_array_equal(np.argsort(log_softmax(joined)[:, -1]), np.argsort(fitted.score(new)))


def test_log_probabilities_serve_as_well_as_logits_where_they_differ_by_a_constant_of_the_row() -> None:
    train, new = features(400), features(50, seed=3)
    logits = train[:, :5]
    plain, moved = Vim.fit(train, LABELS, logits=logits), Vim.fit(train, LABELS, logits=logits - 40.0)
    np.testing.assert_allclose(moved.score(new), plain.score(new), rtol=1e-7, atol=1e-9)


def test_rows_off_the_training_subspace_stand_out() -> None:
    rng = np.random.default_rng(5)
    train, inside = features(500), features(200, seed=6)
    outside = inside + 0.5 * rng.normal(size=inside.shape)
    fitted = Vim.fit(train, LABELS, logits=train @ rng.normal(size=(12, 5)))
    assert separation_score(fitted.score(inside), fitted.score(outside)) > 0.99


@pytest.mark.parametrize("f", [1, 2, 3, 8])
def test_residual_directions_are_orthonormal_and_the_lower_half(f: int) -> None:
    points = np.random.default_rng(f).normal(size=(50, f)) * np.arange(1, f + 1)
    residual = residual_directions(points)
    assert residual.shape == (f, f - f // 2)
    np.testing.assert_allclose(residual.T @ residual, np.eye(f - f // 2), atol=1e-12)
    assert np.isrealobj(residual)


def test_features_of_low_rank_do_not_blow_rounding_noise_up() -> None:
    train = features(200)[:, :3] @ np.random.default_rng(7).normal(size=(3, 12))
    fitted = Vim.fit(train, LABELS, logits=train[:, :4])
    rounded = train.astype(np.float32).astype(np.float64)
    assert np.abs(fitted.score(rounded) - fitted.score(train)).max() < 0.5
