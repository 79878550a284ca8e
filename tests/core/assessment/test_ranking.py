"""How well a score ranks one kind of rows above another."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from service.core.assessment.metrics import separation_score
from service.core.assessment.ranking import (
    Positive,
    area_under_precision_recall,
    average_precision,
    detection_error,
    fpr_at_tpr,
    placements,
    separation_interval,
)
from service.core.numerics import Array


def two_kinds(*, seed: int = 0, ties: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(size=400), 1.5 * rng.normal(size=300) + 1.5
    return (inside.round(1), outside.round(1)) if ties else (inside, outside)


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


def test_which_kind_is_positive_must_be_stated() -> None:
    with pytest.raises(TypeError, match="positive"):
        fpr_at_tpr(*two_kinds())  # type: ignore[call-arg]


def test_at_least_the_requested_share_is_found_and_not_one_row_more() -> None:
    found = np.arange(100.0)
    assert fpr_at_tpr(np.array([29.0, 30.0, 31.0]), found, positive="out", tpr=0.7) == pytest.approx(2 / 3)


def test_detection_error_is_the_least_balanced_error_of_any_threshold() -> None:
    inside, outside = two_kinds(ties=True)
    thresholds = np.concatenate([[-np.inf], inside, outside])
    by_hand = min(((inside > t).mean() + (outside <= t).mean()) / 2.0 for t in thresholds)
    assert detection_error(inside, outside) == pytest.approx(by_hand, rel=1e-12)


def test_scores_without_overlap_are_separated_by_every_measure() -> None:
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
    "fpr out": lambda i, o, w: fpr_at_tpr(i, o, positive="out", weights=w),
    "fpr in": lambda i, o, w: fpr_at_tpr(i, o, positive="in", weights=w),
    "detection error": lambda i, o, w: detection_error(i, o, weights=w),
    "auroc": lambda i, o, w: separation_score(i, o, weights=w),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", WEIGHTED_COMPARISONS)
def test_a_weight_of_two_is_the_row_twice_in_measures_of_separation(name: str, *, ties: bool) -> None:
    inside, outside = two_kinds(seed=5, ties=ties)
    copies = np.random.default_rng(5).integers(1, 4, size=len(inside))
    measure = WEIGHTED_COMPARISONS[name]
    repeated = measure(np.repeat(inside, copies), outside, None)
    assert measure(inside, outside, copies.astype(np.float64)) == pytest.approx(repeated, rel=1e-11)


@pytest.mark.parametrize("positive", ["in", "out"])
def test_weights_leave_the_mix_of_two_kinds_alone(positive: Positive) -> None:
    inside, outside = two_kinds(seed=6)
    plain = area_under_precision_recall(inside, outside, positive=positive)
    even = area_under_precision_recall(inside, outside, positive=positive, weights=np.full(len(inside), 7.0))
    assert even == pytest.approx(plain, rel=1e-11)
    lean = np.where(inside > 1.0, 5.0, 1.0)
    assert area_under_precision_recall(inside, outside, positive=positive, weights=lean) < plain
