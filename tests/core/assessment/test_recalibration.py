import numpy as np
import pytest
import scipy.special
from sklearn.linear_model import LogisticRegression

from service.core.assessment.recalibration import LOGIT_LIMIT, calibration_in_the_large, class_log_odds, cox
from service.core.numerics import Array, Indices, log_softmax, two_column


def drawn(n: int, *, intercept: float, slope: float, seed: int) -> tuple[Array, Indices]:
    rng = np.random.default_rng(seed)
    logit = 2.0 * rng.normal(size=n) - 0.5
    return logit, (rng.random(n) < scipy.special.expit(intercept + slope * logit)).astype(np.intp)


@pytest.mark.parametrize("seed", range(5))
def test_the_line_is_scikit_learns_unpenalised_logistic_regression(seed: int) -> None:
    logit, y = drawn(300, intercept=0.7, slope=0.5, seed=seed)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], y)
    line = cox(logit, y)
    assert line.intercept == pytest.approx(oracle.intercept_[0], abs=1e-5)
    assert line.slope == pytest.approx(oracle.coef_[0, 0], abs=1e-5)


def test_at_the_line_the_gradient_of_the_likelihood_vanishes() -> None:
    logit, y = drawn(300, intercept=-1.0, slope=3.0, seed=1)
    line = cox(logit, y)
    gap = y - scipy.special.expit(line.intercept + line.slope * logit)
    np.testing.assert_allclose([gap.sum(), gap @ logit], 0.0, atol=1e-9)


def test_truth_is_recovered_within_its_standard_errors() -> None:
    scores = []
    for seed in range(100):
        line = cox(*drawn(500, intercept=0.3, slope=0.8, seed=seed))
        scores.append([(line.intercept - 0.3) / line.intercept_error, (line.slope - 0.8) / line.slope_error])
    np.testing.assert_allclose(np.std(scores, axis=0), 1.0, atol=0.25)
    np.testing.assert_allclose(np.mean(scores, axis=0), 0.0, atol=0.35)


def test_over_confidence_shows_as_a_slope_below_one_and_a_shift_as_an_intercept() -> None:
    logit, y = drawn(20_000, intercept=0.0, slope=1.0, seed=2)
    assert cox(3.0 * logit, y).slope == pytest.approx(1 / 3, abs=0.02)
    assert cox(logit + 1.0, y).intercept == pytest.approx(-1.0, abs=0.07)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_units_and_origin_of_the_log_odds_do_not_matter(scale: float, offset: float) -> None:
    logit, y = drawn(200, intercept=0.5, slope=1.5, seed=3)
    plain, moved = cox(logit, y), cox(scale * logit + offset, y)
    assert moved.slope * scale == pytest.approx(plain.slope, rel=1e-7)
    assert moved.intercept + moved.slope * offset == pytest.approx(plain.intercept, rel=1e-6)


@pytest.mark.parametrize(("y", "slope"), [([0, 0, 1, 1], np.inf), ([1, 1, 0, 0], -np.inf)])
@pytest.mark.parametrize("logit", [[-2.0, -1.0, 1.0, 2.0], [-2.0, 0.0, 0.0, 2.0]])
def test_separated_events_have_an_infinite_slope(logit: list[float], y: list[int], slope: float) -> None:
    line = cox(np.array(logit), np.array(y))
    assert line.slope == slope
    assert np.isnan(line.intercept)


@pytest.mark.parametrize(("logit", "y"), [([0.0, 1.0], [1, 1]), ([1.0, 1.0, 1.0], [0, 1, 0]), ([1.0], [1])])
def test_where_nothing_can_tell_the_line_is_not_a_number(logit: list[float], y: list[int]) -> None:
    line = cox(np.array(logit), np.array(y))
    assert np.isnan(line.slope)
    assert line.slope_error == np.inf


