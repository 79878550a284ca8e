"""How often 95 % intervals hold the truth: the table of docs/guide/statistics.md, section "Intervals".

python -m tests.bench.coverage [--trials 400]
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np

from service.core.assessment import discrimination
from service.core.assessment.confusion import proportion
from service.core.assessment.miscalibration import equal_mass
from service.core.assessment.ranking import separation_interval
from service.core.assessment.recalibration import cox
from service.core.assessment.reliability import debiased_interval
from service.core.assessment.selective import clopper_pearson_upper
from service.core.calibration.likelihood import likelihood_interval
from service.core.calibration.temperature import fit_temperature
from service.core.intervals import mean_interval
from service.core.numerics import log_softmax

Trial = Callable[[np.random.Generator], bool]


def skewed_cost(n: int, rate: float) -> Trial:
    """One row in ``1 / rate`` costs 50, three in ten save 1."""

    def trial(rng: np.random.Generator) -> bool:
        cost = np.where(rng.random(n) < rate, 50.0, -1.0 * (rng.random(n) < 0.3))
        low, high = mean_interval(cost, least=np.full(n, -1.0), most=np.full(n, 50.0))
        return low <= 50.0 * rate - 0.3 * (1.0 - rate) <= high

    return trial


def temperature(n: int, k: int, sharp: float) -> Trial:
    """T = 1.7 on logits of spread ``sharp``."""

    def trial(rng: np.random.Generator) -> bool:
        logits = sharp * rng.normal(size=(n, k))
        labels = (np.exp(log_softmax(logits)).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
        low, high = likelihood_interval(fit_temperature(1.7 * logits, labels), 1.7 * logits, labels)
        return low <= 1.7 <= high

    return trial


def calibration_gap(n: int, least: float, off: float) -> Trial:
    """Probabilities between ``least`` and 1, too high by ``off``."""

    def trial(rng: np.random.Generator) -> bool:
        predicted = rng.uniform(least, 1.0, size=n)
        index = np.unique(equal_mass(predicted), return_inverse=True)[1]
        root = math.sqrt(float(np.sum((np.bincount(index) * off) ** 2 / np.bincount(index))) / n)
        low, high = debiased_interval(predicted, rng.random(n) < predicted - off, draws=300)
        return low <= root + 1e-12 and root <= high

    return trial


def auroc(n: int, m: int, shift: float) -> Trial:
    """Normal scores, ``shift`` apart."""
    truth = NormalDist().cdf(shift / math.sqrt(2.0))

    def trial(rng: np.random.Generator) -> bool:
        low, high = separation_interval(rng.normal(size=n), shift + rng.normal(size=m))
        return low <= truth <= high

    return trial


def slope(n: int, base: float) -> Trial:
    """Slope of 1; rows that do not determine it count as held."""

    def trial(rng: np.random.Generator) -> bool:
        odds = base + 1.5 * rng.normal(size=n)
        line = cox(odds, rng.random(n) < 1.0 / (1.0 + np.exp(-odds)))
        return not math.isfinite(line.slope) or abs(line.slope - 1.0) <= 1.96 * line.slope_error

    return trial


def grouped_cost(groups: int, size: int, rate: float) -> Trial:
    """All rows of a patient cost 50, or none does; three in ten patients save 1 a row."""

    def trial(rng: np.random.Generator) -> bool:
        own = np.where(rng.random(groups) < rate, 50.0, -1.0 * (rng.random(groups) < 0.3))
        index = np.repeat(np.arange(groups), rng.integers(1, 2 * size, size=groups))
        n = len(index)
        low, high = mean_interval(own[index], least=np.full(n, -1.0), most=np.full(n, 50.0), groups=index)
        return low <= 50.0 * rate - 0.3 * (1.0 - rate) <= high

    return trial


def share(n: int, rate: float, size: int = 1, *, weighted: bool = False) -> Trial:
    """Sensitivity: a share of n rows, or of n groups whose rows have one fate."""

    def trial(rng: np.random.Generator) -> bool:
        index = np.repeat(np.arange(n), size)
        weights = rng.lognormal(sigma=0.5, size=len(index)) if weighted else None
        found = proportion((rng.random(n) < rate)[index], weights=weights, groups=index if size > 1 else None)
        return found.low <= rate <= found.high

    return trial


def separation(events: int, others: int, apart: float, size: int = 1) -> Trial:
    """AUROC of an evaluation: normal scores; of groups, half the variance is the group's."""
    truth = NormalDist().cdf(apart / math.sqrt(2.0))

    def trial(rng: np.random.Generator) -> bool:
        event = np.arange(events + others) < events
        index = np.repeat(np.arange(len(event)), size)
        own = math.sqrt(0.5) * rng.normal(size=len(event))[index] + math.sqrt(0.5) * rng.normal(size=len(index))
        found = discrimination.auroc(apart * event[index] + own, event[index], groups=index if size > 1 else None)
        return found.low <= truth <= found.high

    return trial


