import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import sklearn.metrics

from service.core.losses.softmax import (
    cross_entropy,
    distillation,
    focal,
    label_smoothing,
    log_focal_factor,
    log_rest_mass,
    mixup_targets,
    soft_cross_entropy,
    weighted_cross_entropy,
)
from service.core.numerics import Array, Indices, log_softmax

GOLDEN_SMOOTHING = [  # classes, epsilon, entropy of the target, perplexity, gap of the optimal logits
    (10, 0.1, 0.5002880350577578, 1.6491962286255437, 4.51085950651685),
    (1000, 0.1, 1.0148479977486802, 2.758943999803166, 9.105090961257085),
    (2, 0.1, 0.1985152433458725, 1.2195906179141718, 2.9444389791664403),
]


def rows(n: int, k: int, *, seed: int = 0) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    return 3.0 * rng.normal(size=(n, k)), rng.integers(0, k, size=n)


# ---------------------------------------------------------------------------------------------------- cross-entropy


def test_the_mean_of_cross_entropy_is_sklearns_log_loss():
    logits, labels = rows(200, 4)
    expected = sklearn.metrics.log_loss(labels, scipy.special.softmax(logits, axis=1), labels=range(4))
    assert cross_entropy(logits, labels)[0].mean() == pytest.approx(expected, rel=1e-12)


def test_a_certain_row_keeps_the_digits_of_its_gradient():
    loss, gradient = cross_entropy(np.array([[40.0, 0.0, 0.0]]), np.array([0]))
    expected = 2.0 * np.exp(-40.0)
    np.testing.assert_allclose(loss, [expected], rtol=1e-12)
    np.testing.assert_allclose(gradient[0], [-expected, expected / 2.0, expected / 2.0], rtol=1e-12)


def test_equal_weights_are_no_weights():
    logits, labels = rows(50, 3)
    for weighted, plain in zip(
        weighted_cross_entropy(logits, labels, class_weights=np.ones(3)), cross_entropy(logits, labels), strict=True
    ):
        np.testing.assert_array_equal(weighted, plain)


# ------------------------------------------------------------------------------------------------------------ focal


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_the_focal_gradient_is_that_of_cross_entropy_times_phi(gamma):
    logits, labels = rows(300, 5)
    p = scipy.special.softmax(logits, axis=1)[np.arange(300), labels]
    phi = (1.0 - p) ** gamma - gamma * (1.0 - p) ** (gamma - 1.0) * p * np.log(p)
    np.testing.assert_allclose(
        focal(logits, labels, gamma=gamma)[1], phi[:, None] * cross_entropy(logits, labels)[1], rtol=1e-9, atol=1e-14
    )


def test_focal_without_gamma_is_cross_entropy():
    logits, labels = rows(100, 3)
    for mine, plain in zip(focal(logits, labels, gamma=0.0), cross_entropy(logits, labels), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-13)


def test_phi_has_its_limits_at_both_ends():
    rest = np.array([1e-3, 1e-30, 1e-200])
    factor = log_focal_factor(np.log1p(-rest), np.log(rest), gamma=2.0)
    np.testing.assert_allclose(factor - 2.0 * np.log(rest), np.log(3.0), atol=1e-3)
    np.testing.assert_allclose(factor[1:] - 2.0 * np.log(rest[1:]), np.log(3.0), rtol=1e-13)
    assert log_focal_factor(np.array([-1e4, -3e38]), np.zeros(2), gamma=2.0).tolist() == [0.0, 0.0]


def test_phi_is_not_misled_by_a_rounded_logarithm_of_nearly_one():
    rest = 1e-20
    rounded = log_focal_factor(np.array([-2.2e-16]), np.log([rest]), gamma=2.0)  # log p was lost, 1 - p was not
    np.testing.assert_allclose(rounded, 2.0 * np.log(rest) + np.log(3.0), rtol=1e-14)


def test_the_rest_is_summed_and_never_subtracted_from_one():
    logits, labels = np.array([[0.0, -800.0, -801.0], [0.0, -1.0, -2.0]]), np.array([0, 2])
    expected = [-800.0 + np.log1p(np.exp(-1.0)), np.log1p(-scipy.special.softmax(logits[1])[2])]
    np.testing.assert_allclose(log_rest_mass(log_softmax(logits), labels), expected, rtol=1e-14)


# -------------------------------------------------------------------------------------------------- label smoothing


@pytest.mark.parametrize(("k", "epsilon", "entropy", "perplexity", "gap"), GOLDEN_SMOOTHING)
def test_the_least_smoothed_loss_is_the_entropy_of_the_target_at_the_golden_gap(k, epsilon, entropy, perplexity, gap):
    logits = np.zeros((1, k))
    logits[0, 0] = gap
    loss, gradient = label_smoothing(logits, np.array([0]), epsilon=epsilon)
    assert loss[0] == pytest.approx(entropy, rel=1e-12)
    assert np.exp(loss[0]) == pytest.approx(perplexity, rel=1e-12)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-15)
    assert np.log((k * (1.0 - epsilon) + epsilon) / epsilon) == pytest.approx(gap, rel=1e-12)


