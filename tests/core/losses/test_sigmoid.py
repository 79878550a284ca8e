import numpy as np
import pytest
import scipy.optimize
import scipy.special

from service.core.losses.sigmoid import binary_cross_entropy, multilabel_cross_entropy, sigmoid_focal
from service.core.losses.softmax import cross_entropy, focal
from service.core.numerics import Array, Indices, two_column


def rows(n: int = 200) -> tuple[Array, Indices]:
    rng = np.random.default_rng(0)
    return 4.0 * rng.normal(size=n), rng.integers(0, 2, size=n)


def test_one_logit_is_the_two_columns_it_stands_for():
    z, labels = rows()
    loss, gradient = binary_cross_entropy(z, labels)
    wide, slope = cross_entropy(two_column(z), labels)
    np.testing.assert_allclose(loss, wide, rtol=1e-13)
    np.testing.assert_allclose(gradient, slope[:, 1], rtol=1e-12)


def test_the_stable_formula_of_the_textbook_gives_the_same():
    z, labels = rows()
    expected = np.maximum(z, 0.0) - z * labels + np.log1p(np.exp(-np.abs(z)))
    np.testing.assert_allclose(binary_cross_entropy(z, labels)[0], expected, rtol=1e-12, atol=1e-15)


def test_labels_are_summed_and_do_not_see_each_other():
    z, labels = rows()
    z, labels = z.reshape(-1, 4), labels.reshape(-1, 4)
    loss, gradient = multilabel_cross_entropy(z, labels)
    columns = [binary_cross_entropy(z[:, j], labels[:, j]) for j in range(4)]
    np.testing.assert_allclose(loss, sum(column[0] for column in columns), rtol=1e-13)
    np.testing.assert_array_equal(gradient, np.stack([column[1] for column in columns], axis=1))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_sigmoid_focal_is_the_two_class_focal_loss(gamma):
    z, labels = rows()
    loss, gradient = sigmoid_focal(z[:, None], labels[:, None], gamma=gamma, alpha=0.25)
    wide, slope = focal(two_column(z), labels, gamma=gamma, alpha=np.array([0.75, 0.25]))
    np.testing.assert_allclose(loss, wide, rtol=1e-11)
    np.testing.assert_allclose(gradient[:, 0], slope[:, 1], rtol=1e-11)


def test_a_weight_on_the_positive_class_moves_the_optimum_by_the_formula():
    eta, beta = 0.3, 5.0

    def risk(z: float) -> float:
        both = binary_cross_entropy(np.array([z, z]), np.array([0, 1]), positive_weight=beta)[0]
        return float((1.0 - eta) * both[0] + eta * both[1])

    found = scipy.optimize.minimize_scalar(risk, bounds=(-9.0, 9.0), method="bounded", options={"xatol": 1e-10}).x
    assert scipy.special.expit(found) == pytest.approx(beta * eta / (beta * eta + 1.0 - eta), abs=1e-7)


def test_a_perfectly_correlated_fair_pair_pays_its_total_correlation():
    pair = np.array([[0, 0], [1, 1]])
    loss, gradient = multilabel_cross_entropy(np.zeros((2, 2)), pair)
    np.testing.assert_array_equal(gradient.mean(axis=0), 0.0)  # the optimum
    assert loss.mean() - np.log(2.0) == pytest.approx(np.log(2.0), rel=1e-15)


def test_marginals_are_right_under_dependence_and_their_product_is_not_the_joint():
    rng, n = np.random.default_rng(0), 200_000
    x, u = rng.normal(size=n), rng.random(n)
    p = scipy.special.expit(np.stack([1.5 * x - 0.5, -0.5 * x + 0.2], axis=1))
    labels = (u[:, None] < p).astype(np.intp)
    train, test = slice(0, n // 2), slice(n // 2, n)
    design = np.stack([x, np.ones(n)], axis=1)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = multilabel_cross_entropy(design[train] @ theta.reshape(2, 2), labels[train])
        return float(value.mean()), (design[train].T @ gradient / len(value)).ravel()

    theta = scipy.optimize.minimize(loss, np.zeros(4), jac=True, method="BFGS").x.reshape(2, 2)
    q = scipy.special.expit(design[test] @ theta)
    share = p[test].mean(axis=0)
    np.testing.assert_allclose(theta, [[1.5, -0.5], [-0.5, 0.2]], atol=0.03)
    assert np.abs(q.mean(axis=0) - p[test].mean(axis=0)).max() < 0.005
    assert np.abs(q - p[test]).max() < 0.01
    noise = 4.0 * np.sqrt(share * (1.0 - share) / len(q))
    assert (np.abs((q - labels[test]).mean(axis=0)) < noise).all()
    assert abs(labels[test].prod(axis=1).mean() - q.prod(axis=1).mean()) > 0.1
