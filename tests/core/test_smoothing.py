from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pytest
import scipy.optimize

from service.core import smoothing
from service.core.assessment.miscalibration import calibration_error
from service.core.decision import best_action
from service.core.losses.sequence import PADDING, jensen_shannon
from service.core.numerics import Array, Indices, log_softmax
from service.core.smoothing import (
    Transitions,
    adjacent_jsd,
    fit_transitions,
    forward_backward,
    jsd_smooth,
    min_cost_path,
    segments,
)

GOLDEN_BIAS = [  # strength, P(class 0) at both positions where (0.9, 0.2) was given
    (0.5, 0.852, 0.261),
    (1.0, 0.807, 0.311),
    (2.0, 0.743, 0.375),
    (5.0, 0.658, 0.454),
    (50.0, 0.564, 0.537),
    (1e9, 0.55, 0.55),
]
LENGTHS = np.array([6, 1, 4, 5])
HALVES = np.full(2, 0.5)


def drawn(n: int = 4, length: int = 6, k: int = 3, *, scale: float = 2.0, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return log_softmax(scale * rng.normal(size=(n * length, k))).reshape(n, length, k)


def chain(k: int = 3) -> Transitions:
    rng = np.random.default_rng(7)
    return Transitions(rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), size=k))


def prevalence(k: int = 3) -> Array:
    return np.random.default_rng(8).dirichlet(np.full(k, 5.0))


def sticky(stay: float) -> Transitions:
    return Transitions(HALVES, np.array([[stay, 1.0 - stay], [1.0 - stay, stay]]))


def smoothers(log_probs: Array, lengths: Indices) -> list[Array]:
    k = log_probs.shape[2]
    return [
        forward_backward(log_probs, lengths=lengths, prevalence=prevalence(k), transitions=chain(k)),
        jsd_smooth(log_probs, lengths=lengths, strength=3.0),
    ]


# ------------------------------------------------------------------------------------------- a chain that is known


class World(NamedTuple):
    labels: Indices
    log_probs: Array
    lengths: Indices


def world(stay: float, *, n: int = 1, length: int = 6000, seed: int = 0) -> World:
    """Labels of a two-state chain, and their posteriors from one measurement each, normal about -1 or 1."""
    rng = np.random.default_rng(seed)
    moves = rng.random((n, length)) > stay
    moves[:, 0] = rng.random(n) < 0.5
    labels = np.cumsum(moves, axis=1) % 2
    x = 2.0 * labels - 1.0 + 1.2 * rng.normal(size=(n, length))
    logits = np.stack([np.zeros_like(x), 2.0 * x / 1.2**2], axis=2)
    return World(labels, log_softmax(logits.reshape(-1, 2)).reshape(n, length, 2), np.full(n, length))


def quality(w: World, log_probs: Array) -> tuple[float, float, int]:
    """Accuracy, log loss and number of segments."""
    found = log_probs.argmax(axis=2)
    nll = -np.take_along_axis(log_probs, w.labels[..., None], axis=2).mean()
    return (found == w.labels).mean(), nll, int(segments(found, lengths=w.lengths).counts.sum())


def hidden_markov(w: World, transitions: Transitions) -> Array:
    return forward_backward(w.log_probs, lengths=w.lengths, prevalence=HALVES, transitions=transitions)


@pytest.mark.parametrize(
    ("stay", "alone", "structure", "markov"),
    [
        (0.95, (0.8025, 0.426, 2018), (0.9403, 0.365, 402), (0.9502, 0.128, 250)),
        (0.80, (0.7962, 0.435, 2357), (0.8430, 0.468, 903), (0.8532, 0.340, 1003)),
        (0.50, (0.7943, 0.441, 3026), (0.7192, 0.585, 1266), (0.7943, 0.441, 3026)),
        (0.30, (0.7877, 0.449, 3431), (0.6660, 0.632, 1505), (0.8158, 0.406, 4401)),
    ],
)
def test_smoothers_are_as_good_as_tabled(
    stay: float, alone: tuple[float, ...], structure: tuple[float, ...], markov: tuple[float, ...]
) -> None:
    w = world(stay, n=12, length=500)
    found = [w.log_probs, jsd_smooth(w.log_probs, lengths=w.lengths, strength=8.0), hidden_markov(w, sticky(stay))]
    for log_probs, (accuracy, nll, count) in zip(found, (alone, structure, markov), strict=True):
        ours = quality(w, log_probs)
        assert ours[0] == pytest.approx(accuracy, abs=0.015)
        assert ours[1] == pytest.approx(nll, abs=0.03)  # the table's and ours are means of 6000 positions each
        assert ours[2] == pytest.approx(count, rel=0.15)


