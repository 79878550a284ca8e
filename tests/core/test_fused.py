import numpy as np
import pytest
from scipy.special import log_softmax

from service.core.calibration.temperature import Temperature
from service.core.costs import class_ranges
from service.core.decision import TIE_TOLERANCE, Decisions, decide
from service.core.fused import SHORT_ROWS, softmax
from service.core.numerics import MANY_CLASSES, Array, width
from service.core.ood.nll import Nll

SHAPES = [
    (1, 2),
    (1, SHORT_ROWS),
    (1, SHORT_ROWS + 1),
    (7, 2),
    (300, 10),
    (20_000, 5),
    (90, SHORT_ROWS + 1),
    (70, 100),
]
T = 1.7


def logits_of(n: int, k: int, *, seed: int = 0) -> Array:
    """Rows from flat to certain, some of them with several largest logits."""
    rng = np.random.default_rng(seed)
    logits: Array = rng.normal(size=(n, k)) * rng.choice([0.0, 1.0, 8.0, 300.0], size=(n, 1))
    logits[::3, 0] = logits[::3].max(axis=1)
    return logits


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_the_sweep_is_the_plain_formulas(n: int, k: int) -> None:
    logits = logits_of(n, k)
    found, plain = softmax(logits, temperature=T), Temperature(T).apply(logits)
    np.testing.assert_array_equal(found.top, logits.max(axis=1))
    np.testing.assert_allclose(found.nll, Nll().score(logits), rtol=1e-13)
    np.testing.assert_allclose(found.log_probs, plain, rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(found.probabilities, np.exp(plain), rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (2, 3), (2, SHORT_ROWS + 1)])
def test_what_a_certain_row_leaves_to_others_is_not_lost_beside_one(n: int, k: int) -> None:
    logits = np.zeros((n, k))
    logits[:, 1] = 40.0
    found = softmax(logits, temperature=1.0)
    np.testing.assert_allclose(found.nll, (k - 1) * np.exp(-40.0), rtol=1e-13)
    np.testing.assert_allclose(-found.log_probs[:, 1], (k - 1) * np.exp(-40.0), rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("k", [2, SHORT_ROWS, SHORT_ROWS + 1])
def test_of_classes_that_share_the_largest_logit_all_but_one_are_the_rest(n: int, k: int) -> None:
    found = softmax(np.full((n, k), 7.0), temperature=T)
    np.testing.assert_allclose(found.nll, np.log(k), rtol=1e-13)
    np.testing.assert_allclose(found.probabilities, 1.0 / k, rtol=1e-13)


@pytest.mark.parametrize("n", [1, 300])
def test_rows_are_left_as_they_came(n: int) -> None:
    logits = logits_of(n, 10)
    before = logits.copy()
    softmax(logits, temperature=T)
    np.testing.assert_array_equal(logits, before)


# ------------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize(("n", "k"), [(1, 10), (256, 10), (256, 1000), (4096, 1000)])
def test_float32_logits_are_answered_as_scipy_answers_them_in_float64(n: int, k: int) -> None:
    rng = np.random.default_rng(n + k)
    spread = rng.choice([0.5, 2.0, 6.0], size=(n, 1))
    logits: Array = (rng.normal(size=(n, k)) * spread).astype(np.dtype("f4"))
    cost = rng.random((10, k))
    found, exact = softmax(logits.astype(width(k)), temperature=T), logits.astype(np.float64)
    nll, log_probs = -log_softmax(exact, axis=1).max(axis=1), log_softmax(exact / T, axis=1)
    resolved = nll > 1e-6
    np.testing.assert_allclose(found.probabilities, np.exp(log_probs), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.nll[resolved], nll[resolved], rtol=1e-6)
    risks = np.exp(log_probs) @ cost.T
    two = np.sort(risks, axis=1)[:, :2]
    clear = two[:, 1] - two[:, 0] > 2.0 * TIE_TOLERANCE * class_ranges(cost).max(axis=-1)
    assert clear.mean() > 0.9
    taken = decide(found.log_probs, cost, probabilities=found.probabilities)
    np.testing.assert_array_equal(taken.action[clear], risks.argmin(axis=1)[clear])


# ------------------------------------------------------------------------------------------------------- float32


def decided(logits: Array, cost: Array) -> Decisions:
    found = softmax(logits, temperature=T)
    return decide(found.log_probs, cost, probabilities=found.probabilities)


@pytest.fixture(scope="module")
def many() -> Array:
    """Logits of 1000 classes as a graph answers them, from flat rows to certain ones."""
    rng = np.random.default_rng(5)
    scale = rng.choice([0.5, 2.0, 6.0], size=(2000, 1))
    logits: Array = (rng.normal(size=(2000, 1000)) * scale).astype(width(1000))
    return logits


def test_many_classes_are_computed_in_float32_whatever_the_rows(many: Array) -> None:
    assert [width(MANY_CLASSES).name, width(MANY_CLASSES + 1).name] == ["float64", "float32"]
    for rows in (many[:1], many):
        found = softmax(rows, temperature=T)
        assert {found.nll.dtype.name, found.log_probs.dtype.name, found.probabilities.dtype.name} == {"float32"}


def test_float32_keeps_probabilities_to_a_millionth_and_nll_to_a_millionth_of_itself(many: Array) -> None:
    single, double = softmax(many, temperature=T), softmax(many.astype(np.float64), temperature=T)
    assert np.abs(single.probabilities - double.probabilities).max() < 1e-6
    resolved = double.nll > 1e-6
    assert (np.abs(single.nll - double.nll) / double.nll)[resolved].max() < 1e-6


@pytest.mark.parametrize("shared", [0.0, 1e6])
def test_float32_decides_as_float64_does_outside_the_tie_band(many: Array, shared: float) -> None:
    cost = np.random.default_rng(6).random((10, 1000)) * 100.0 + shared
    scale = class_ranges(cost).max(axis=-1)
    single, double = decided(many, cost), decided(many.astype(np.float64), cost)
    clear = double.margin > 2.0 * TIE_TOLERANCE * scale
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(single.action[clear], double.action[clear])
    np.testing.assert_allclose(single.risks, double.risks, rtol=3e-6)


def test_one_row_of_many_classes_gets_the_action_it_gets_in_a_batch(many: Array) -> None:
    cost = np.random.default_rng(7).random((10, 1000))
    batch = decided(many[:200], cost)
    alone = [decided(row[None], cost) for row in many[:200]]
    clear = batch.margin > 2.0 * TIE_TOLERANCE * class_ranges(cost).max(axis=-1)
    np.testing.assert_array_equal(np.concatenate([one.action for one in alone])[clear], batch.action[clear])
