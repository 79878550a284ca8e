import dataclasses

import numpy as np
import pytest

from service.core.calibration.identity import Identity
from service.core.calibration.mixture import Mixed
from service.core.calibration.temperature import Temperature
from service.core.conformal import reference, threshold
from service.core.costs import class_ranges
from service.core.decision import REASONS, TIE_TOLERANCE, Decisions
from service.core.detector import Detector
from service.core.numerics import Array
from service.core.ood import SCORES
from service.core.ood.logit_scores import Energy, MaxLogit
from service.core.ood.nll import Nll
from service.core.pipeline import Chain, Policy, Posterior, at_prevalence, choose, postprocess
from service.core.prior import shift

ALPHA, FEATURES, CLASSES = 0.05, 4, 3
HEAD = np.random.default_rng(0).normal(size=(FEATURES, CLASSES))
UNBOUNDED = np.full(FEATURES, np.inf)
POLICY = Policy(
    "biopsy",
    "manifest",
    ("dismiss", "treat", "defer"),
    np.array([[0.0, 5.0, 50.0], [4.0, 1.0, 1.0], [3.0, 3.0, 3.0]]),
    2,
)
COSTS_ALONE = dataclasses.replace(POLICY, on_ood=None)


def rows_of(n: int, *, seed: int) -> tuple[Array, Array]:
    """Raw logits and features of rows from the training population."""
    features = np.random.default_rng(seed).normal(size=(n, FEATURES))
    return features @ HEAD, features


def detector(name: str, *, gate_size: int, gated: bool = True) -> Detector:
    train_logits, train_features = rows_of(400, seed=1)
    logits, features = rows_of(999, seed=2)
    on_features = SCORES[name].needs == "features"
    score = SCORES[name].fit(train_features if on_features else train_logits, train_logits.argmax(axis=1))
    calibration = reference(score.score(features if on_features else logits))
    return Detector(name, score, calibration, threshold(calibration, alpha=ALPHA / gate_size), gated)


def chain(*gate: str, beside: tuple[str, ...] = (), temperature: float = 1.7) -> Chain:
    """A calibrated chain whose detectors ``gate`` count and whose detectors ``beside`` are only reported."""
    inside = tuple(detector(name, gate_size=len(gate)) for name in gate)
    outside = tuple(detector(name, gate_size=1, gated=False) for name in beside)
    return Chain(inside + outside, -UNBOUNDED, UNBOUNDED, False, Temperature(temperature), True)


BOTH = chain("nll", "mahalanobis")
FAR = np.full((1, FEATURES), 30.0)


# ------------------------------------------------------------------------------------------------------- A: scores


def test_scores_are_those_of_raw_logits_whatever_the_calibrator() -> None:
    logits, features = rows_of(50, seed=3)
    warm, cold = chain("nll", temperature=9.0), chain("nll", temperature=0.3)
    np.testing.assert_array_equal(
        postprocess(warm, logits, features).scores, postprocess(cold, logits, features).scores
    )
    np.testing.assert_array_equal(postprocess(warm, logits, features).logits, logits)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_given_what_it_needs(name: str) -> None:
    logits, features = rows_of(50, seed=4)
    alone = chain(name)
    needed = features if SCORES[name].needs == "features" else logits
    np.testing.assert_array_equal(
        postprocess(alone, logits, features).scores[:, 0], alone.detectors[0].score.score(needed)
    )


@pytest.mark.parametrize(("n", "k"), [(1, 3), (50, 3), (50, 40), (50, 150)])
@pytest.mark.parametrize("name", [name for name, kind in SCORES.items() if kind in (Nll, Energy, MaxLogit)])
def test_a_score_that_the_softmax_gives_on_the_way_is_the_score(name: str, n: int, k: int) -> None:
    logits = 4.0 * np.random.default_rng(k).normal(size=(n, k))
    swept = Detector(name, SCORES[name](), None, None, True)
    assert swept.swept is not None
    bare = Chain((swept,), np.empty(0), np.empty(0), False, Temperature(1.7), False)
    found = postprocess(bare, logits, np.empty((n, 0))).scores[:, 0]
    np.testing.assert_allclose(found, swept.score.score(logits), rtol=1e-12 if k <= 100 else 1e-5)


