import math
from statistics import NormalDist

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from service.core.metrics import separation_score
from service.core.numerics import Array
from service.core.selective import (
    Positive,
    area_under_precision_recall,
    area_under_risk_coverage,
    average_precision,
    clopper_pearson_upper,
    coverage_at_risk,
    detection_error,
    excess_area,
    fpr_at_tpr,
    placements,
    risk_coverage,
    separation_interval,
)

GOLDEN = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.0, 1.0, 0.0, 1.0])


def two_kinds(*, seed: int = 0, ties: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(size=400), 1.5 * rng.normal(size=300) + 1.5
    return (inside.round(1), outside.round(1)) if ties else (inside, outside)


# ------------------------------------------------------------------------------------------------ risk and coverage


def test_the_golden_curve() -> None:
    coverage, risk = risk_coverage(*GOLDEN)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(risk, [0.0, 0.5, 1 / 3, 0.5])
    assert area_under_risk_coverage(*GOLDEN) == pytest.approx(1 / 3, rel=1e-14)


def test_with_everything_answered_the_risk_is_the_error_rate() -> None:
    rng = np.random.default_rng(1)
    losses = rng.random(100)
    assert risk_coverage(rng.random(100), losses)[1][-1] == pytest.approx(losses.mean(), rel=1e-12)


def test_ties_enter_in_random_order() -> None:
    rng = np.random.default_rng(2)
    confidence, losses = np.repeat([0.9, 0.5, 0.1], 5), (rng.random(15) < 0.5) * 1.0
    broken = np.mean([risk_coverage(confidence + 1e-6 * rng.random(15), losses)[1] for _ in range(4000)], axis=0)
    np.testing.assert_allclose(risk_coverage(confidence, losses)[1], broken, atol=0.03)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30))
def test_no_order_beats_the_best_one(rows: list[tuple[int, int]]) -> None:
    confidence, losses = np.array(rows, dtype=np.float64).T
    assert excess_area(confidence, losses) >= -1e-12
    assert excess_area(-losses, losses) == 0.0


# ------------------------------------------------------------------------------------------------------- guarantees


@pytest.mark.parametrize("n", [1, 7, 100, 20_000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_upper_bound_is_the_beta_quantile(n: int, confidence: float) -> None:
    for errors in {0, n // 100, n // 3, n // 2, n - 1}:
        oracle = scipy.stats.beta.ppf(confidence, errors + 1, n - errors)
        assert clopper_pearson_upper(errors, n, confidence=confidence) == pytest.approx(oracle, rel=1e-9)


def test_nothing_is_bounded_by_nothing_or_by_errors_alone() -> None:
    assert clopper_pearson_upper(0, 0) == 1.0
    assert clopper_pearson_upper(5, 5) == 1.0


def test_answered_rows_keep_the_promised_risk_nearly_always() -> None:
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(200):
        sure = rng.random(400)
        found = coverage_at_risk(sure, (rng.random(400) > sure) * 1.0, risk=0.2, confidence=0.9)
        true_risk = (1.0 - found.threshold) / 2.0 if np.isfinite(found.threshold) else 0.0
        broken += true_risk > 0.2
    assert broken <= 20


def test_more_rows_allow_more_coverage() -> None:
    rng = np.random.default_rng(4)
    coverages = []
    for n in (100, 1000, 20_000):
        sure = rng.random(n)
        coverages.append(coverage_at_risk(sure, (rng.random(n) > sure) * 1.0, risk=0.2).coverage)
    assert coverages == sorted(coverages)
    assert coverages[-1] == pytest.approx(0.4, abs=0.05)


def test_the_rows_above_the_threshold_are_those_answered_even_with_ties() -> None:
    rng = np.random.default_rng(5)
    sure = rng.integers(0, 8, size=900) / 8.0
    wrong = (rng.random(900) > sure) * 1.0
    found = coverage_at_risk(sure, wrong, risk=0.3)
    assert found.coverage == np.mean(sure >= found.threshold)
    assert found.risk == pytest.approx(wrong[sure >= found.threshold].mean(), rel=1e-12)


def test_a_promise_nobody_can_keep_answers_nothing() -> None:
    found = coverage_at_risk(np.linspace(0.0, 1.0, 50), np.ones(50), risk=0.1)
    assert found.threshold == np.inf
    assert found.coverage == 0.0
    assert np.isnan(found.risk)


# ------------------------------------------------------------------------------------------------ out of distribution


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_average_precision_agrees_with_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, positives = np.array([s for s, _ in rows], dtype=np.float64), np.array([True] + [p for _, p in rows[1:]])
    oracle = sklearn.metrics.average_precision_score(positives, scores)
    assert average_precision(scores, positives) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_precision_recall_of_both_kinds_agrees_with_scikit_learn(ties: bool) -> None:  # noqa: FBT001
    inside, outside = two_kinds(ties=ties)
    scores, strange = np.concatenate([inside, outside]), np.repeat([0, 1], [len(inside), len(outside)])
    out = sklearn.metrics.average_precision_score(strange, scores)
    native = sklearn.metrics.average_precision_score(1 - strange, -scores)
    assert area_under_precision_recall(inside, outside, positive="out") == pytest.approx(out, rel=1e-12)
    assert area_under_precision_recall(inside, outside, positive="in") == pytest.approx(native, rel=1e-12)


def by_roc(inside: Array, outside: Array, positive: Positive) -> float:
    """False positive rate of the first threshold at which 95 % are found, from scikit-learn's ROC curve."""
    strange = np.repeat([0, 1], [len(inside), len(outside)])
    scores = np.concatenate([inside, outside])
    y, s = (strange, scores) if positive == "out" else (1 - strange, -scores)
    fpr, tpr, _ = sklearn.metrics.roc_curve(y, s, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95 - 1e-12)])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("positive", ["in", "out"])
def test_fpr_at_tpr_is_read_off_the_roc_curve(positive: Positive, ties: bool) -> None:  # noqa: FBT001
    for seed in range(10):
        inside, outside = two_kinds(seed=seed, ties=ties)
        assert fpr_at_tpr(inside, outside, positive=positive) == pytest.approx(by_roc(inside, outside, positive))


def test_the_two_conventions_of_fpr95_differ_widely_on_the_same_scores() -> None:
    inside, outside = two_kinds()
    native, strange = (fpr_at_tpr(inside, outside, positive=p) for p in ("in", "out"))
    assert abs(native - strange) > 0.2


def test_which_kind_is_positive_must_be_said() -> None:
    with pytest.raises(TypeError, match="positive"):
        fpr_at_tpr(*two_kinds())  # type: ignore[call-arg]


def test_at_least_the_asked_share_is_found_and_not_one_row_more() -> None:
    found = np.arange(100.0)
    assert fpr_at_tpr(np.array([29.0, 30.0, 31.0]), found, positive="out", tpr=0.7) == pytest.approx(2 / 3)


def test_detection_error_is_the_least_balanced_error_of_any_threshold() -> None:
    inside, outside = two_kinds(ties=True)
    thresholds = np.concatenate([[-np.inf], inside, outside])
    by_hand = min(((inside > t).mean() + (outside <= t).mean()) / 2.0 for t in thresholds)
    assert detection_error(inside, outside) == pytest.approx(by_hand, rel=1e-12)


def test_scores_apart_are_told_apart_by_every_measure() -> None:
    inside, outside = np.arange(50.0), np.arange(50.0) + 100.0
    assert separation_score(inside, outside) == 1.0
    assert detection_error(inside, outside) == 0.0
    for positive in ("in", "out"):
        assert fpr_at_tpr(inside, outside, positive=positive) == 0.0
        assert area_under_precision_recall(inside, outside, positive=positive) == 1.0


# ------------------------------------------------------------------------------------------------- how sure an AUROC is


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.lists(st.integers(0, 8), min_size=1, max_size=30))
def test_either_kind_of_placements_averages_to_the_separation(inside: list[int], outside: list[int]) -> None:
    here, there = np.array(inside, dtype=np.float64), np.array(outside, dtype=np.float64)
    of_inside, of_outside = placements(here, there)
    assert of_inside.mean() == pytest.approx(separation_score(here, there), abs=1e-12)
    assert of_outside.mean() == pytest.approx(separation_score(here, there), abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(10, 10), (20, 200), (100, 30)])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (3.0, 1.0), (4.0, 1.0), (3.0, 2.0)])
