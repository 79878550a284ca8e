import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.conformal import reference, threshold
from service.core.label_sets import ADAPTIVE, METHODS, LabelSets, aps, enough_for_classes, fit, lac, raps
from service.core.numerics import Array, Indices, log_softmax
from service.core.score_ties import Band

every_method = pytest.mark.parametrize("method", METHODS)
PREVALENCE = np.array([0.6, 0.3, 0.1])


def draw(n: int, rng: np.random.Generator, *, prevalence: Array = PREVALENCE) -> tuple[Array, Indices]:
    """Rows of three classes and what a miscalibrated model makes of them."""
    labels = rng.choice(3, size=n, p=prevalence)
    logits = 1.2 * np.eye(3)[labels] + rng.normal(size=(n, 3)) + np.log(PREVALENCE)
    return log_softmax(2.0 * logits), labels


def repeated_coverage(method: str, *, conditional: bool, trials: int = 400) -> Array:
    """Coverage of 200 new rows by class in every trial; NaN where a class did not occur."""
    rng = np.random.default_rng(1)
    rates = np.full((trials, 4), np.nan)
    for trial in range(trials):
        (log_p, labels), (new, truth) = draw(150, rng), draw(200, rng)
        fitted = fit(log_p, labels, method=method, conditional=conditional)
        covered = fitted.predict(new, coverage=0.8, allow_empty=True).members[np.arange(200), truth]
        rates[trial] = [
            covered.mean(),
            *(covered[truth == k].mean() if (truth == k).any() else np.nan for k in range(3)),
        ]
    return rates


def standard_error(rates: Array) -> float:
    return float(np.nanstd(rates) / math.sqrt(np.sum(np.isfinite(rates))))


# --------------------------------------------------------------------------------------------------------- scores


def test_every_score_is_its_formula() -> None:
    p = np.array([[0.4, 0.1, 0.3, 0.12, 0.05, 0.03]])
    np.testing.assert_allclose(np.exp(-lac(np.log(p))), p)
    before = [[0.0, 0.82, 0.4, 0.7, 0.92, 0.97]]
    np.testing.assert_allclose(1.0 - np.exp(-aps(np.log(p))), before, atol=1e-15)
    np.testing.assert_allclose(raps(np.log(p)) - before, [[0, 0, 0, 0, 0, 0.01]], atol=1e-15)


def test_an_adaptive_set_is_the_shortest_list_of_probable_labels_that_reaches_its_level() -> None:
    rng = np.random.default_rng(31)
    for p in rng.dirichlet(np.ones(7), size=50):
        level = rng.random()
        order = np.argsort(-p)
        shortest = order[: np.searchsorted(p[order].cumsum(), level) + 1]
        members = np.flatnonzero(1.0 - np.exp(-aps(np.log(p[None]))[0]) < level)
        assert set(members) == set(shortest)


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_equally_probable_labels_share_their_fate(method: str) -> None:
    p = np.array([0.1, 0.3, 0.3, 0.3])
    scores = METHODS[method](np.log(p)[None], 1e-9)
    np.testing.assert_array_equal(scores[:, 1:], 0.0)
    nudged = METHODS[method](np.log(p * (1.0 + 1e-14 * np.arange(4)))[None], 1e-9)
    np.testing.assert_allclose(nudged, scores, rtol=1e-12)


def test_a_saturated_model_still_ranks_its_improbable_labels() -> None:
    scores = aps(log_softmax(np.array([[200.0, 100.0, 0.0], [200.0, 50.0, 0.0]])))
    np.testing.assert_allclose(scores, [[0.0, 100.0, 200.0], [0.0, 150.0, 200.0]], rtol=1e-12)


@every_method
def test_a_more_probable_label_conforms_no_less(method: str) -> None:
    log_p = log_softmax(np.random.default_rng(0).normal(size=(100, 8)))
    order = np.argsort(-log_p, axis=1)
    scores = np.take_along_axis(METHODS[method](log_p, 0.0), order, axis=1)
    assert (np.diff(scores, axis=1) > 0.0).all()


@every_method
def test_names_and_order_of_classes_do_not_matter(method: str) -> None:
    rng = np.random.default_rng(2)
    (log_p, labels), (new, _) = draw(200, rng), draw(50, rng)
    order = np.array([2, 0, 1])
    renamed = fit(log_p[:, order], np.argsort(order)[labels], method=method).predict(new[:, order], coverage=0.9)
    plain = fit(log_p, labels, method=method).predict(new, coverage=0.9)
    np.testing.assert_array_equal(renamed.members, plain.members[:, order])


