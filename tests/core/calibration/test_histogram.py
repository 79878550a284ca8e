import numpy as np
import pytest

from service.core.calibration.histogram import BINS, Histogram


def two(x):
    return np.stack([np.zeros(len(x)), x], axis=1)


def test_bins_hold_equal_mass_and_answer_with_its_share() -> None:
    rng = np.random.default_rng(0)
    n = 100 * BINS
    x, labels = rng.normal(size=n), rng.integers(0, 2, size=n)
    fitted = Histogram.fit(two(x), labels)
    parts = np.array_split(labels[np.argsort(x)], BINS)
    np.testing.assert_allclose(fitted.values[1], [part.mean() for part in parts], rtol=0, atol=1e-12)
    assert fitted.blend == 1.0 / (n + 1)


def test_both_classes_of_a_binary_model_agree() -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=500), rng.integers(0, 2, size=500)
    log_p = Histogram.fit(two(x), labels).apply(two(x))
    values = Histogram.fit(two(x), labels).values[1]
    np.testing.assert_allclose(np.unique(np.exp(log_p[:, 1]).round(9)), np.unique((500 * values + 0.5) / 501).round(9))


@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_equal_scores_are_never_parted(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    x = rng.integers(0, distinct, size=900).astype(np.float64)
    labels = (rng.random(900) < 0.2 + 0.1 * x).astype(np.intp)
    log_p = Histogram.fit(two(x), labels).apply(two(x))
    for value in range(distinct):
        share = labels[x == value].mean()
        np.testing.assert_allclose(np.exp(log_p[x == value, 1]), (900 * share + 0.5) / 901, rtol=1e-12)


def test_bins_without_a_case_leave_no_impossible_class() -> None:
    x = np.linspace(-1.0, 1.0, 300)
    log_p = Histogram.fit(two(x), (x > 0.0).astype(np.intp)).apply(two(10.0 * x))
    assert np.exp(log_p).min() == pytest.approx(0.5 / 301, rel=1e-9)