@pytest.mark.parametrize("gate", [("nll",), ("mahalanobis",), ("nll", "mahalanobis")])
def test_a_row_is_flagged_exactly_when_the_joint_p_value_is_at_most_alpha(gate: tuple[str, ...]) -> None:
    logits, features = rows_of(3000, seed=5)
    answer = postprocess(chain(*gate), logits, features)
    assert answer.p_value is not None
    assert answer.flagged is not None
    np.testing.assert_array_equal(answer.flagged, answer.p_value <= ALPHA + 1e-12)
    assert 0.0 < answer.flagged.mean() < 2.0 * ALPHA


def test_the_joint_p_value_is_bonferronis() -> None:
    logits, features = rows_of(200, seed=6)
    answer = postprocess(BOTH, logits, features)
    assert answer.p_values is not None
    np.testing.assert_array_equal(answer.p_value, np.minimum(1.0, 2.0 * answer.p_values.min(axis=1)))


def test_a_far_row_is_flagged_though_the_model_is_certain() -> None:
    answer = postprocess(BOTH, FAR @ HEAD, FAR)
    assert answer.flags is not None
    np.testing.assert_array_equal(answer.flags, [[False, True]])
    np.testing.assert_array_equal(answer.flagged, [True])


def test_a_score_outside_the_gate_flags_itself_and_not_the_row() -> None:
    answer = postprocess(chain("nll", beside=("mahalanobis",)), FAR @ HEAD, FAR)
    assert answer.flags is not None
    assert answer.p_values is not None
    assert answer.flags[0, 1]
    np.testing.assert_array_equal(answer.flagged, [False])
    np.testing.assert_array_equal(answer.p_value, answer.p_values[:, 0])


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("value", [np.nan, 1e200])
def test_what_cannot_be_scored_does_not_pass_as_known(n: int, value: float) -> None:
    logits, features = rows_of(n, seed=7)
    features[0, 1] = value
    answer = postprocess(BOTH, logits, features)
    assert np.isfinite(answer.scores).all()
    assert answer.flagged is not None
    assert answer.flagged[0]


@pytest.mark.parametrize("gated", [True, False])
def test_a_value_outside_its_range_is_evidence_and_flags_where_the_gate_includes_it(*, gated: bool) -> None:
    logits, features = rows_of(2, seed=8)
    features[:, 2] = [0.0, 2.0]
    low, high = -UNBOUNDED, np.array([np.inf, np.inf, 1.0, np.inf])
    ranged = dataclasses.replace(chain("nll"), low=low, high=high, range_gated=gated)
    without = postprocess(chain("nll"), logits, features)
    answer = postprocess(ranged, logits, features)
    np.testing.assert_array_equal(answer.outside, [[False] * 4, [False, False, True, False]])
    assert without.flagged is not None
    np.testing.assert_array_equal(answer.flagged, without.flagged | (np.array([False, True]) & gated))
    np.testing.assert_array_equal(answer.p_value, without.p_value)


def test_a_gate_of_rules_alone_has_flags_and_no_p_value() -> None:
    logits, features = rows_of(3, seed=9)
    features[1, 0] = 99.0
    rules = Chain((), -UNBOUNDED, np.full(FEATURES, 50.0), True, Temperature(1.7), True)
    answer = postprocess(rules, logits, features)
    assert answer.p_value is None
    assert answer.scores.shape == (3, 0)
    np.testing.assert_array_equal(answer.flagged, [False, True, False])


def test_an_uncalibrated_version_has_scores_and_claims_nothing() -> None:
    logits, features = rows_of(5, seed=10)
    bare = tuple(dataclasses.replace(d, calibration=None, threshold=None) for d in BOTH.detectors)
    answer = postprocess(Chain(bare, -UNBOUNDED, UNBOUNDED, True, Identity(), False), logits, features)
    assert (answer.p_values, answer.flags, answer.p_value, answer.flagged) == (None, None, None, None)
    assert answer.scores.shape == (5, 2)


