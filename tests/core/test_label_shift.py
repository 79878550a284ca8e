"""Shares of classes: unbiased behind a gate, with intervals and differences that keep their levels."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest

from service.core.label_shift import Projection, Sample, Shares, measure, project
from service.core.numerics import Array, Flags, Indices, log_softmax

Z = NormalDist().inv_cdf(0.975)
ALARM = NormalDist().inv_cdf(1.0 - 0.01 / 4.0)


@dataclass(frozen=True)
class World:
    """Two normal classes at a distance, a posterior under a prevalence, and a gate on ambiguity."""

    prevalence: Array
    distance: float = 2.0
    scale: float = 1.0  # of the logits; 1 is a calibrated posterior

    def draw(self, rng: np.random.Generator, n: int, prevalence: Array | None = None) -> tuple[Array, Indices]:
        labels = rng.choice(2, size=n, p=self.prevalence if prevalence is None else prevalence)
        x = self.distance * (labels - 0.5) + rng.normal(size=n)
        return self.posterior(x), labels

    def posterior(self, x: Array) -> Array:
        odds = np.log(self.prevalence[1] / self.prevalence[0]) + self.distance * x
        return log_softmax(self.scale * np.stack([np.zeros(len(x)), odds], axis=1))

    def sample(self, rng: np.random.Generator, n: int) -> tuple[Sample, float]:
        """Calibration rows behind the gate, and its threshold: the conformal one at 5 %."""
        log_probs, labels = self.draw(rng, n)
        scores = ambiguity(log_probs)
        threshold = float(np.sort(scores)[int(np.ceil(0.95 * (n + 1))) - 1])
        return Sample(log_probs, labels, scores <= threshold), threshold


RARE, EVEN = np.array([0.9, 0.1]), np.array([0.5, 0.5])


def ambiguity(log_probs: Array) -> Array:
    scores: Array = -log_probs.max(axis=1)
    return scores


def open_gate(sample: Sample) -> Sample:
    return Sample(sample.log_probs, sample.labels, np.ones(len(sample.labels), dtype=np.bool_))


def source_of(sample: Sample) -> Array:
    shares: Array = np.bincount(sample.labels) / len(sample.labels)
    return shares


def black_box(sample: Sample, source: Array | None = None) -> Projection:
    source = source_of(sample) if source is None else source
    return project(sample, source=source, target=source)


def alarms(found: Shares, sample: Sample) -> bool:
    source = source_of(sample)
    variance = source * (1.0 - source) / len(sample.labels)
    return bool(found.differs(source, z=ALARM, variance=variance).any())


@pytest.mark.parametrize("rows", [20, 500, 8000])
@pytest.mark.parametrize("n", [200, 5000])
@pytest.mark.parametrize("gated", [False, True])
def test_rows_of_the_calibrated_population_differ_once_in_a_hundred_at_most(rows: int, n: int, *, gated: bool) -> None:
    rng, raised = np.random.default_rng(rows + n), 0
    for _ in range(100):
        sample, threshold = World(RARE).sample(rng, n)
        log_probs, _ = World(RARE).draw(rng, rows)
        seen = log_probs[ambiguity(log_probs) <= threshold] if gated else log_probs
        used = sample if gated else open_gate(sample)
        raised += alarms(measure(seen, black_box(used)), used)
    assert raised <= 3  # the probability of more is below 0.02 at a rate of 0.01; it was 1.0 behind the gate


FAR = [((0.98, 0.02), 5, 4.0), ((0.02, 0.98), 10, 2.0), ((0.98, 0.02), 20, 4.0), ((0.7, 0.3), 20, 2.0)]


@pytest.mark.parametrize(("target", "rows", "distance"), FAR, ids=str)
def test_intervals_of_few_rows_cover_far_from_the_source(
    target: tuple[float, float], rows: int, distance: float
) -> None:
    rng, world, truth, covered = np.random.default_rng(rows), World(EVEN, distance), np.array(target), []
    for _ in range(10):
        projection = black_box(open_gate(world.sample(rng, 1000)[0]))
        for _ in range(20):
            low, high = measure(world.draw(rng, rows, truth)[0], projection).interval(z=Z)
            covered.append(low[0] <= truth[0] <= high[0])
    assert np.mean(covered) >= 0.95 - 3.0 * np.sqrt(0.05 * 0.95 / 200)  # 0.75 to 0.86 before


@pytest.mark.parametrize(("n", "scale"), [(300, 1.0), (1000, 3.0)])
def test_intervals_cover_behind_a_gate_whatever_the_calibration(n: int, scale: float) -> None:
    rng, world, truth, covered = np.random.default_rng(n), World(EVEN, scale=scale), np.array([0.8, 0.2]), []
    for _ in range(200):
        sample, threshold = world.sample(rng, n)
        log_probs, _ = world.draw(rng, 1000, truth)
        low, high = measure(log_probs[ambiguity(log_probs) <= threshold], black_box(sample)).interval(z=Z)
        covered.append(low[0] <= truth[0] <= high[0])
    assert np.mean(covered) >= 0.95 - 3.0 * np.sqrt(0.05 * 0.95 / 200)


def test_unflagged_rows_tell_the_share_among_all_rows_of_the_classes() -> None:
    rng, world, truth = np.random.default_rng(0), World(RARE), np.array([0.4, 0.6])
    sample, threshold = world.sample(rng, 50_000)
    log_probs, labels = world.draw(rng, 200_000, truth)
    unflagged = ambiguity(log_probs) <= threshold
    among = np.bincount(labels[unflagged]) / unflagged.sum()
    found = measure(log_probs[unflagged], black_box(sample)).prevalence
    assert abs(found[1] - 0.6) < 0.02
    assert abs(among[1] - 0.6) > 0.03  # flags are rarer in one class


# -------------------------------------------------------------------------------------------------------------- flags


def excess(sample: Sample, log_probs: Array, flagged: Flags) -> bool:
    projection = black_box(sample)
    found, z = measure(log_probs[~flagged], projection), NormalDist().inv_cdf(0.999)
    worst = found.crowded(int(sample.unflagged_rates.argmin()), z=z)
    return projection.excess_flags(found.means, worst, rows=len(flagged), flagged=int(flagged.sum()), z=z)


def test_a_pure_change_of_proportions_is_no_excess_of_flags() -> None:
    rng, world, refused, rates = np.random.default_rng(1), World(np.array([0.88, 0.12])), 0, []
    for _ in range(60):
        sample, threshold = world.sample(rng, 1000)
        log_probs, _ = world.draw(rng, 2000, np.array([0.6, 0.4]))
        flagged = ambiguity(log_probs) > threshold
        refused += excess(sample, log_probs, flagged)
        rates.append(flagged.mean())
    assert np.mean(rates) > 0.08  # far more flags than the 5 % of the source
    assert refused <= 1  # 54 of 60 before


@pytest.mark.parametrize("rows", [5, 20, 500])
def test_few_calibration_rows_of_a_class_do_not_make_its_flags_an_excess(rows: int) -> None:
    rng, world, refused = np.random.default_rng(rows), World(RARE, scale=2.0), 0
    for _ in range(100):
        sample, threshold = world.sample(rng, 200)
        log_probs, _ = world.draw(rng, rows, np.array([0.2, 0.8]))
        flagged = ambiguity(log_probs) > threshold
        refused += not flagged.all() and excess(sample, log_probs, flagged)
    assert refused <= 1


def test_rows_of_no_class_are_an_excess_of_flags() -> None:
    rng, world = np.random.default_rng(2), World(RARE)
    sample, threshold = world.sample(rng, 2000)
    log_probs, _ = world.draw(rng, 1000)
    flagged = (ambiguity(log_probs) > threshold) | (np.arange(1000) < 150)
    assert excess(sample, log_probs, flagged)
    assert not excess(sample, log_probs, ambiguity(log_probs) > threshold)


def test_flags_that_no_calibration_row_has_are_forgiven_once_and_not_for_ever() -> None:
    log_probs, labels = World(EVEN).draw(np.random.default_rng(3), 400)
    sample = Sample(log_probs, labels, np.ones(400, dtype=np.bool_))
    assert not excess(sample, log_probs[:100], np.arange(100) < 1)
    assert excess(sample, log_probs[:100], np.arange(100) < 60)


# -------------------------------------------------------------------------------------------------- weights and groups


def width(sample: Sample, rows: Array) -> float:
    low, high = measure(rows, black_box(sample, EVEN)).interval(z=Z)
    return float(high[0] - low[0])


def test_rows_repeated_within_their_group_count_no_more_than_once() -> None:
    rng = np.random.default_rng(4)
    log_probs, labels = World(EVEN).draw(rng, 300)
    rows, _ = World(EVEN).draw(rng, 100_000)
    once = Sample(log_probs, labels, np.ones(300, dtype=np.bool_))
    index = np.repeat(np.arange(300), 4)
    repeated = Sample(log_probs[index], labels[index], np.ones(1200, dtype=np.bool_), groups=index)
    separate = Sample(log_probs[index], labels[index], np.ones(1200, dtype=np.bool_))
    assert width(repeated, rows) == pytest.approx(width(once, rows), rel=0.05)
    assert width(separate, rows) < 0.6 * width(once, rows)


def test_a_weight_of_two_is_the_row_twice_and_groups_of_one_are_none() -> None:
    rng = np.random.default_rng(5)
    log_probs, labels = World(EVEN).draw(rng, 200)
    rows, _ = World(EVEN).draw(rng, 500)
    weights, everyone = rng.integers(1, 3, size=200), np.ones(200, dtype=np.bool_)
    index = np.repeat(np.arange(200), weights)
    weighted = measure(rows, black_box(Sample(log_probs, labels, everyone, weights.astype(float)), EVEN))
    twice = measure(rows, black_box(Sample(log_probs[index], labels[index], everyone[index], groups=index), EVEN))
    np.testing.assert_allclose(weighted.prevalence, twice.prevalence, rtol=1e-9)
    np.testing.assert_allclose(weighted.interval(z=Z), twice.interval(z=Z), atol=0.01)
    alone = black_box(Sample(log_probs, labels, everyone, groups=np.arange(200)), EVEN)
    plain = black_box(Sample(log_probs, labels, everyone), EVEN)
    np.testing.assert_allclose(measure(rows, alone).interval(z=Z), measure(rows, plain).interval(z=Z), atol=0.002)


def test_classes_that_look_alike_are_refused() -> None:
    sample = Sample(np.log(np.full((10, 2), 0.5)), np.arange(10) % 2, np.ones(10, dtype=np.bool_))
    with pytest.raises(ValueError, match="condition number"):
        black_box(sample, EVEN)