def test_structure_smoothing_cuts_segments_where_labels_stay_and_accuracy_where_they_do_not() -> None:
    for stay, gain in ((0.95, 0.1), (0.5, -0.05)):
        w = world(stay)
        accuracy, _, count = quality(w, w.log_probs)
        smoothed, _, fewer = quality(w, jsd_smooth(w.log_probs, lengths=w.lengths, strength=8.0))
        assert fewer * (3 if stay > 0.5 else 2) <= count
        assert smoothed - accuracy > gain if gain > 0 else smoothed - accuracy < gain


def test_an_uninformative_chain_changes_nothing() -> None:
    w = world(0.5, n=12, length=500)
    np.testing.assert_allclose(hidden_markov(w, sticky(0.5)), w.log_probs, rtol=0, atol=1e-9)
    pi, rows = prevalence(), drawn()
    alone = forward_backward(
        rows, lengths=np.full(4, 6), prevalence=pi, transitions=Transitions(pi, np.tile(pi, (3, 1)))
    )
    np.testing.assert_allclose(alone, rows, rtol=0, atol=1e-9)


@pytest.mark.parametrize("stay", [0.95, 0.8, 0.3])
def test_forward_backward_keeps_calibration_and_structure_smoothing_loses_it(stay: float) -> None:
    learnt = world(stay, n=12, length=500, seed=1)
    w = world(stay, n=12, length=500)
    transitions = fit_transitions(learnt.labels, classes=2)
    labels = w.labels.ravel()
    errors = [
        calibration_error(smoothed.reshape(-1, 2), labels)
        for smoothed in (hidden_markov(w, transitions), jsd_smooth(w.log_probs, lengths=w.lengths, strength=8.0))
    ]
    assert errors[0] < 0.02
    assert errors[1] > 0.05


# ------------------------------------------------------------------------------------------------------- transitions


def test_a_fitted_chain_is_the_one_that_drew_the_labels() -> None:
    rng, truth = np.random.default_rng(0), chain()
    labels = np.empty((2000, 40), dtype=np.intp)
    labels[:, 0] = rng.choice(3, size=2000, p=truth.initial)
    for t in range(1, 40):
        labels[:, t] = (rng.random(2000)[:, None] > truth.matrix[labels[:, t - 1]].cumsum(axis=1)).sum(axis=1)
    found = fit_transitions(labels, classes=3)
    np.testing.assert_allclose(found.initial, truth.initial, atol=0.04)
    np.testing.assert_allclose(found.matrix, truth.matrix, atol=0.02)


def test_counts_are_those_of_a_loop_and_padding_counts_nowhere() -> None:
    labels = np.random.default_rng(0).integers(-1, 3, size=(30, 8))
    weights = np.random.default_rng(1).exponential(size=30)
    first, pairs = np.full(3, 0.5), np.full((3, 3), 0.5)
    for row, weight in zip(labels, weights, strict=True):
        if row[0] != PADDING:
            first[row[0]] += weight
        for now, after in pairwise(row):
            if PADDING not in (now, after):
                pairs[now, after] += weight
    found = fit_transitions(labels, classes=3, weights=weights, smoothing=0.5)
    np.testing.assert_allclose(found.initial, first / first.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.matrix, pairs / pairs.sum(axis=1, keepdims=True), rtol=1e-12)


def test_a_weight_of_two_is_the_sequence_twice() -> None:
    labels = np.array([[0, 1, 1, -1], [2, 0, 1, 0]])
    twice = fit_transitions(labels[[0, 0, 1]], classes=3)
    weighted = fit_transitions(labels, classes=3, weights=np.array([2.0, 1.0]))
    np.testing.assert_allclose(weighted.matrix, twice.matrix, rtol=1e-15)
    np.testing.assert_allclose(weighted.initial, twice.initial, rtol=1e-15)


