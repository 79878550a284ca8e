from dataclasses import replace

import numpy as np
import pytest

from service.core.calibration.temperature import Temperature
from service.core.decision import OOD_UNAVAILABLE, decide
from service.core.detector import Detector
from service.core.numerics import log_softmax
from service.core.ood.nll import Nll
from service.core.pipeline import Chain, Policy
from service.core.sequence import (
    SMOOTHERS,
    decide_positions,
    flat,
    lengths_of,
    padded,
    postprocess_sequences,
    row_sums,
    smooth,
)
from service.core.smoothing import Transitions, forward_backward

LENGTHS = np.array([4, 1, 3])
LOGITS = np.random.default_rng(0).normal(scale=2.0, size=(3, 4, 3))
NONE = np.empty((3, 0))
CHAIN = Chain((Detector("nll", Nll(), None, None, gated=True),), NONE[0], NONE[0], False, Temperature(2.0), False)
POLICY = Policy("p", "manifest", ("a", "b"), np.array([[0.0, 1.0, 2.0], [1.0, 0.5, 0.0]]), None)


def test_flat_and_padded_undo_each_other_and_sums_are_those_of_a_loop() -> None:
    values = flat(LOGITS, LENGTHS)
    assert values.shape == (8, 3)
    back = padded(values, LENGTHS, length=4)
    for i, n in enumerate(LENGTHS):
        np.testing.assert_array_equal(back[i, :n], LOGITS[i, :n])
        assert not back[i, n:].any()
    expected = [LOGITS[i, :n, 0].sum() for i, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(row_sums(values[:, 0], LENGTHS), expected, rtol=1e-12)


@pytest.mark.parametrize("garbage", [np.nan, 1e300])
def test_padding_is_never_looked_at(garbage: float) -> None:
    dirty = LOGITS.copy()
    for i, n in enumerate(LENGTHS):
        dirty[i, n:] = garbage
    clean, padded_with_noise = (postprocess_sequences(CHAIN, z, NONE, lengths=LENGTHS) for z in (LOGITS, dirty))
    np.testing.assert_array_equal(clean.log_probs, padded_with_noise.log_probs)
    np.testing.assert_array_equal(clean.scores, padded_with_noise.scores)


def test_positions_are_calibrated_one_by_one_and_scored_as_a_mean() -> None:
    found = postprocess_sequences(CHAIN, LOGITS, NONE, lengths=LENGTHS)
    for i, n in enumerate(LENGTHS):
        np.testing.assert_allclose(found.log_probs[i, :n], log_softmax(LOGITS[i, :n] / 2.0), rtol=0, atol=1e-12)
        assert found.scores[i, 0] == pytest.approx(Nll().score(LOGITS[i, :n]).mean())
    np.testing.assert_array_equal(lengths_of(found), LENGTHS)
    with pytest.raises(ValueError, match="no sequences"):
        lengths_of(replace(found, lengths=None))


@pytest.mark.parametrize("name", SMOOTHERS)
def test_a_smoother_declares_whether_it_keeps_calibration_and_what_it_needs(name: str) -> None:
    log_probs = log_softmax(LOGITS.reshape(-1, 3)).reshape(LOGITS.shape)
    chain = Transitions(np.full(3, 1 / 3), np.full((3, 3), 1 / 3))
    found = smooth(name, log_probs, lengths=LENGTHS, prevalence=np.full(3, 1 / 3), transitions=chain)
    same = np.allclose(flat(found, LENGTHS), flat(log_probs, LENGTHS), rtol=0, atol=1e-9)
    assert same == SMOOTHERS[name].keeps_calibration  # a chain that says nothing has nothing to add
    if SMOOTHERS[name].chained:
        with pytest.raises(ValueError, match="needs a transition matrix"):
            smooth(name, log_probs, lengths=LENGTHS)


def test_hmm_is_forward_backward() -> None:
    log_probs = log_softmax(LOGITS.reshape(-1, 3)).reshape(LOGITS.shape)
    chain = Transitions(np.array([0.5, 0.3, 0.2]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]))
    prevalence = np.array([0.4, 0.3, 0.3])
    found = smooth("hmm", log_probs, lengths=LENGTHS, prevalence=prevalence, transitions=chain)
    expected = forward_backward(log_probs, lengths=LENGTHS, prevalence=prevalence, transitions=chain)
    np.testing.assert_array_equal(found, expected)


