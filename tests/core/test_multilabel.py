import numpy as np
import pytest

from service.core import prior
from service.core.calibration.identity import Identity
from service.core.calibration.platt import Platt
from service.core.decision import OOD, decide
from service.core.inverse import PositiveWeight
from service.core.multilabel import LabelChain, PerLabel, at_prevalence, decide_labels, shares_of
from service.core.numerics import log_softmax, two_column
from service.core.pipeline import Policy

LOG_ODDS = np.random.default_rng(0).normal(scale=3.0, size=(40, 3))
BOTH = PerLabel((LabelChain(None, Identity()), LabelChain(PositiveWeight(3.0), Platt(0.5, 1.0)))).apply(LOG_ODDS[:, :2])
WAIT = Policy("p", "manifest", ("wait", "ask"), np.array([[0.0, 5.0], [1.0, 1.0]]), 1)
ACT = Policy("p", "manifest", ("wait", "act"), np.array([[0.0, 5.0], [1.0, 0.0]]), None)


def test_every_label_has_a_chain_of_its_own_and_sees_no_other() -> None:
    np.testing.assert_array_equal(BOTH[:, 0], log_softmax(two_column(LOG_ODDS[:, 0])))
    undone = two_column(LOG_ODDS[:, 1] - np.log(3.0))
    np.testing.assert_array_equal(BOTH[:, 1], Platt(0.5, 1.0).apply(undone))
    np.testing.assert_allclose(np.exp(BOTH).sum(axis=2), 1.0, rtol=1e-12)


def test_every_label_moves_to_its_own_share_and_back() -> None:
    source, target = shares_of(np.array([0.3, 0.6])), shares_of(np.array([0.9, 0.6]))
    moved = at_prevalence(BOTH, source=source, target=target)
    np.testing.assert_array_equal(moved[:, 0], prior.shift(BOTH[:, 0], source=source[0], target=target[0]))
    np.testing.assert_array_equal(moved[:, 1], BOTH[:, 1])
    np.testing.assert_allclose(at_prevalence(moved, source=target, target=source), BOTH, rtol=0, atol=1e-12)


def test_without_a_target_nothing_moves_and_without_a_source_nothing_can() -> None:
    assert at_prevalence(BOTH, source=None, target=None) is BOTH
    with pytest.raises(ValueError, match="source prevalence is unknown"):
        at_prevalence(BOTH, source=None, target=shares_of(np.array([0.5, 0.5])))


def test_labels_are_decided_one_by_one_and_a_flag_is_of_the_row() -> None:
    flagged = np.arange(40) % 4 == 0
    made = decide_labels(BOTH, {0: WAIT, 1: ACT}, flagged=flagged)
    for m, policy in ((0, WAIT), (1, ACT)):
        alone = decide(BOTH[:, m], policy.cost, on_ood=policy.on_ood, flagged=flagged)
        np.testing.assert_array_equal(made[m].action, alone.action)
        np.testing.assert_array_equal(made[m].risks, alone.risks)
    assert (made[0].reason[flagged] == OOD).all()
    assert not (made[1].reason == OOD).any()