# ------------------------------------------------------------------------------------------------------- coverage


@every_method
def test_marginal_sets_have_their_stated_coverage(method: str) -> None:
    rates = repeated_coverage(method, conditional=False)[:, 0]
    noise = 4.0 * standard_error(rates)
    most = 1.0 if method in ADAPTIVE else 0.8 + 1.0 / 151 + noise  # the most probable label is never left out
    assert 0.8 - noise <= rates.mean() <= most


@every_method
def test_class_conditional_sets_cover_every_class(method: str) -> None:
    rates = repeated_coverage(method, conditional=True)
    for k in range(3):
        assert np.nanmean(rates[:, k + 1]) >= 0.8 - 4.0 * standard_error(rates[:, k + 1])


def test_marginal_sets_leave_the_rare_class_short_and_class_conditional_ones_do_not() -> None:
    assert np.nanmean(repeated_coverage("lac", conditional=False)[:, 3]) < 0.72


@every_method
def test_class_conditional_sets_cover_at_any_prevalence(method: str) -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        (log_p, labels), (new, truth) = draw(200, rng), draw(50, rng, prevalence=np.array([0.1, 0.1, 0.8]))
        members = fit(log_p, labels, method=method).predict(new, coverage=0.8, allow_empty=True).members
        covered.append(members[np.arange(50), truth].mean())
    assert np.mean(covered) >= 0.8 - 4.0 * standard_error(np.array(covered))


def test_one_row_of_a_new_group_is_covered_where_counting_rows_would_fall_short() -> None:
    rng = np.random.default_rng(4)
    by_group: list[bool] = []
    by_row: list[bool] = []
    for _ in range(1500):
        # 20 patients, and one more: those who are hard to read come once, the others ten times.
        hard = rng.random(21) < 0.5
        sizes = np.where(hard, 1, 10)
        groups = np.repeat(np.arange(21), sizes)
        labels = rng.integers(0, 2, size=len(groups))
        signal = np.where(hard, 0.0, 3.0)[groups] + rng.normal(size=len(groups))
        log_p = log_softmax(signal[:, None] * np.eye(2)[labels])
        seen, one = groups < 20, np.array([np.flatnonzero(groups == 20)[0]])
        for results, units in ((by_group, groups[seen]), (by_row, None)):
            fitted = fit(log_p[seen], labels[seen], conditional=False, groups=units)
            members = fitted.predict(log_p[one], coverage=0.8, allow_empty=True).members
            results.append(bool(members[0, labels[one[0]]]))
    assert np.mean(by_group) >= 0.8 - 4.0 * math.sqrt(0.16 / 1500)
    assert np.mean(by_row) < 0.75


# ------------------------------------------------------------------------------------------------------ thresholds


@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_the_rank_is_exact(n: int, coverage: float) -> None:
    log_p = log_softmax(np.random.default_rng(n).normal(size=(n, 3)))
    labels = np.arange(n) % 3
    fitted = fit(log_p, labels, conditional=False)
    rank = math.ceil((n + 1) * coverage - 1e-9)
    if rank > n:
        assert fitted.thresholds(coverage)[0] == math.inf
    else:
        own = reference(lac(log_p)[np.arange(n), labels])
        assert fitted.thresholds(coverage)[0] == threshold(own, alpha=1.0 - coverage) == own.caps[rank - 1]


@every_method
def test_too_few_rows_for_the_coverage_give_the_full_set_and_are_reported(method: str) -> None:
    log_p, labels = draw(18, np.random.default_rng(5))
    few, enough = fit(log_p, labels, method=method, conditional=False), 18 / 19
    sets = few.predict(log_p, coverage=0.95)
    assert sets.members.all()
    assert not sets.valid
    assert few.predict(log_p, coverage=enough).valid


@every_method
def test_a_class_with_too_few_rows_is_in_every_set_and_is_reported(method: str) -> None:
    log_p, labels = draw(300, np.random.default_rng(6))
    kept = (labels < 2) | (np.cumsum(labels == 2) <= 5)
    sets = fit(log_p[kept], labels[kept], method=method).predict(log_p, coverage=0.9)
    assert sets.members[:, 2].all()
    assert not sets.members[:, 0].all()
    assert not sets.valid