def test_what_was_never_seen_stays_possible() -> None:
    found = fit_transitions(np.array([[0, 0], [0, -1]]), classes=4)
    assert (found.matrix > 0.0).all()
    assert (found.initial > 0.0).all()
    np.testing.assert_allclose(found.matrix[3], 0.25)


# -------------------------------------------------------------------------------------------------- forward-backward


def enumerated(log_probs: Array, pi: Array, transitions: Transitions) -> Array:
    """Marginals of one sequence, summed over every path."""
    length, k = log_probs.shape
    marginals: Array = np.zeros((length, k))
    for path in product(range(k), repeat=length):
        weight = transitions.initial[path[0]] * np.prod([np.exp(log_probs[t, y]) / pi[y] for t, y in enumerate(path)])
        weight *= np.prod([transitions.matrix[now, after] for now, after in pairwise(path)])
        marginals[np.arange(length), path] += weight
    return np.asarray(marginals / marginals.sum(axis=1, keepdims=True))


def test_marginals_are_sums_over_all_paths() -> None:
    rows, pi, transitions = drawn(), prevalence(), chain()
    smoothed = forward_backward(rows, lengths=LENGTHS, prevalence=pi, transitions=transitions)
    for row, length, found in zip(rows, LENGTHS, smoothed, strict=True):
        expected = enumerated(row[:length], pi, transitions)
        np.testing.assert_allclose(np.exp(found[:length]), expected, rtol=1e-11)


def test_evidence_beyond_what_floats_hold_is_not_lost() -> None:
    rows = np.zeros((1, 400, 2))
    rows[0, :, 1] = -2000.0
    rows[0, 200] = [-2000.0, 0.0]
    rows[0, 201] = [-1.0, -2000.0]
    stubborn = Transitions(HALVES, np.array([[1.0 - 1e-12, 1e-12], [1e-12, 1.0 - 1e-12]]))
    smoothed = forward_backward(rows, lengths=np.array([400]), prevalence=HALVES, transitions=stubborn)
    assert np.isfinite(smoothed).all()
    changes = 2.0 * np.log(1e-12)
    np.testing.assert_allclose(smoothed[0, 200], [-2000.0 - changes, 0.0], rtol=1e-9, atol=1e-12)
    assert smoothed[0, 100, 1] < -1900.0


# -------------------------------------------------------------------------------------------------- structure smoother


def objective(logits: Array, p: Array, strength: float) -> float:
    log_q = log_softmax(logits)
    divergence, *_ = jensen_shannon(log_q[:-1], log_q[1:])
    return float(strength * divergence.sum() - (p * log_q).sum())


def test_without_strength_nothing_changes() -> None:
    rows = drawn(scale=10.0)
    np.testing.assert_allclose(jsd_smooth(rows, lengths=np.full(4, 6), strength=0.0), rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("strength", "first", "second"), GOLDEN_BIAS)
def test_two_positions_are_biased_as_tabled(strength: float, first: float, second: float) -> None:
    rows = np.log([[[0.9, 0.1], [0.2, 0.8]]])
    found = np.exp(jsd_smooth(rows, lengths=np.array([2]), strength=strength))[0, :, 0]
    np.testing.assert_allclose(found, [first, second], rtol=0, atol=6e-4)


@pytest.mark.parametrize("strength", [0.3, 8.0])
def test_it_is_the_minimum_that_scipy_finds(strength: float) -> None:
    rows = drawn(1, 5, 3)[0]
    best = scipy.optimize.minimize(
        lambda z: objective(z.reshape(5, 3), np.exp(rows), strength),
        rows.ravel(),
        method="BFGS",
        options={"gtol": 1e-7},
    )
    found = jsd_smooth(rows[None], lengths=np.array([5]), strength=strength)[0]
    np.testing.assert_allclose(np.exp(found), np.exp(log_softmax(best.x.reshape(5, 3))), rtol=0, atol=1e-5)
    assert objective(found, np.exp(rows), strength) <= best.fun + 1e-12