def error_rate(n: int, rate: float) -> Trial:
    """Upper 95 % limit of the horizon's error rate."""
    return lambda rng: clopper_pearson_upper(int(rng.binomial(n, rate)), n) >= rate


def rows() -> Iterator[tuple[str, str, list[Trial]]]:
    """Interval, range of designs, and one trial of each."""
    costs = [skewed_cost(n, rate) for n in (50, 200, 1000) for rate in (0.0005, 0.002, 0.01, 0.05)]
    yield "cost difference", "n 50 to 1000, a cost of 50 at rates .0005 to .05", costs
    shared = [grouped_cost(g, 4, rate) for g in (30, 100, 300) for rate in (0.002, 0.01, 0.05)]
    yield "cost difference, groups", "30 to 300 groups of 1 to 7 rows, the same cost and rates .002 to .05", shared
    shares = [share(n, rate) for n in (5, 20, 100, 1000) for rate in (0.5, 0.8, 0.95, 0.99)]
    yield "sensitivity and other shares", "5 to 1000 rows, share .5 to .99", shares
    shares = [share(n, rate, 5) for n in (10, 30, 100) for rate in (0.5, 0.8, 0.95)]
    yield "the same, groups", "10 to 100 groups of 5 equal rows, share .5 to .95", shares
    shares = [share(n, rate, weighted=True) for n in (30, 100, 1000) for rate in (0.5, 0.8, 0.95)]
    yield "the same, weights", "30 to 1000 rows, log-normal weights (deviation .5), share .5 to .95", shares
    counts = ((5, 20), (6, 60), (20, 20), (12, 200), (100, 400))
    ranks = [separation(m, n, d) for m, n in counts for d in (0.0, 1.0, 2.5, 4.0)]
    yield "AUROC of an evaluation", "5 to 100 events, AUROC .5 to .998", ranks
    ranks = [separation(m, n, d, 5) for m, n in counts[1:] for d in (0.0, 1.0, 2.5)]
    yield "the same, groups", "6 to 100 groups of events, 5 rows each, AUROC .5 to .96", ranks
    fits = [temperature(n, k, sharp) for n in (30, 50, 100) for k in (2, 10) for sharp in (1.0, 3.0, 5.0)]
    yield "T", "n 30 to 100, K 2 and 10, logits of spread 1 to 5", fits
    gaps = [calibration_gap(n, least, off) for n in (100, 300, 1000) for least, off in ((0.998, 0.0), (0.998, 0.004))]
    yield "debiased calibration error", "n 100 to 1000, confidence .998 to 1", gaps
    areas = [auroc(n, m, d) for n, m in ((10, 10), (20, 200), (100, 30)) for d in (0.0, 1.0, 3.0, 4.0)]
    yield "AUROC of an OOD score", "10 to 200 rows of a kind, AUROC .5 to .998", areas
    lines = [slope(n, base) for n in (50, 100, 300, 1000) for base in (0.0, -2.5, -4.0)]
    yield "recalibration slope", "n 50 to 1000, prevalence .03 to .5", lines
    limits = [error_rate(n, rate) for n in (20, 100, 1000) for rate in (0.001, 0.01, 0.1)]
    yield "horizon: error rate, upper limit", "n 20 to 1000, rate .001 to .1", limits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    trials = parser.parse_args().trials
    sys.stdout.write("| interval | designs | least coverage | mean coverage |\n|---|---|---|---|\n")
    for name, design, worlds in rows():
        found = [np.mean([trial(np.random.default_rng(seed)) for seed in range(trials)]) for trial in worlds]
        sys.stdout.write(f"| {name} | {design} | {min(found):.3f} | {np.mean(found):.3f} |\n")


if __name__ == "__main__":
    main()