def test_a_class_without_rows_is_in_every_set() -> None:
    log_p, labels = draw(100, np.random.default_rng(7))
    sets = fit(log_p[labels < 2], labels[labels < 2]).predict(log_p, coverage=0.8)
    assert sets.members[:, 2].all()
    assert not sets.valid


def test_groups_of_one_row_are_rows() -> None:
    log_p, labels = draw(100, np.random.default_rng(8))
    names = np.random.default_rng(9).permutation(1000)[:100]
    for coverage in (0.5, 0.75, 0.9):
        grouped = fit(log_p, labels, groups=names).thresholds(coverage)
        np.testing.assert_array_equal(grouped, fit(log_p, labels).thresholds(coverage))


def test_repeated_rows_of_a_patient_change_nothing() -> None:
    log_p, labels = draw(90, np.random.default_rng(10))
    again = np.repeat(np.arange(90), np.arange(90) % 7 + 1)
    for coverage in (0.5, 0.75, 0.9):
        repeated = fit(log_p[again], labels[again], groups=again).thresholds(coverage)
        np.testing.assert_array_equal(repeated, fit(log_p, labels).thresholds(coverage))


def test_thinning_can_only_enlarge_sets() -> None:
    log_p, labels = draw(30_000, np.random.default_rng(11))
    exact, thinned = fit(log_p, labels, limit=100_000), fit(log_p, labels, limit=900)
    for coverage in (0.3, 0.5, 0.9, 0.95, 0.99):
        assert (thinned.thresholds(coverage) >= exact.thresholds(coverage)).all()
    np.testing.assert_array_equal(thinned.thresholds(0.995), exact.thresholds(0.995))
    assert all(len(c.scores) == 300 for c in thinned.conformities)


# ------------------------------------------------------------------------------------------------------------ sets


def test_an_empty_set_gets_the_most_probable_label_unless_empty_sets_are_allowed() -> None:
    flat, certain = np.log([[0.34, 0.33, 0.33]]), np.log([[0.98, 0.01, 0.01]])
    fitted = fit(np.repeat(certain, 20, axis=0), np.zeros(20, dtype=np.intp), conditional=False)
    bare, filled = (fitted.predict(flat, coverage=0.8, allow_empty=allowed) for allowed in (True, False))
    assert not bare.members.any()
    np.testing.assert_array_equal(filled.members, [[True, False, False]])
    answered = fitted.predict(flat, coverage=0.8, top=np.array([2]))
    np.testing.assert_array_equal(answered.members, [[False, False, True]])


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_adaptive_sets_hold_the_most_probable_label_and_the_one_that_is_answered(method: str) -> None:
    log_p, labels = draw(300, np.random.default_rng(12))
    rows, answered = np.arange(300), np.random.default_rng(13).integers(0, 3, size=300)
    for conditional in (True, False):
        fitted = fit(log_p, labels, method=method, conditional=conditional)
        for coverage in (0.01, 0.5, 0.9):
            bare = fitted.predict(log_p, coverage=coverage, allow_empty=True).members
            assert bare[rows, log_p.argmax(axis=1)].all()
            assert fitted.predict(log_p, coverage=coverage, top=answered).members[rows, answered].all()


@every_method
def test_more_coverage_never_removes_a_label(method: str) -> None:
    log_p, labels = draw(400, np.random.default_rng(13))
    fitted = fit(log_p, labels, method=method)
    nested = [fitted.predict(log_p, coverage=c, allow_empty=True).members for c in (0.3, 0.6, 0.8, 0.9, 0.99)]
    for smaller, larger in itertools.pairwise(nested):
        assert (smaller <= larger).all()


@every_method
def test_a_row_gets_the_same_set_alone_and_in_a_batch(method: str) -> None:
    log_p, labels = draw(200, np.random.default_rng(16))
    fitted = fit(log_p, labels, method=method)
    alone = np.concatenate([fitted.predict(row[None], coverage=0.9).members for row in log_p])
    np.testing.assert_array_equal(fitted.predict(log_p, coverage=0.9).members, alone)