@pytest.mark.parametrize("k", [2, 5, 20])
@pytest.mark.parametrize("scale", [1.0, 30.0, 3e4])
@pytest.mark.parametrize("strength", [0.01, 1.0, 8.0, 100.0, 1e4])
def test_the_gradient_vanishes_however_certain_the_rows_and_however_strong_the_pull(
    k: int, scale: float, strength: float
) -> None:
    rows = drawn(4, 20, k, scale=scale)
    smoothed = jsd_smooth(rows, lengths=np.full(4, 20), strength=strength)
    _, left, right = jensen_shannon(smoothed[:, :-1], smoothed[:, 1:])
    gradient = np.exp(smoothed) - np.exp(rows)
    gradient[:, :-1] += strength * left
    gradient[:, 1:] += strength * right
    assert np.isfinite(smoothed).all()
    assert np.abs(gradient).max() < 1e-9 * (1.0 + strength)


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("strength", [0.01, 1e7])
def test_a_few_steps_suffice(scale: float, strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, lengths = drawn(4, 20, 5, scale=scale), np.full(4, 20)
    unhurried = jsd_smooth(rows, lengths=lengths, strength=strength)
    monkeypatch.setattr(smoothing, "MAX_ITERATIONS", 20)
    np.testing.assert_array_equal(jsd_smooth(rows, lengths=lengths, strength=strength), unhurried)


def test_more_strength_leaves_less_divergence() -> None:
    rows, lengths = drawn(scale=5.0), np.full(4, 6)
    left = [
        adjacent_jsd(jsd_smooth(rows, lengths=lengths, strength=s), lengths=lengths).sum()
        for s in (0.0, 0.1, 1.0, 10.0)
    ]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.1 * left[0]


# ------------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize("garbage", [0.0, -3e38, 3e38, np.nan, np.inf])
def test_what_stands_in_the_padding_is_never_looked_at_and_comes_back_uniform(garbage: float) -> None:
    rows = drawn()
    padding = np.arange(6) >= LENGTHS[:, None]
    other = np.where(padding[..., None], garbage, rows)
    for before, after in zip(smoothers(rows, LENGTHS), smoothers(other, LENGTHS), strict=True):
        np.testing.assert_array_equal(before, after)
        np.testing.assert_allclose(after[padding], -np.log(3.0), rtol=1e-14)
    np.testing.assert_array_equal(adjacent_jsd(other, lengths=LENGTHS), adjacent_jsd(rows, lengths=LENGTHS))


def test_a_sequence_is_smoothed_alike_alone_unpadded_and_in_a_batch() -> None:
    rows = drawn(scale=6.0)
    together = smoothers(rows, LENGTHS)
    for i, length in enumerate(LENGTHS):
        for batch, alone in zip(together, smoothers(rows[i : i + 1, :length], np.array([length])), strict=True):
            np.testing.assert_allclose(batch[i, :length], alone[0], rtol=0, atol=1e-10)


def test_smoothed_rows_are_distributions_and_the_order_of_classes_does_not_matter() -> None:
    rows, order = drawn(), np.array([2, 0, 1])
    for smoothed in smoothers(rows, LENGTHS):
        np.testing.assert_allclose(np.exp(smoothed).sum(axis=2), 1.0, rtol=1e-12)
    renamed = jsd_smooth(rows[..., order], lengths=LENGTHS, strength=3.0)
    np.testing.assert_allclose(renamed, smoothers(rows, LENGTHS)[1][..., order], rtol=0, atol=1e-9)


def test_a_position_alone_has_no_neighbour_to_listen_to() -> None:
    rows = drawn(length=1)
    np.testing.assert_allclose(
        jsd_smooth(rows, lengths=np.ones(4, dtype=np.intp), strength=9.0), rows, rtol=0, atol=1e-12
    )
    shifted = forward_backward(rows, lengths=np.ones(4, dtype=np.intp), prevalence=prevalence(), transitions=chain())
    expected = log_softmax(rows[:, 0] - np.log(prevalence()) + np.log(chain().initial))
    np.testing.assert_allclose(shifted[:, 0], expected, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------ minimum-cost path


def path_cost(risks: Array, path: tuple[int, ...], switch: float) -> float:
    changes = sum(a != b for a, b in pairwise(path))
    return float(risks[np.arange(len(path)), path].sum() + switch * changes)


@pytest.mark.parametrize("switch", [0.0, 0.1, 0.5, 3.0])
def test_no_path_is_cheaper(switch: float) -> None:
    risks = np.random.default_rng(0).normal(size=(20, 6, 3))
    lengths = np.random.default_rng(1).integers(1, 7, size=20)
    found = min_cost_path(risks, lengths=lengths, switch=switch)
    assert found.dtype == np.intp
    for row, length, path in zip(risks, lengths, found, strict=True):
        best = min(product(range(3), repeat=length), key=lambda p: path_cost(row[:length], p, switch))
        assert tuple(path[:length]) == best
        assert (path[length:] == PADDING).all()


@pytest.mark.parametrize("switch", [0.0, 1.0, 2.0])
def test_of_equally_cheap_paths_the_first_in_order_of_index_wins(switch: float) -> None:
    risks = np.random.default_rng(0).integers(0, 3, size=(60, 5, 3)).astype(np.float64)
    for row, path in zip(risks, min_cost_path(risks, lengths=np.full(60, 5), switch=switch), strict=True):
        costs = {p: path_cost(row, p, switch) for p in product(range(3), repeat=5)}
        assert tuple(path) == min(p for p, cost in costs.items() if cost == min(costs.values()))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_where_changing_is_free_every_position_gets_its_best_action(scale: float) -> None:
    risks = np.random.default_rng(0).normal(size=(30, 50, 4))
    risks[:, :, 1] = risks[:, :, 3] + 1e-8  # a tie by the rule, where there is a scale
    path = min_cost_path(risks, lengths=np.full(30, 50), switch=0.0, scale=scale)
    alone, _ = best_action(risks.reshape(-1, 4), scale=scale)
    np.testing.assert_array_equal(path.ravel(), alone)


def test_paths_within_the_band_go_to_the_lowest_index_and_cost_no_more_than_the_band() -> None:
    risks = 0.5 + 1e-9 * np.random.default_rng(0).normal(size=(10, 200, 3))
    loose, strict = (min_cost_path(risks, lengths=np.full(10, 200), switch=1e-8, scale=s) for s in (1.0, 0.0))
    np.testing.assert_array_equal(loose, 0)
    assert (strict != 0).any()
    for row, path, best in zip(risks, loose, strict, strict=True):
        assert 0.0 <= path_cost(row, tuple(path), 1e-8) - path_cost(row, tuple(best), 1e-8) + 1e-12 <= 200 * 1e-6


def test_a_dear_change_keeps_the_action_that_is_cheapest_over_the_whole_sequence() -> None:
    risks = np.random.default_rng(0).normal(size=(20, 30, 4))
    path = min_cost_path(risks, lengths=np.full(20, 30), switch=1e6)
    np.testing.assert_array_equal(path, np.repeat(risks.sum(axis=1).argmin(axis=1)[:, None], 30, axis=1))


def test_a_longer_sequence_loses_no_digits_of_its_first_decision() -> None:
    risks = np.full((1, 20_000, 2), 1e6)
    risks[0, 0] = [1e6 + 1e-6, 1e6]
    assert min_cost_path(risks, lengths=np.array([20_000]), switch=0.0)[0, 0] == 1


# ----------------------------------------------------------------------------------------------- segments, divergence


def test_segments_are_those_of_a_loop() -> None:
    labels = np.random.default_rng(0).integers(0, 2, size=(30, 12))
    lengths = np.random.default_rng(1).integers(1, 13, size=30)
    found = segments(labels, lengths=lengths)
    for row, length, count, runs in zip(labels, lengths, found.counts, found.lengths, strict=True):
        breaks = np.flatnonzero(np.diff(row[:length])) + 1
        expected = np.diff([0, *breaks, length])
        assert count == len(expected)
        np.testing.assert_array_equal(runs[:count], expected)
        np.testing.assert_array_equal(runs[count:], 0)
    np.testing.assert_array_equal(found.lengths.sum(axis=1), lengths)


def test_divergence_is_that_of_neighbours_who_are_both_there() -> None:
    rows = drawn()
    found = adjacent_jsd(rows, lengths=LENGTHS)
    assert found.shape == (4, 5)
    for i, t in np.ndindex(found.shape):
        expected = jensen_shannon(rows[i, t], rows[i, t + 1])[0] if t + 1 < LENGTHS[i] else 0.0
        assert found[i, t] == pytest.approx(expected, abs=1e-15)