# -------------------------------------------------------------------------------------------------- C: calibration


def test_log_probs_are_the_calibrators() -> None:
    logits, features = rows_of(20, seed=11)
    posterior_of_rows = postprocess(BOTH, logits, features)
    np.testing.assert_allclose(posterior_of_rows.log_probs, Temperature(1.7).apply(logits), rtol=1e-13)
    assert posterior_of_rows.probabilities is not None
    np.testing.assert_allclose(posterior_of_rows.probabilities, np.exp(posterior_of_rows.log_probs), rtol=1e-13)


# ------------------------------------------------------------------------------------------ D, E: prevalence, action


def test_a_separable_versions_rows_are_mixed_alone_and_in_a_batch() -> None:
    of = dataclasses.replace(BOTH, calibrator=Mixed(Temperature(1e-3), 0.01))
    logits, features = rows_of(20, seed=5)
    together = postprocess(of, logits, features)
    alone = [postprocess(of, logits[i : i + 1], features[i : i + 1]) for i in range(20)]
    np.testing.assert_array_equal(together.log_probs, np.concatenate([row.log_probs for row in alone]))
    np.testing.assert_allclose(np.exp(together.log_probs).min(axis=1), 0.01 / CLASSES, rtol=1e-9)
    np.testing.assert_array_equal(together.probabilities, np.exp(together.log_probs))


def posterior_of_rows(*, n: int = 30, seed: int = 12) -> Posterior:
    return postprocess(BOTH, *rows_of(n, seed=seed))


SOURCE, TARGET = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.08, 0.02])


def test_without_a_target_nothing_is_shifted() -> None:
    log_probs = posterior_of_rows().log_probs
    assert at_prevalence(log_probs, source=SOURCE, target=None) is log_probs
    assert at_prevalence(log_probs, source=None, target=None) is log_probs


def test_a_target_shifts_the_posterior() -> None:
    log_probs = posterior_of_rows().log_probs
    np.testing.assert_array_equal(
        at_prevalence(log_probs, source=SOURCE, target=TARGET), shift(log_probs, source=SOURCE, target=TARGET)
    )


def test_a_target_without_a_known_source_is_refused() -> None:
    with pytest.raises(ValueError, match="source prevalence is unknown"):
        at_prevalence(posterior_of_rows().log_probs, source=None, target=TARGET)


def act(
    posterior: Posterior, policy: Policy, *, source: Array | None = None, target: Array | None = None
) -> tuple[Array, Decisions]:
    """Stages D and E."""
    log_probs = at_prevalence(posterior.log_probs, source=source, target=target)
    return log_probs, choose(log_probs, policy, flagged=posterior.flagged, known=posterior.known(log_probs))


def test_the_decision_is_taken_under_the_target_prevalence() -> None:
    posterior = posterior_of_rows(n=300)
    log_probs, decisions = act(posterior, COSTS_ALONE, source=SOURCE, target=TARGET)
    np.testing.assert_allclose(decisions.risks, np.exp(log_probs) @ POLICY.cost.T, rtol=1e-13)
    assert (decisions.action == 0).sum() > (act(posterior, COSTS_ALONE)[1].action == 0).sum()


def test_neither_prevalence_nor_costs_touch_the_posterior() -> None:
    posterior = posterior_of_rows()
    before = {f.name: np.copy(getattr(posterior, f.name)) for f in dataclasses.fields(posterior)}
    act(posterior, POLICY, source=SOURCE, target=TARGET)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(posterior, name), value)


def test_the_policy_defines_what_a_flag_does() -> None:
    posterior = postprocess(BOTH, FAR @ HEAD, FAR)
    handed, kept = act(posterior, POLICY)[1], act(posterior, COSTS_ALONE)[1]
    assert (handed.action[0], REASONS[handed.reason[0]]) == (2, "ood")
    assert handed.least_cost[0] == kept.action[0] != 2
    assert REASONS[kept.reason[0]] == "lowest_risk"


