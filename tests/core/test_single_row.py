"""Every shortcut of one row answers as the general path answers the same row in a batch of two."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core import conformal, decision, fused, single_row
from service.core.calibration.identity import Identity
from service.core.calibration.temperature import Temperature
from service.core.costs import priced
from service.core.decision import Decisions
from service.core.detector import Detector
from service.core.numerics import Array, Flags, log_softmax
from service.core.ood import SCORES
from service.core.ood.mahalanobis import Mahalanobis
from service.core.pipeline import Chain, Policy, Posterior, choose, postprocess
from service.core.single_row import FEW_ACTIONS, FEW_CLASSES

FEATURES = 4
SWEPT, ON_LOGITS, ON_FEATURES = ("nll", "energy", "max_logit"), ("entropy", "gen", "margin"), ("mahalanobis", "knn")
NAMES = (*SWEPT, *ON_LOGITS, *ON_FEATURES)

numbers = st.floats(-300.0, 300.0, allow_subnormal=False)
logits_of_a_row = st.integers(2, FEW_CLASSES).flatmap(lambda k: arrays(np.float64, (1, k), elements=numbers))
features_of_a_row = arrays(np.float64, (1, FEATURES), elements=st.floats(-30.0, 30.0))
flags_of_a_row = st.sampled_from([None, np.array([True]), np.array([False])])
cost_tables = st.tuples(st.integers(2, FEW_ACTIONS), st.integers(2, FEW_CLASSES)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([-2.0, 0.0, 0.3, 1.0, 1.0 + 1e-9, 50.0, 1e6]))
)


def detector(name: str, classes: int, *, calibrated: bool = True, gated: bool = True) -> Detector:
    """A detector fitted on rows of normal features; its reference is thinned, as of many calibration rows."""
    rng = np.random.default_rng(classes)
    features = rng.normal(size=(600, FEATURES))
    logits = features @ rng.normal(size=(FEATURES, classes))
    values = features if SCORES[name].needs == "features" else logits
    score = SCORES[name].fit(values[:300], logits[:300].argmax(axis=1))
    if not calibrated:
        return Detector(name, score, None, None, gated)
    known = conformal.reference(score.score(values[300:]), limit=100)
    return Detector(name, score, known, conformal.threshold(known, alpha=0.1), gated)


def chain_of(*detectors: Detector, calibrated: bool = True, range_gated: bool = False, bare: bool = False) -> Chain:
    wide = np.full(FEATURES, 20.0)
    return Chain(detectors, -wide, wide, range_gated, Identity() if bare else Temperature(1.7), calibrated)


def assert_same(alone: object, both: object) -> None:
    """Fields of one row beside those of two equal rows: same types, same shapes, same values to rounding."""
    assert isinstance(alone, Decisions | Posterior)
    for name in (field.name for field in dataclasses.fields(alone)):
        one, two = getattr(alone, name), getattr(both, name)
        assert (one is None) == (two is None), name
        if one is not None:
            assert (one.dtype, one.shape) == (two.dtype, two[:1].shape), name
            np.testing.assert_allclose(one, two[:1], rtol=1e-9, atol=1e-9, err_msg=name)


# ------------------------------------------------------------------------------------------------------ stages A to C


@given(
    logits=logits_of_a_row,
    features=features_of_a_row,
    names=st.sets(st.sampled_from(NAMES), min_size=1),
    range_gated=st.booleans(),
    bare=st.booleans(),
)
def test_one_row_has_the_posterior_that_it_has_in_a_batch(
    logits: Array, features: Array, names: set[str], *, range_gated: bool, bare: bool
) -> None:
    detectors = [detector(name, logits.shape[1], gated=i != 1) for i, name in enumerate(sorted(names))]
    chain = chain_of(*detectors, range_gated=range_gated, bare=bare)
    alone, both = (postprocess(chain, np.repeat(logits, n, 0), np.repeat(features, n, 0)) for n in (1, 2))
    assert_same(alone, both)


@given(logits_of_a_row, features_of_a_row)
def test_one_row_of_an_uncalibrated_version_has_the_posterior_that_it_has_in_a_batch(
    logits: Array, features: Array
) -> None:
    bare = (detector(name, logits.shape[1], calibrated=False) for name in ("nll", "mahalanobis"))
    chain = chain_of(*bare, calibrated=False)
    alone, both = (postprocess(chain, np.repeat(logits, n, 0), np.repeat(features, n, 0)) for n in (1, 2))
    assert_same(alone, both)


@pytest.mark.parametrize("cell", [np.nan, np.inf, 1e200])
def test_a_distance_that_is_no_number_is_the_farthest_alone_and_in_a_batch(cell: float) -> None:
    chain, features = chain_of(detector("mahalanobis", 2)), np.array([[cell, 0.0, 0.0, 0.0]])
    alone, both = (postprocess(chain, np.zeros((n, 2)), np.repeat(features, n, 0)) for n in (1, 2))
    assert_same(alone, both)
    assert alone.flagged is not None
    assert alone.flagged.tolist() == [True]


@given(logits_of_a_row, st.sampled_from([0.05, 1.0, 1.7, 40.0]))
def test_the_softmax_of_one_row_is_that_of_the_sweep(logits: Array, temperature: float) -> None:
    top, nll, log_probs, probabilities = single_row.softmax(logits[0].tolist(), temperature=temperature)
    swept = fused.softmax(logits, temperature=temperature)
    assert top == swept.top[0]
    np.testing.assert_allclose(nll, swept.nll[0], rtol=1e-12)
    np.testing.assert_allclose(log_probs, swept.log_probs[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(probabilities, swept.probabilities[0], rtol=1e-10, atol=1e-300)


def test_what_a_certain_row_leaves_to_other_classes_is_not_lost_beside_one() -> None:
    _, nll, log_probs, _ = single_row.softmax([0.0, 40.0, 0.0], temperature=1.0)
    assert nll == pytest.approx(2.0 * np.exp(-40.0), rel=1e-13)
    assert -log_probs[1] == pytest.approx(2.0 * np.exp(-40.0), rel=1e-13)


def test_the_logits_of_a_row_are_left_as_they_came() -> None:
    logits = np.array([[0.5, 2.0]])
    postprocess(chain_of(detector("nll", 2)), logits, np.zeros((1, FEATURES)))
    assert logits.tolist() == [[0.5, 2.0]]


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0, 7.0])),
    st.sampled_from([10, 10_000]),
    st.sampled_from([-1.0, 0.0, 0.1, 0.3, 1.0, 7.0, 9.0]),
)
def test_the_p_value_of_one_score_is_that_of_a_batch(scores: Array, limit: int, score: float) -> None:
    known = conformal.reference(scores, limit=limit)
    assert single_row.p_value(known, score) == conformal.p_values(known, np.array([score]))[0]


@given(features_of_a_row, st.integers(2, 5))
def test_the_distance_of_one_row_is_that_of_a_batch(features: Array, classes: int) -> None:
    score = detector("mahalanobis", classes).score
    assert isinstance(score, Mahalanobis)
    assert single_row.squared_distance(score, features) == pytest.approx(score.score(features)[0], rel=1e-12)


# ------------------------------------------------------------------------------------------------------------- stage E


@given(cost_tables, st.sampled_from([None, 0, 1]), flags_of_a_row, st.integers(0, 99))
def test_one_row_is_decided_as_a_batch_decides_it(
    cost: Array, on_ood: int | None, flagged: Flags | None, seed: int
) -> None:
    spread = np.random.default_rng(seed).choice([0.0, 1.0, 30.0])
    log_p = log_softmax(spread * np.random.default_rng(seed).normal(size=(1, cost.shape[1])))
    alone = single_row.decide(np.exp(log_p), log_p, priced(cost), on_ood=on_ood, flagged=flagged)
    twice = None if flagged is None else np.repeat(flagged, 2)
    assert_same(alone, decision.decide(np.repeat(log_p, 2, 0), cost, on_ood=on_ood, flagged=twice))


def test_one_row_with_costs_of_its_own_is_decided_as_a_batch_decides_it() -> None:
    rng = np.random.default_rng(8)
    for log_p, cost in zip(log_softmax(rng.normal(size=(60, 3))), rng.normal(size=(60, 1, 4, 3)), strict=True):
        alone = choose(log_p[None], Policy("p", "request", tuple("abcd"), cost, 2), flagged=np.array([False]))
        assert_same(alone, decision.decide(np.stack([log_p] * 2), cost[0], on_ood=2, flagged=np.zeros(2, np.bool_)))


def test_what_decisions_of_single_rows_share_cannot_be_overwritten() -> None:
    half, policy = np.log([[0.5, 0.5]]), Policy("p", "manifest", ("a", "b"), np.array([[0.0, 5.0], [1.0, 1.0]]), 1)
    decided = choose(half, policy, flagged=np.array([False]))
    for shared in (decided.action, decided.reason, decided.least_cost):
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 1