@every_method
@pytest.mark.parametrize("kind", ["class_conditional", "marginal", "weighted"])
def test_rounding_decides_no_membership_of_a_calibration_rows_own_label(method: str, kind: str) -> None:
    rng = np.random.default_rng(17)
    log_p, labels = draw(300, rng)
    log_p = log_softmax(np.round(4.0 * log_p) / 4.0)  # many ties, between rows and within them
    fitted = fit(log_p, labels, method=method, conditional=kind != "marginal", band=Band(1e-9, 1e-6))
    fitted = weighted(fitted, SHIFTED) if kind == "weighted" else fitted
    for size in (1e-13, 4e-7):  # of arithmetic, and of a float32 output
        for coverage in (0.5, 0.8, 0.9):
            exact = fitted.predict(log_p, coverage=coverage, allow_empty=True).members
            for _ in range(5):
                moved = log_p + size * rng.uniform(-1.0, 1.0, size=log_p.shape)
                found = fitted.predict(moved, coverage=coverage, allow_empty=True).members
                np.testing.assert_array_equal(found, exact)


def test_class_conditional_sets_are_advised_for_few_classes_with_enough_rows() -> None:
    assert enough_for_classes(np.full(20, 9), coverage=0.9)
    assert not enough_for_classes(np.full(21, 9), coverage=0.9)
    assert not enough_for_classes(np.array([9, 8]), coverage=0.9)


# ----------------------------------------------------------------------------------------------- another prevalence

SHIFTED = np.array([0.1, 0.1, 0.8])


def weighted(fitted: LabelSets, prevalence: Array) -> LabelSets:
    return dataclasses.replace(fitted, prevalence=prevalence)


@every_method
def test_weighted_sets_cover_at_the_prevalence_they_are_weighted_to_and_marginal_ones_do_not(method: str) -> None:
    rng = np.random.default_rng(20)
    held: dict[str, list[float]] = {"weighted": [], "marginal": []}
    for _ in range(400):
        (log_p, labels), (new, truth) = draw(150, rng), draw(100, rng, prevalence=SHIFTED)
        of_classes, together = (fit(log_p, labels, method=method, conditional=c) for c in (True, False))
        for sets in (weighted(of_classes, SHIFTED), together):
            members = sets.predict(new, coverage=0.8, allow_empty=True).members
            held[sets.kind].append(members[np.arange(100), truth].mean())
    noise = 4.0 * standard_error(np.array(held["weighted"]))
    assert 0.8 - noise <= np.mean(held["weighted"]) <= 0.8 + 1.0 / 15 + noise  # some 15 rows of the class that counts
    assert np.mean(held["marginal"]) < 0.75


def test_weighted_sets_keep_their_coverage_where_classes_have_next_to_no_rows() -> None:
    rng, prevalence = np.random.default_rng(21), np.array([0.5, 0.42, 0.08])
    held = []
    for _ in range(1500):
        log_p, labels = draw(60, rng)
        kept = (labels < 2) & (np.cumsum(labels < 2) <= 12) | (np.cumsum(labels == 2) <= 1) & (labels == 2)
        new, truth = draw(10, rng, prevalence=prevalence)
        sets = weighted(fit(log_p[kept], labels[kept]), prevalence).predict(new, coverage=0.8, allow_empty=True)
        held.append(sets.members[np.arange(10), truth].mean())
    assert np.mean(held) >= 0.8 - 4.0 * standard_error(np.array(held))


def test_weighted_groups_count_as_one_row_each() -> None:
    log_p, labels = draw(90, np.random.default_rng(22))
    again = np.repeat(np.arange(90), np.arange(90) % 7 + 1)
    repeated = weighted(fit(log_p[again], labels[again], groups=again), SHIFTED)
    for coverage in (0.5, 0.75, 0.9):
        plain = weighted(fit(log_p, labels), SHIFTED).thresholds(coverage)
        np.testing.assert_array_equal(repeated.thresholds(coverage), plain)


def test_thinning_can_only_enlarge_weighted_sets() -> None:
    log_p, labels = draw(30_000, np.random.default_rng(23))
    exact, thinned = (weighted(fit(log_p, labels, limit=limit), SHIFTED) for limit in (100_000, 900))
    for coverage in (0.3, 0.5, 0.9, 0.95, 0.99):
        assert thinned.thresholds(coverage) >= exact.thresholds(coverage)


def test_weighted_sets_are_full_and_not_valid_where_the_rows_cannot_give_the_coverage() -> None:
    log_p, labels = draw(300, np.random.default_rng(24))
    kept = (labels < 2) | (np.cumsum(labels == 2) <= 3)
    fitted = fit(log_p[kept], labels[kept])
    rare, common = (weighted(fitted, np.array(p)).predict(log_p, coverage=0.9) for p in ([0.5, 0.4, 0.1], SHIFTED))
    assert rare.valid
    assert not rare.members.all()
    assert not common.valid
    assert common.members.all()