def test_an_uncalibrated_version_hands_every_row_over() -> None:
    uncalibrated = dataclasses.replace(BOTH, calibrated=False, calibrator=Identity())
    decisions = act(postprocess(uncalibrated, *rows_of(4, seed=13)), POLICY)[1]
    np.testing.assert_array_equal(decisions.action, [2, 2, 2, 2])
    assert {REASONS[r] for r in decisions.reason} == {"ood_unavailable"}


# ------------------------------------------------------------------------------------------------- batch invariance


RANGED = dataclasses.replace(BOTH, high=np.full(FEATURES, 2.0), range_gated=True)
WITHOUT_GATE = dataclasses.replace(BOTH, detectors=tuple(dataclasses.replace(d, gated=False) for d in BOTH.detectors))
UNCALIBRATED = dataclasses.replace(BOTH, calibrator=Identity(), calibrated=False)


@pytest.mark.parametrize("of", [BOTH, RANGED, WITHOUT_GATE, UNCALIBRATED], ids=["both", "ranged", "no gate", "bare"])
def test_the_posterior_of_a_row_is_the_same_alone_and_in_a_batch(of: Chain) -> None:
    logits, features = rows_of(60, seed=15)
    features[3, 1] = np.nan
    batch = postprocess(of, logits, features)
    for i in range(60):
        alone, row = postprocess(of, logits[i : i + 1], features[i : i + 1]), batch[i : i + 1]
        for name in (f.name for f in dataclasses.fields(Posterior)):
            one, other = getattr(alone, name), getattr(row, name)
            assert (one is None) == (other is None), name
            if one is not None:
                assert one.dtype == other.dtype, name
                np.testing.assert_allclose(one, other, rtol=1e-12, err_msg=name)


def test_actions_and_flags_of_a_row_are_the_same_alone_and_in_a_batch() -> None:
    logits, features = rows_of(400, seed=14)
    features[::7] *= 5.0
    logits = features @ HEAD
    batch = postprocess(BOTH, logits, features)
    decided = act(batch, POLICY, source=SOURCE, target=TARGET)[1]
    assert batch.flagged is not None
    assert 0 < batch.flagged.sum() < 400
    for i in range(400):
        one = postprocess(BOTH, logits[i : i + 1], features[i : i + 1])
        assert one.flagged is not None
        assert one.flagged[0] == batch.flagged[i]
        alone = act(one, POLICY, source=SOURCE, target=TARGET)[1]
        assert (alone.action[0], alone.reason[0]) == (decided.action[i], decided.reason[i])
        np.testing.assert_allclose(one.log_probs[0], batch.log_probs[i], rtol=1e-12, atol=1e-14)


def test_rounding_of_a_graph_to_float32_changes_no_action_outside_the_tie_band() -> None:
    logits, features = rows_of(2000, seed=15)
    narrowed = logits.astype(np.float32).astype(np.float64)
    exact = act(postprocess(BOTH, logits, features), COSTS_ALONE)[1]
    single = act(postprocess(BOTH, narrowed, features), COSTS_ALONE)[1]
    clear = exact.margin > 4.0 * TIE_TOLERANCE * class_ranges(POLICY.cost).max(axis=-1)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(single.action[clear], exact.action[clear])


def test_no_rows_are_answered_with_no_rows() -> None:
    answer = postprocess(BOTH, np.empty((0, CLASSES)), np.empty((0, FEATURES)))
    assert answer.scores.shape == (0, 2)
    assert len(act(answer, POLICY)[1].action) == 0


@pytest.mark.parametrize("n", [1, 7])
def test_nll_keeps_a_temperature_of_its_own(n: int) -> None:
    logits, features = rows_of(n, seed=3)
    tempered = Nll(np.array(4.0))
    tuned = dataclasses.replace(detector("nll", gate_size=1), score=tempered)
    found = postprocess(dataclasses.replace(chain("nll"), detectors=(tuned,)), logits, features)
    np.testing.assert_allclose(found.scores[:, 0], tempered.score(logits), rtol=1e-12)