@pytest.mark.parametrize("overlap", [1e-9, 1e-3, 1.0])
def test_the_slightest_overlap_gives_a_finite_line(overlap: float) -> None:
    logit = np.concatenate([np.linspace(-40.0, -20.0, 50), [overlap, -overlap], np.linspace(20.0, 40.0, 50)])
    y = np.repeat([0, 1], 51)
    line = cox(logit, y)
    assert np.isfinite([line.intercept, line.slope]).all()
    assert line.slope > 0.0


def test_log_odds_keep_what_probabilities_lose() -> None:
    log_p = log_softmax(two_column(np.array([-30.0, 0.0, 30.0, 38.0])))
    np.testing.assert_allclose(class_log_odds(log_p, 1), [-30.0, 0.0, 30.0, 38.0], rtol=1e-13, atol=1e-13)


def test_log_odds_of_one_class_set_it_against_all_others_and_stay_finite() -> None:
    log_p = log_softmax(np.random.default_rng(4).normal(size=(50, 4)))
    np.testing.assert_allclose(class_log_odds(log_p, 2), scipy.special.logit(np.exp(log_p[:, 2])), rtol=1e-12)
    certain = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert class_log_odds(certain, 1).tolist() == [-LOGIT_LIMIT, LOGIT_LIMIT]


def test_in_the_large_a_posterior_is_compared_with_what_occurred() -> None:
    rng = np.random.default_rng(5)
    z_scores = []
    for _ in range(200):
        log_p = log_softmax(rng.normal(size=(300, 3)))
        labels = (np.exp(log_p).cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)
        large = calibration_in_the_large(log_p, labels)
        assert large.predicted.sum() == pytest.approx(1.0)
        assert large.observed.sum() == pytest.approx(1.0)
        z_scores.append((large.predicted - large.observed) / (large.noise / 1.96))
    np.testing.assert_allclose(np.std(z_scores, axis=0), 1.0, atol=0.2)


# ---------------------------------------------------------------------------------------------- weights and groups


def test_a_weight_of_two_is_the_row_twice_for_the_line_and_the_means() -> None:
    logit, y = drawn(300, intercept=0.5, slope=0.7, seed=30)
    copies = np.random.default_rng(30).integers(1, 4, size=300)
    rows, weights = np.repeat(np.arange(300), copies), copies.astype(np.float64)
    line, repeated = cox(logit, y, weights=weights), cox(logit[rows], y[rows], groups=rows)
    assert (line.intercept, line.slope) == pytest.approx((repeated.intercept, repeated.slope), rel=1e-8)
    assert (line.intercept_error, line.slope_error) == pytest.approx(
        (repeated.intercept_error, repeated.slope_error), rel=1e-6
    )
    log_p = log_softmax(two_column(logit))
    large = calibration_in_the_large(log_p, y, weights=weights)
    again = calibration_in_the_large(log_p[rows], y[rows], groups=rows)
    np.testing.assert_allclose(large.predicted, again.predicted, rtol=1e-12)
    np.testing.assert_allclose(large.observed, again.observed, rtol=1e-12)
    np.testing.assert_allclose(large.noise, again.noise, rtol=1e-3)


def test_the_errors_of_grouped_rows_cover_the_truth_and_those_of_rows_do_not() -> None:
    scores: dict[bool, list[float]] = {True: [], False: []}
    groups = np.repeat(np.arange(100), 6)
    for seed in range(60):
        logit, y = drawn(100, intercept=0.3, slope=0.8, seed=seed)
        for grouped, found in scores.items():
            line = cox(logit[groups], y[groups], groups=groups if grouped else None)
            found.append((line.slope - 0.8) / line.slope_error)
    assert np.std(scores[True]) == pytest.approx(1.0, abs=0.35)
    assert np.std(scores[False]) > 1.8


def test_one_group_leaves_the_line_but_no_certainty_about_it() -> None:
    logit, y = drawn(200, intercept=0.0, slope=1.0, seed=0)
    alone, rows = cox(logit, y, groups=np.zeros(200, dtype=np.intp)), cox(logit, y)
    assert (alone.slope, alone.intercept) == (rows.slope, rows.intercept)
    assert np.isinf([alone.slope_error, alone.intercept_error]).all()
