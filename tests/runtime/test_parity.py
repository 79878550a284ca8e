"""Bands that cover a provider: noise of the size that was measured moves no calibration row over an edge."""

import dataclasses
from typing import Final

import numpy as np
import pytest

from service.core.calibration.temperature import Temperature
from service.core.conformal import reference, threshold
from service.core.detector import Detector
from service.core.label_sets import fit as fit_sets
from service.core.label_sets import own_log_probs
from service.core.mondrian import references_by_class, thresholds_by_class, with_fallback
from service.core.numerics import Array
from service.core.ood import Score
from service.core.ood.logit_scores import Energy
from service.core.ood.nll import Nll
from service.core.pipeline import Chain, Policy, Posterior, choose, postprocess
from service.runtime.parity import SAFETY, Difference, Parity

N, K, NOISE = 400, 4, 1e-4
NOTHING: Final = np.empty((N, 0))
LOGITS: Final = 3.0 * np.random.default_rng(0).normal(size=(N, K))
MOVED: Final = LOGITS + NOISE * np.random.default_rng(1).uniform(-1.0, 1.0, size=(N, K))


def chain(*, by_class: bool = False) -> Chain:
    detectors = []
    own_scores: dict[str, Score] = {"nll": Nll(), "energy": Energy()}
    for name, score in own_scores.items():
        scores, top = score.score(LOGITS), LOGITS.argmax(axis=1)
        whole = reference(scores)
        limit = whole.covering(threshold(whole, alpha=0.05))
        groups = references_by_class(scores, top, classes=K)
        own = [g.covering(t) for g, t in zip(groups, thresholds_by_class(groups, alpha=0.05), strict=True)]
        parts = with_fallback(groups, np.array(own), among=whole, usual=limit) if by_class else None
        detectors.append(Detector(name, score, whole, limit, True, parts))
    return Chain(tuple(detectors), np.empty(0), np.empty(0), False, Temperature(1.5), True)


def posterior(own: Chain, logits: Array) -> Posterior:
    return postprocess(own, logits, NOTHING[: len(logits)], features=logits)


def parity(own: Chain) -> Parity:
    return Parity(N, 1e-3, Difference.between(posterior(own, LOGITS), posterior(own, MOVED)), 0.0)


def test_equal_answers_are_not_apart() -> None:
    same = posterior(chain(), LOGITS)
    found = Difference.between(same, same)
    assert (found.logits, found.probabilities, found.scores) == (0.0, 0.0, (0.0, 0.0))


def test_a_difference_is_relative_to_the_size_of_its_row() -> None:
    one = posterior(chain(), np.array([[9.0, 0.0, 0.0, 0.0]]))
    other = posterior(chain(), np.array([[9.0, 0.1, 0.0, 0.0]]))
    assert Difference.between(one, other).logits == pytest.approx(0.01)


def test_the_larger_difference_of_two_counts() -> None:
    assert Difference(1.0, 2.0, (3.0, 0.0)).joined(Difference(2.0, 1.0, (1.0, 4.0))) == Difference(2.0, 2.0, (3.0, 4.0))


@pytest.mark.parametrize(("logits", "alone", "is_within"), [(1e-5, 0.0, True), (2e-5, 0.0, False), (0.0, 2e-5, False)])
def test_both_the_cpu_and_the_other_rows_must_be_within_the_tolerance(logits, alone, is_within) -> None:
    assert Parity(4, 1e-5, Difference(logits, 0.0, ()), alone).is_within is is_within


@pytest.mark.parametrize("by_class", [False, True])
def test_no_calibration_row_is_flagged_on_one_provider_alone(*, by_class: bool) -> None:
    own = chain(by_class=by_class)
    wider = parity(own).widened(own)
    here, there = posterior(wider, LOGITS), posterior(wider, MOVED)
    np.testing.assert_array_equal(here.flags, there.flags)
    np.testing.assert_array_equal(here.flagged, there.flagged)


def test_bands_as_they_were_fitted_would_have_flagged_some_of_them() -> None:
    own = chain()
    at_the_edge = own.detectors[0].threshold
    assert at_the_edge is not None
    scores = posterior(own, MOVED).scores[:, 0]
    assert (np.abs(scores - at_the_edge) < SAFETY * NOISE).any()


def test_edges_only_rise_so_that_p_values_stay_valid() -> None:
    own = chain()
    for before, after in zip(own.detectors, parity(own).widened(own).detectors, strict=True):
        assert before.calibration is not None
        assert after.calibration is not None
        assert (after.calibration.caps >= before.calibration.caps).all()
        assert after.threshold is not None
        assert before.threshold is not None
        assert after.threshold >= before.threshold


def test_an_uncalibrated_detector_has_no_band_to_widen() -> None:
    own = Chain((Detector("nll", Nll(), None, None, True),), np.empty(0), np.empty(0), False, Temperature(1.0), False)
    assert Parity(4, 1.0, Difference(0.1, 0.1, (0.1,)), 0.0).widened(own) == own


def test_actions_that_cost_the_same_are_tied_on_both_providers() -> None:
    own, never = chain(), np.zeros(N, dtype=np.bool_)
    policy = Policy("p", "manifest", ("a", "b"), np.array([[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]), None)
    even = LOGITS.copy()
    even[:, 0] = 1.5 * np.log(np.exp(LOGITS[:, 1:] / 1.5).sum(axis=1))  # at the temperature, half of the probability
    moved = even + (MOVED - LOGITS)
    found = Parity(N, 1e-3, Difference.between(posterior(own, even), posterior(own, moved)), 0.0)
    wider, there = dataclasses.replace(policy, ties=found.ties), posterior(own, moved).log_probs
    assert choose(there, policy, flagged=never).action.tolist().count(1) > 0
    assert choose(posterior(own, even).log_probs, wider, flagged=never).action.tolist() == [0] * N
    assert choose(there, wider, flagged=never).action.tolist() == [0] * N


def test_a_band_is_never_narrower_than_on_the_cpu() -> None:
    assert Parity(4, 1.0, Difference(0.0, 0.0, ()), 0.0).ties == 1.0


def test_a_label_at_the_edge_of_a_set_is_in_it_on_both_providers() -> None:
    labels = LOGITS.argmax(axis=1)
    sets = fit_sets(own_log_probs(LOGITS), labels, method="lac")
    wider = parity(chain()).sets(sets)
    here = wider.predict(own_log_probs(LOGITS), coverage=0.9, top=labels).members
    there = wider.predict(own_log_probs(MOVED), coverage=0.9, top=MOVED.argmax(axis=1)).members
    own = np.arange(N), labels
    np.testing.assert_array_equal(here[own], there[own])
    narrow = sets.predict(own_log_probs(LOGITS), coverage=0.9, top=labels).members
    assert (here >= narrow).all()
