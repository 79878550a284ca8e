from itertools import product

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special

from service.core.losses.sequence import PADDING, jensen_shannon, sequence_cross_entropy
from service.core.losses.softmax import cross_entropy
from service.core.numerics import Array, Indices, log_softmax

GOLDEN_BIAS = [  # smoothness, P(class 0) at both positions where the truth is 0.9 and 0.2
    (0.0, 0.9, 0.2),
    (0.5, 0.852, 0.261),
    (1.0, 0.807, 0.311),
    (2.0, 0.743, 0.375),
    (5.0, 0.658, 0.454),
    (50.0, 0.564, 0.537),
]


def drawn(n: int = 4, length: int = 6, k: int = 3) -> tuple[Array, Indices]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, size=(n, length))
    labels[0, 4:], labels[1, 2] = PADDING, PADDING
    return rng.normal(size=(n, length, k)), labels


def test_without_smoothness_it_is_cross_entropy_at_every_position():
    logits, labels = drawn()
    loss, gradient = sequence_cross_entropy(logits, labels, smoothness=0.0)
    for i, t in np.ndindex(labels.shape):
        plain, slope = cross_entropy(logits[i, t][None], np.maximum(labels[i, t], 0)[None])
        present = labels[i, t] != PADDING
        loss[i] -= plain[0] * present
        np.testing.assert_allclose(gradient[i, t], slope[0] * present, rtol=0, atol=1e-15)
    np.testing.assert_allclose(loss, 0.0, atol=1e-12)


def test_what_stands_in_the_padding_is_never_looked_at():
    logits, labels = drawn()
    other = np.where((labels == PADDING)[..., None], -3e38, logits)
    for before, after in zip(
        sequence_cross_entropy(logits, labels, smoothness=2.0),
        sequence_cross_entropy(other, labels, smoothness=2.0),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


def test_a_sequence_padded_at_its_end_is_the_shorter_sequence():
    logits, labels = drawn()
    loss, gradient = sequence_cross_entropy(logits[:1], labels[:1], smoothness=1.5)
    short, slope = sequence_cross_entropy(logits[:1, :4], labels[:1, :4], smoothness=1.5)
    np.testing.assert_allclose(loss, short, rtol=1e-14)
    np.testing.assert_allclose(gradient[:, :4], slope, rtol=1e-14)
    np.testing.assert_array_equal(gradient[:, 4:], 0.0)


def test_a_single_position_has_no_neighbour():
    logits, labels = drawn(length=6)
    loss, _ = sequence_cross_entropy(logits[2:, :1], labels[2:, :1], smoothness=9.0)
    np.testing.assert_allclose(loss, cross_entropy(logits[2:, 0], labels[2:, 0])[0], rtol=1e-14)


@pytest.mark.parametrize(("smoothness", "first", "second"), GOLDEN_BIAS)
def test_smoothness_biases_the_marginals_of_two_positions_as_tabled(smoothness, first, second):
    cases = np.array(list(product((0, 1), repeat=2)))
    chance = np.array([0.9, 0.1])[cases[:, 0]] * np.array([0.2, 0.8])[cases[:, 1]]

    def risk(z: Array) -> tuple[float, Array]:
        logits = np.tile(np.stack([z, np.zeros(2)], axis=1), (4, 1, 1))
        loss, gradient = sequence_cross_entropy(logits, cases, smoothness=smoothness)
        return float(chance @ loss), np.einsum("i,it->t", chance, gradient[:, :, 0])

    found = scipy.optimize.minimize(risk, [0.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(scipy.special.expit(found), [first, second], atol=6e-4)


# ----------------------------------------------------------------------------------------------- the divergence alone


def test_the_divergence_agrees_with_scipys():
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 50))
    expected = scipy.spatial.distance.jensenshannon(p, q, axis=1) ** 2
    np.testing.assert_allclose(jensen_shannon(np.log(p), np.log(q))[0], expected, rtol=1e-10)


def test_two_one_hots_are_log_two_apart_and_a_distribution_is_nowhere_from_itself():
    apart, *_ = jensen_shannon(log_softmax(np.array([[1e4, -1e4, 0.0]])), log_softmax(np.array([[-1e4, 1e4, 0.0]])))
    assert apart[0] == np.log(2.0)
    same = log_softmax(np.random.default_rng(0).normal(size=(20, 4)))
    np.testing.assert_allclose(jensen_shannon(same, same)[0], 0.0, atol=1e-15)


def test_it_is_symmetric_bounded_and_its_root_a_metric():
    p, q, r = (log_softmax(8.0 * z) for z in np.random.default_rng(0).normal(size=(3, 500, 3)))
    ab, ba, bc, ac = (np.sqrt(jensen_shannon(*pair)[0]) for pair in ((p, q), (q, p), (q, r), (p, r)))
    np.testing.assert_allclose(ab, ba, rtol=1e-12)
    assert (ab <= np.sqrt(np.log(2.0)) + 1e-15).all()
    assert (ac <= ab + bc + 1e-12).all()


def test_the_gradient_of_the_divergence_is_its_slope():
    z, w = np.random.default_rng(0).normal(size=(2, 1, 5))
    _, left, right = jensen_shannon(log_softmax(z), log_softmax(w))
    for j in range(5):
        step = 1e-5 * np.eye(5)[j]
        for gradient, pair in ((left, lambda s: (z + s, w)), (right, lambda s: (z, w + s))):
            up, down = (jensen_shannon(*(log_softmax(v) for v in pair(s)))[0] for s in (step, -step))
            np.testing.assert_allclose(gradient[0, j], (up - down)[0] / 2e-5, rtol=0, atol=4e-11)