def test_without_a_price_positions_are_decided_alone() -> None:
    log_probs = log_softmax(LOGITS.reshape(-1, 3)).reshape(LOGITS.shape)
    plan = decide_positions(log_probs, POLICY, lengths=LENGTHS)
    alone = decide(flat(log_probs, LENGTHS), POLICY.cost)
    np.testing.assert_array_equal(plan.decisions.action, alone.action)
    starts = np.cumsum(LENGTHS) - LENGTHS
    for i, (start, n) in enumerate(zip(starts, LENGTHS, strict=True)):
        own = alone.action[start : start + n]
        assert plan.switches[i] == (own[1:] != own[:-1]).sum()
        assert plan.total[i] == pytest.approx(alone.risks[np.arange(start, start + n), own].sum())


def test_a_price_too_high_to_pay_leaves_one_action_a_sequence() -> None:
    log_probs = log_softmax(LOGITS.reshape(-1, 3)).reshape(LOGITS.shape)
    plan = decide_positions(log_probs, replace(POLICY, switch=1e6), lengths=LENGTHS)
    assert plan.switches.tolist() == [0, 0, 0]


def test_with_unknown_flags_every_position_is_handed_over() -> None:
    log_probs = log_softmax(LOGITS.reshape(-1, 3)).reshape(LOGITS.shape)
    plan = decide_positions(log_probs, replace(POLICY, on_ood=1, switch=1.0), lengths=LENGTHS, flagged=None)
    assert (plan.decisions.action == 1).all()
    assert (plan.decisions.reason == OOD_UNAVAILABLE).all()


# ------------------------------------------------------------------------------------- rounding, and what is at stake


def planned(p: list[list[float]], cost: list[list[float]], *, switch: float) -> list[int]:
    policy = Policy("p", "manifest", ("dismiss", "biopsy"), np.array(cost), None, switch)
    plan = decide_positions(np.log(np.array([p])), policy, lengths=np.array([len(p)]))
    return [int(action) for action in plan.decisions.action]


@pytest.mark.parametrize("switch", [0.0, 0.5, 100.0])
def test_a_cost_of_a_class_that_is_as_good_as_impossible_widens_no_band_along_a_path(switch: float) -> None:
    p = [[0.045, 0.955, 3e-15]] * 4
    assert planned(p, [[0.0, 50.0, 1e9], [1.0, 1.0, 1.0]], switch=switch) == [1, 1, 1, 1]


def test_what_is_at_stake_behind_a_position_does_not_decide_by_its_rounding() -> None:
    rng = np.random.default_rng(0)
    cost = np.array([[0.1, 0.1, 0.7], [0.3, 0.3, 0.1]])
    tied = np.array([0.75, 0.0, 0.25]) + 1e-16  # both actions cost 0.25
    for _ in range(200):
        moved = tied * (1.0 + 1e-15 * rng.uniform(-1.0, 1.0, size=3))
        free = [1e-15, 1e-15, 1.0 - 2e-15]
        first, *_ = planned([[1e-14, 1.0 - 2e-14, 1e-14], moved.tolist(), free], cost.tolist(), switch=1e-3)
        assert first == 0


def test_a_cost_that_is_the_same_in_every_class_is_the_risk_of_every_position() -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(3), size=(2, 5))
    policy = Policy("p", "manifest", ("a", "b"), np.array([[0.0, 50.0, 3.0], [1.0, 1.0, 1.0]]), None, 0.5)
    plan = decide_positions(np.log(p), policy, lengths=np.array([5, 3]))
    assert set(plan.decisions.risks[:, 1].tolist()) == {1.0}
