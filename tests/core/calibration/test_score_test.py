"""The test for signal: what passes, and how often it is wrong either way."""

import numpy as np
import pytest
from scipy.stats import norm

from service.core.calibration.score_test import says_something, slope_score
from service.core.numerics import Array, Indices


def scored(n: int, share: float, auroc: float, *, seed: int, shift: float = 0.0) -> tuple[Array, Indices]:
    rng = np.random.default_rng([seed, n])
    labels = (rng.random(n) < share).astype(np.intp)
    evidence = rng.normal(size=n) + np.sqrt(2.0) * norm.ppf(auroc) * labels + shift
    return np.stack([np.zeros(n), evidence], axis=1), labels


def accepted(n: int, share: float, auroc: float, *, shuffled: bool = False, turned: bool = False) -> float:
    """Share of 300 samples that pass."""
    passed = 0
    for seed in range(300):
        logits, labels = scored(n, share, auroc, seed=seed)
        labels = np.random.default_rng(seed).permutation(labels) if shuffled else labels
        passed += says_something(logits, 1 - labels if turned else labels, units=n)
    return passed / 300


@pytest.mark.parametrize(("n", "share"), [(100, 0.5), (300, 0.1), (1000, 0.5), (1000, 0.05)])
def test_shuffled_labels_pass_one_time_in_a_hundred(n: int, share: float) -> None:
    assert accepted(n, share, 0.8, shuffled=True) <= 0.03


@pytest.mark.parametrize(("n", "most"), [(30, 0.4), (50, 0.2)])
def test_few_rows_let_more_chance_pass(n: int, most: float) -> None:
    assert accepted(n, 0.5, 0.8, shuffled=True) <= most


@pytest.mark.parametrize(("n", "share"), [(30, 0.5), (100, 0.5), (300, 0.1), (1000, 0.05)])
def test_classes_in_another_order_never_pass(n: int, share: float) -> None:
    assert accepted(n, share, 0.8, turned=True) == 0.0


@pytest.mark.parametrize(("n", "share"), [(30, 0.5), (50, 0.5), (100, 0.5), (300, 0.1), (1000, 0.05)])
def test_a_useful_model_passes(n: int, share: float) -> None:
    assert accepted(n, share, 0.7) >= 0.85
    assert accepted(n, share, 0.8) >= 0.98


def test_no_constant_in_a_class_logit_moves_the_score() -> None:
    logits, labels = scored(200, 0.3, 0.9, seed=0)
    shifted = logits + np.array([5.0, -40.0])
    assert slope_score(shifted, labels) == pytest.approx(slope_score(logits, labels), rel=1e-9)


def test_weights_and_groups_count_as_rows_do() -> None:
    logits, labels = scored(60, 0.4, 0.8, seed=1)
    w = np.random.default_rng(0).integers(1, 4, 60)
    rows = np.repeat(np.arange(60), w)
    weighted = slope_score(logits, labels, weights=w.astype(np.float64))
    assert slope_score(logits[rows], labels[rows], groups=rows) == pytest.approx(weighted, rel=1e-9)
    assert slope_score(logits, labels, groups=np.arange(60)) == pytest.approx(slope_score(logits, labels), rel=1e-9)
