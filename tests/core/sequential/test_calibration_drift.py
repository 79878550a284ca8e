import numpy as np
import pytest

from service.core.numerics import log_softmax
from service.core.sequential import TESTS
from service.core.sequential.calibration_drift import Intercept, Slope, log_shifted, log_sloped
from tests.core.sequential.lives import World, calibration_lives, first_alarm

RNG = np.random.default_rng(0)
LOG_PROBS = log_softmax(RNG.normal(0.0, 2.0, size=(60, 3)))
LABELS = RNG.integers(3, size=60)


def test_probabilities_of_all_labels_sum_to_one_at_every_slope_and_intercept() -> None:
    points = np.array([-1.0, 0.0, 2.0])
    slopes = sum(np.exp(log_sloped(LOG_PROBS, np.full(60, k), points)) for k in range(3))
    shifts = sum(np.exp(log_shifted(LOG_PROBS[:, 0], np.full(60, event), points)) for event in (False, True))
    assert np.allclose(slopes, 1.0)
    assert np.allclose(shifts, 1.0)


def test_zero_leaves_probabilities_as_they_are() -> None:
    own = LOG_PROBS[np.arange(60), LABELS]
    assert np.allclose(log_sloped(LOG_PROBS, LABELS, np.zeros(1))[:, 0], own)


@pytest.mark.parametrize("test", [Slope.of(0.1), Intercept.of(0.1, 1)])
def test_a_state_is_the_same_however_rows_are_cut_into_looks(test: Slope | Intercept) -> None:
    state, values = test.follow(test.begin(), LOG_PROBS, LABELS)
    again, found = test.begin(), list[float]()
    for part in (slice(0, 1), slice(1, 20), slice(20, 60)):
        again, some = test.follow(again, LOG_PROBS[part], LABELS[part])
        found.extend(some)
    assert np.array_equal(values, found)
    assert np.array_equal(state.memory, again.memory)
    assert np.array_equal(state.evidence.capital, again.evidence.capital)


def test_certain_probabilities_give_finite_evidence() -> None:
    log_probs = np.log([[1.0 - 1e-16, 1e-16], [1e-300, 1.0]])
    for test in (Slope.of(0.1), Intercept.of(0.1, 1)):
        assert np.all(np.isfinite(test.follow(test.begin(), log_probs, np.array([1, 0]))[1]))


def test_the_registry_holds_every_test() -> None:
    assert set(TESTS) == {"slope", "intercept", "ranks"}


def test_sound_versions_raise_no_alarm() -> None:
    lives = calibration_lives(World(rows=300), 200, seed=1)
    alarms = np.isfinite(np.minimum(first_alarm(lives.slope, 0.5), first_alarm(lives.intercept, 0.5)))
    assert alarms.sum() <= 2


def test_an_intercept_that_moved_is_found() -> None:
    lives = calibration_lives(World(rows=500, intercept=1.0), 40, seed=2)
    assert np.median(first_alarm(lives.intercept, 0.5)) < 400


@pytest.mark.simulation
@pytest.mark.parametrize("rows", [150, 1000])
def test_at_most_one_version_in_a_hundred_ever_raises_an_alarm(rows: int) -> None:
    lives = calibration_lives(World(calibration_rows=rows, rows=5000), 1000, seed=1)
    alarms = np.minimum(first_alarm(lives.slope, 0.25), first_alarm(lives.intercept, 0.25))
    assert np.isfinite(alarms).sum() <= 10


@pytest.mark.simulation
def test_a_temperature_that_is_off_is_found_within_the_stated_number_of_outcomes() -> None:
    lives = calibration_lives(World(calibration_rows=5000, rows=2000, slope=1.5), 200, seed=2)
    assert np.median(first_alarm(lives.slope, 0.25)) <= 800
