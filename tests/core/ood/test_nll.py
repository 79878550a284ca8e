import numpy as np
import pytest
import scipy.optimize

from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, log_softmax
from service.core.ood.nll import Nll

INSIDE, OUTSIDE = np.array([[3.0, 0.0, 0.0]]), np.array([[4.0, 2.0, -6.0]])


def nll(logits: Array) -> Array:
    return Nll().score(logits)


def test_it_is_the_surprise_of_the_predicted_class() -> None:
    z = np.random.default_rng(0).normal(size=(100, 5))
    np.testing.assert_allclose(nll(z), -log_softmax(z).max(axis=1), rtol=1e-14)


def test_log_probabilities_serve_as_well_as_logits() -> None:
    z = np.random.default_rng(1).normal(size=(100, 5))
    np.testing.assert_allclose(nll(log_softmax(z)), nll(z), rtol=1e-12)


def test_it_lies_between_nothing_and_the_logarithm_of_the_classes() -> None:
    assert nll(np.array([[800.0, 0.0, 0.0]]))[0] == 0.0
    assert nll(np.zeros((1, 7)))[0] == pytest.approx(np.log(7.0), rel=1e-14)


def test_very_confident_rows_still_differ() -> None:
    scores = nll(np.stack([np.linspace(18.0, 300.0, 50), np.zeros(50)], axis=1))
    assert (np.diff(scores) < 0.0).all()


def test_for_two_classes_no_temperature_changes_the_separation() -> None:
    rng = np.random.default_rng(2)
    inside, outside = 3.0 * rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    at_one = separation_score(nll(inside), nll(outside))
    for t in (0.5, 2.0, 10.0, 100.0):
        assert separation_score(nll(inside / t), nll(outside / t)) == at_one


def test_for_three_classes_a_temperature_can_turn_the_ranking_over() -> None:
    def gap(t: float) -> float:
        return float((nll(OUTSIDE / t) - nll(INSIDE / t))[0])

    assert separation_score(nll(INSIDE), nll(OUTSIDE)) == 1.0
    assert separation_score(nll(INSIDE / 10.0), nll(OUTSIDE / 10.0)) == 0.0
    assert scipy.optimize.brentq(gap, 1.0, 10.0, xtol=1e-14) == pytest.approx(1.451123577642513, rel=1e-10)


@pytest.mark.parametrize(
    ("t", "gap"),
    [(0.5, 0.1526), (1, 0.7962), (2, 1.4023), (3, 1.4480), (5, 1.1540), (10, 0.6633), (100, 0.0716), (1000, 0.0072)],
)
def test_a_bigger_gap_is_not_a_better_detector(t: float, gap: float) -> None:
    inside, outside = np.zeros((1, 10)), np.zeros((1, 10))
    inside[0, 0], outside[0, 0] = 10.0, 2.0
    assert (nll(outside / t) - nll(inside / t))[0] == pytest.approx(gap, abs=6e-5)
    assert separation_score(nll(inside / t), nll(outside / t)) == 1.0
