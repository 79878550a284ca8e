import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.calibration.bcts import Bcts
from service.core.calibration.beta import Beta
from service.core.calibration.histogram import Histogram
from service.core.calibration.isotonic import Isotonic
from service.core.calibration.matrix import Matrix
from service.core.calibration.platt import Platt
from service.core.calibration.temperature import Temperature
from service.core.calibration.vector import Vector
from service.core.conformal import Reference, p_values
from service.core.inverse import ClassWeights, Focal, LabelSmoothing, PositiveWeight, SigmoidFocal
from service.core.label_sets import Conformity
from service.core.ood.kl_matching import KlMatching
from service.core.ood.knn import Knn
from service.core.ood.mahalanobis import Mahalanobis
from service.core.ood.nll import Nll
from service.core.ood.relative_mahalanobis import RelativeMahalanobis
from service.core.ood.vim import Vim
from service.core.smoothing import Transitions
from service.core.state_checks import (
    check_array,
    check_ascending,
    check_counts,
    check_number,
    check_positive,
    check_shares,
    edges_of,
)

TWO, EYE, NAN, INF = np.ones(2), np.eye(2), float("nan"), float("inf")
RANKS = np.arange(1, 3)
BANK = np.ones((4, 2), dtype=np.float32)

REFUSED = {
    "no temperature": lambda: Temperature(0.0),
    "an infinite temperature": lambda: Temperature(INF),
    "a temperature below zero beside biases": lambda: Bcts(-1.0, TWO),
    "biases that are no row": lambda: Bcts(1.0, EYE),
    "a slope of another length": lambda: Vector(np.ones(3), TWO),
    "a matrix of another size": lambda: Matrix(np.ones((2, 3)), TWO),
    "a slope that is no number": lambda: Platt(NAN, 0.0),
    "an infinite end": lambda: Beta(1.0, INF, 0.0),
    "knots that fall": lambda: Isotonic(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), 0.1),
    "a share above one": lambda: Isotonic(np.array([[0.0, 1.0]]), np.array([[0.0, 2.0]]), 0.1),
    "a blend of one": lambda: Isotonic(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), 1.0),
    "as many bins as edges": lambda: Histogram(np.zeros((2, 1)), np.zeros((2, 1)), 0.1),
    "a weight of zero": lambda: ClassWeights((1.0, 0.0)),
    "a negative weight of present": lambda: PositiveWeight(-1.0),
    "a negative gamma": lambda: Focal(-1.0),
    "an alpha of zero": lambda: Focal(1.0, (0.0, 1.0)),
    "an alpha of one": lambda: SigmoidFocal(1.0, 1.0),
    "smoothing of one": lambda: LabelSmoothing(1.0),
    "a floor of one half": lambda: LabelSmoothing(0.1, 0.5),
    "whitening of zeros": lambda: Mahalanobis(TWO, np.zeros((2, 2)), EYE),
    "means of another width": lambda: Mahalanobis(TWO, EYE, np.ones((2, 3))),
    "no means": lambda: Mahalanobis(TWO, EYE, np.ones((0, 2))),
    "an infinite centre": lambda: Mahalanobis(np.full(2, INF), EYE, EYE),
    "precision above one": lambda: RelativeMahalanobis(TWO, EYE, EYE, np.full(2, 2.0)),
    "precision of zero": lambda: RelativeMahalanobis(TWO, EYE, EYE, np.zeros(2)),
    "no neighbour": lambda: Knn(TWO, TWO, BANK, np.array(0)),
    "more neighbours than rows": lambda: Knn(TWO, TWO, BANK, np.array(5)),
    "half a neighbour": lambda: Knn(TWO, TWO, BANK, np.array(1.5)),
    "a scale of zero": lambda: Knn(TWO, np.zeros(2), BANK, np.array(1)),
    "a bank of text": lambda: Knn(TWO, TWO, BANK.astype(str), np.array(1)),
    "a head of another width": lambda: Vim(TWO, TWO, np.ones((3, 2)), TWO, np.ones((2, 1)), np.ones(1)),
    "an offset of another length": lambda: Vim(TWO, TWO, EYE, TWO, np.ones((2, 1)), TWO),
    "templates above one": lambda: KlMatching(np.ones((2, 2))),
    "no template": lambda: KlMatching(np.ones((0, 2))),
    "no tempering": lambda: Nll(np.array(0.0)),
    "two temperings": lambda: Nll(TWO),
    "fewer rows than scores": lambda: Reference(np.arange(2.0), RANKS, 1, np.arange(2.0)),
    "no rows": lambda: Reference(np.arange(2.0), RANKS, 0, np.arange(2.0)),
    "scores that fall": lambda: Reference(np.array([1.0, 0.0]), RANKS, 2, TWO),
    "ranks that repeat": lambda: Reference(np.arange(2.0), np.ones(2, np.intp), 9, np.arange(2.0)),
    "a rank beyond the rows": lambda: Reference(np.arange(2.0), np.array([1, 4]), 3, np.arange(2.0)),
    "caps below the scores": lambda: Reference(np.arange(2.0), RANKS, 2, np.arange(2.0) - 1.0),
    "a score that is no number": lambda: Reference(np.array([0.0, NAN]), RANKS, 2, TWO),
    "a rank of zero": lambda: Conformity(np.arange(2.0), np.arange(2.0), 2, np.arange(2.0), TWO),
    "a negative reach": lambda: Conformity(np.arange(2.0), TWO, 2, np.arange(2.0), -TWO),
    "a chain that sums to two": lambda: Transitions(TWO, 0.5 * np.ones((2, 2))),
    "a step that sums to two": lambda: Transitions(0.5 * TWO, np.ones((2, 2))),
    "a chain of other classes": lambda: Transitions(0.5 * TWO, np.full((3, 3), 1 / 3)),
    "an impossible step": lambda: Transitions(0.5 * TWO, EYE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_fitted_part_refuses_what_its_arithmetic_cannot_take(case: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+ must ") as refusal:
        REFUSED[case]()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "values", [["a"], [1j], [None], np.array([object()])], ids=["text", "complex", "none", "object"]
)
def test_what_holds_no_numbers_is_refused_by_name(values: object) -> None:
    with pytest.raises(ValueError, match=r"^means must hold numbers$"):
        check_array("means", values, None)


def test_bounds_are_open_and_the_least_is_included() -> None:
    check_number("t", 0.0, least=0.0, below=1.0)
    for value in (-1e-9, 1.0, NAN, INF):
        with pytest.raises(ValueError, match=r"^t must"):
            check_number("t", value, least=0.0, below=1.0)
    with pytest.raises(ValueError, match=r"^t must be greater than 0"):
        check_number("t", 0.0, above=0.0)


def test_ties_ascend_and_zeros_are_not_positive() -> None:
    np.testing.assert_array_equal(check_ascending("x", [1.0, 1.0], None), [1.0, 1.0])
    with pytest.raises(ValueError, match=r"^x must be greater than 0"):
        check_positive("x", [1.0, 0.0], None)


def test_shares_sum_to_one_to_within_the_digits_of_a_file() -> None:
    check_shares("x", [0.3333333, 0.6666667], None)
    with pytest.raises(ValueError, match=r"^x must sum to 1, not 0.9"):
        check_shares("x", [0.3, 0.6], None)
    with pytest.raises(ValueError, match=r"^x must sum to 1, not 1.5"):
        check_shares("x", [[0.5, 0.5], [0.5, 1.0]], 2, 2)


@pytest.mark.parametrize("stored", [[2, 1], [1, 1, 1], [4, -1], [1.5, 1.5], [2**60, 2**60]])
def test_counts_that_do_not_split_the_numbers_are_refused(stored: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^stored must hold"):
        edges_of("stored", stored, groups=2, total=4)


def test_counts_are_whole_numbers_that_a_double_can_tell_apart() -> None:
    assert check_counts("n", [0, 3.0]).tolist() == [0, 3]
    for values in ([-1], [0.5], [2.0**60]):
        with pytest.raises(ValueError, match=r"^n must hold whole numbers from 0"):
            check_counts("n", values)


@given(
    st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=8),
    st.lists(st.integers(-3, 12), min_size=1, max_size=8),
    st.integers(-3, 12),
)
def test_whatever_reference_is_accepted_has_p_values_above_zero_and_up_to_one(
    scores: list[float], ranks: list[int], n: int
) -> None:
    ordered = np.sort(np.array(scores))
    try:
        found = Reference(ordered, np.array(ranks), n, ordered)
    except ValueError:
        return
    p = p_values(found, np.linspace(-11.0, 11.0, 45))
    assert ((p > 0.0) & (p <= 1.0)).all()
