import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.numerics import Array, log_softmax
from service.core.ood.nll import Nll
from service.core.ood.probabilities import CentredMax, Entropy, Gen, Margin

logits = arrays(np.float64, (6, 5), elements=st.floats(-30.0, 30.0))


def rows(k: int, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(300, k)) * 2.0


@given(logits)
def test_entropy_is_scipys(z: Array) -> None:
    oracle = scipy.stats.entropy(np.exp(log_softmax(z)), axis=1)
    np.testing.assert_allclose(Entropy().score(z), oracle, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("k", [2, 7, 1000])
def test_entropy_of_equal_chances_is_the_logarithm_of_their_number(k: int) -> None:
    assert Entropy().score(np.zeros((1, k)))[0] == pytest.approx(np.log(k), rel=1e-13)


def test_entropy_still_tells_very_confident_rows_apart() -> None:
    scores = Entropy().score(np.stack([np.linspace(18.0, 300.0, 50), np.zeros(50)], axis=1))
    assert (np.diff(scores) < 0.0).all()


@pytest.mark.parametrize("k", [2, 5, 100, 250])
def test_gen_is_its_formula_over_the_hundred_likeliest(k: int) -> None:
    p = np.sort(np.exp(log_softmax(rows(k))), axis=1)[:, -100:]
    np.testing.assert_allclose(Gen().score(rows(k)), ((p * (1.0 - p)) ** 0.1).sum(axis=1), rtol=1e-10)


def test_gen_still_tells_very_confident_rows_apart() -> None:
    scores = Gen().score(np.stack([np.linspace(18.0, 300.0, 50), np.zeros(50), np.zeros(50)], axis=1))
    assert (np.diff(scores) < 0.0).all()


def test_margin_is_the_gap_of_the_two_largest() -> None:
    z = rows(6)
    ordered = np.sort(z, axis=1)
    np.testing.assert_array_equal(Margin().score(z), ordered[:, -2] - ordered[:, -1])
    assert Margin().score(np.array([[4.0, 4.0, 1.0]]))[0] == 0.0


def test_as_temperature_falls_nll_ranks_as_the_margin() -> None:
    z, t = rows(5), 0.02
    np.testing.assert_allclose(t * np.log(Nll().score(z / t)), Margin().score(z), rtol=0, atol=t * np.log(4.0))


def test_as_temperature_grows_nll_ranks_as_the_centred_maximum() -> None:
    z = rows(5)
    np.testing.assert_array_equal(np.argsort(Nll().score(z / 1e6)), np.argsort(CentredMax().score(z)))
    expansion = np.log(5.0) + CentredMax().score(z) / 1e3
    np.testing.assert_allclose(Nll().score(z / 1e3), expansion, rtol=0, atol=1e-5)