def test_smoothing_pulls_up_only_classes_below_their_share_of_epsilon():
    p = np.array([[0.9, 0.04, 0.03, 0.03]])  # epsilon / K = 0.0325
    _, gradient = label_smoothing(np.log(p), np.array([0]), epsilon=0.13)
    assert gradient[0, 1] > 0.0  # descent pushes it down
    assert (gradient[0, 2:] < 0.0).all()  # and these up
    np.testing.assert_allclose(gradient[0, 0], p[0, 0] - (1.0 - 0.13 + 0.13 / 4), rtol=1e-12)


def test_no_smoothing_is_cross_entropy():
    logits, labels = rows(100, 3)
    for mine, plain in zip(label_smoothing(logits, labels, epsilon=0.0), cross_entropy(logits, labels), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-12, atol=1e-15)


# ----------------------------------------------------------------------------------------------------- soft targets


def test_a_one_hot_target_is_a_label():
    logits, labels = rows(100, 3)
    for mine, plain in zip(soft_cross_entropy(logits, np.eye(3)[labels]), cross_entropy(logits, labels), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-12, atol=1e-15)


def test_mixup_is_the_mixture_of_both_losses():
    logits, labels = rows(60, 3)
    partners, share = labels[::-1], np.random.default_rng(1).beta(0.4, 0.4, size=60)
    targets = mixup_targets(labels, partners, share, classes=3)
    expected = share * cross_entropy(logits, labels)[0] + (1.0 - share) * cross_entropy(logits, partners)[0]
    np.testing.assert_allclose(soft_cross_entropy(logits, targets)[0], expected, rtol=1e-12)


def test_the_distillation_gradient_tends_to_the_centred_difference_of_logits():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(1, 10)), rng.normal(size=(1, 10))
    limit = ((student - student.mean()) - (teacher - teacher.mean())) / 10
    errors = []
    for tau in (1.0, 4.0, 20.0, 100.0):
        _, gradient = distillation(student, np.array([0]), teacher=teacher, tau=tau, soft_share=1.0)
        errors.append(np.linalg.norm(gradient - limit) / np.linalg.norm(limit))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_without_the_teacher_distillation_is_cross_entropy():
    logits, labels = rows(40, 3)
    teacher = rows(40, 3, seed=1)[0]
    for mine, plain in zip(
        distillation(logits, labels, teacher=teacher, tau=3.0, soft_share=0.0),
        cross_entropy(logits, labels),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, plain)


# ------------------------------------------------------------------------------------------------ population optima


def test_the_balanced_loss_finds_the_posterior_of_the_balanced_population():
    x, density = np.linspace(-9.0, 9.0, 1801), 18.0 / 1800
    joint = np.stack([0.9 * normal(x + 1.0), 0.1 * normal(x - 1.0)], axis=1) * density
    weights = np.array([1.0 / 0.9, 1.0 / 0.1])

    def loss(theta: Array) -> tuple[float, Array]:
        logits = np.stack([np.zeros_like(x), theta[0] * x + theta[1]], axis=1)
        both = [weighted_cross_entropy(logits, np.full(len(x), k), class_weights=weights) for k in (0, 1)]
        value = sum(joint[:, k] @ both[k][0] for k in (0, 1))
        slope = joint[:, 0] * both[0][1][:, 1] + joint[:, 1] * both[1][1][:, 1]
        return float(value), np.array([slope @ x, slope.sum()])

    slope, intercept = scipy.optimize.minimize(loss, [0.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9}).x
    assert slope == pytest.approx(2.0, abs=1e-5)
    assert intercept == pytest.approx(0.0, abs=1e-5)


def test_mixup_flattens_the_slope_of_the_clean_posterior():
    rng = np.random.default_rng(0)
    n = 100_000
    labels = rng.integers(0, 2, size=n)
    x = rng.normal(size=n) + np.where(labels == 1, 1.0, -1.0)
    partner, share = rng.permutation(n), rng.uniform(size=n)
    mixed = share * x + (1.0 - share) * x[partner]
    targets = mixup_targets(labels, labels[partner], share, classes=2)
    slope = fitted_slope(mixed, targets)
    temperature = slope / fitted_slope(x, np.eye(2)[labels])
    assert fitted_slope(x, np.eye(2)[labels]) == pytest.approx(2.0, abs=0.03)
    assert slope == pytest.approx(1.492, abs=0.03)
    assert 0.70 <= temperature <= 0.80


def fitted_slope(x: Array, targets: Array) -> float:
    def loss(slope: Array) -> tuple[float, Array]:
        value, gradient = soft_cross_entropy(np.stack([np.zeros_like(x), slope[0] * x], axis=1), targets)
        return float(value.mean()), np.array([(gradient[:, 1] * x).mean()])

    return float(scipy.optimize.minimize(loss, [1.0], jac=True, method="BFGS").x[0])


def normal(x: Array) -> Array:
    density: Array = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
    return density