def test_the_interval_covers_the_auroc_though_no_row_may_be_out_of_order(
    n: int, m: int, shift: float, scale: float
) -> None:
    truth, rng = NormalDist().cdf(shift / math.hypot(1.0, scale)), np.random.default_rng(1)
    held = []
    for _ in range(300):
        low, high = separation_interval(rng.normal(size=n), shift + scale * rng.normal(size=m))
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.95 - 3.0 * math.sqrt(0.95 * 0.05 / 300)


def test_the_interval_of_many_rows_is_delongs() -> None:
    rng = np.random.default_rng(3)
    inside, outside = rng.normal(size=4000), 1.5 * rng.normal(size=3000) + 1.5
    of_inside, of_outside = placements(inside, outside)
    error = math.sqrt(of_inside.var() / 4000 + of_outside.var() / 3000)
    low, high = separation_interval(inside, outside)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


# ------------------------------------------------------------------------------------------------------------ weights
WEIGHTED_COMPARISONS = {
    "fpr out": lambda i, o, w: fpr_at_tpr(i, o, positive="out", inside_weights=w),
    "fpr in": lambda i, o, w: fpr_at_tpr(i, o, positive="in", inside_weights=w),
    "detection error": lambda i, o, w: detection_error(i, o, inside_weights=w),
    "auroc": lambda i, o, w: separation_score(i, o, inside_weights=w),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", WEIGHTED_COMPARISONS)
def test_a_weight_of_two_is_the_row_twice_where_two_kinds_are_told_apart(name: str, *, ties: bool) -> None:
    inside, outside = two_kinds(seed=5, ties=ties)
    copies = np.random.default_rng(5).integers(1, 4, size=len(inside))
    measure = WEIGHTED_COMPARISONS[name]
    repeated = measure(np.repeat(inside, copies), outside, None)
    assert measure(inside, outside, copies.astype(np.float64)) == pytest.approx(repeated, rel=1e-11)


@pytest.mark.parametrize("positive", ["in", "out"])
def test_weights_leave_the_mix_of_two_kinds_alone(positive: Positive) -> None:
    inside, outside = two_kinds(seed=6)
    plain = area_under_precision_recall(inside, outside, positive=positive)
    even = area_under_precision_recall(inside, outside, positive=positive, inside_weights=np.full(len(inside), 7.0))
    assert even == pytest.approx(plain, rel=1e-11)
    lean = np.where(inside > 1.0, 5.0, 1.0)
    assert area_under_precision_recall(inside, outside, positive=positive, inside_weights=lean) < plain
