import numpy as np
import pytest

from service.core.calibration.firth import FirthPlatt
from service.core.losses.values import multilabel_cross_entropy
from service.core.numerics import two_column
from service.training.multilabel import beyond_chance, by_label, calibrated_by_label

ROWS = 4000


def expit(log_odds):
    return 1.0 / (1.0 + np.exp(-log_odds))


def drawn(seed, *, shared):
    """True log-odds of three labels, and labels drawn with one random number per row or with one of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 1))
    log_odds = x * np.array([1.5, -0.5, 1.0]) + np.array([-0.5, 0.2, 0.0])
    return log_odds, (rng.random((ROWS, 1 if shared else 3)) < expit(log_odds)).astype(np.int64)


def test_log_probabilities_by_label_are_the_loss_of_the_sigmoids():
    log_odds, labels = drawn(0, shared=False)
    own = np.take_along_axis(by_label(log_odds), labels[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(-own.sum(axis=1), multilabel_cross_entropy(log_odds, labels), rtol=1e-12)


def test_every_label_has_the_default_calibrator_of_its_own():
    held, labels = drawn(0, shared=False)
    new = drawn(1, shared=False)[0]
    found = calibrated_by_label(2.0 * held, labels, 2.0 * new)
    for m in range(3):
        alone = FirthPlatt.fit(two_column(2.0 * held[:, m]), labels[:, m])
        np.testing.assert_array_equal(found[:, m], alone.apply(two_column(2.0 * new[:, m])))


def test_calibration_recovers_the_truth_of_overconfident_labels_that_depend_on_each_other():
    held, labels = drawn(0, shared=True)
    new = drawn(1, shared=True)[0]
    found = np.exp(calibrated_by_label(3.0 * held, labels, 3.0 * new)[:, :, 1])
    assert np.abs(found - expit(new)).max() < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_marginals_are_right_and_pairs_are_off_where_labels_share_a_draw(seed):
    log_odds, labels = drawn(seed, shared=True)
    true = by_label(log_odds)
    assert beyond_chance(true, labels, size=1) == 0
    assert beyond_chance(true, labels, size=2) == 3


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_independent_labels_are_within_chance(seed):
    log_odds, labels = drawn(seed, shared=False)
    assert beyond_chance(by_label(log_odds), labels, size=2) == 0


def test_a_marginal_that_is_off_is_counted():
    log_odds, labels = drawn(0, shared=False)
    assert beyond_chance(by_label(log_odds + np.array([0.5, 0.0, 0.0])), labels, size=1) == 1
