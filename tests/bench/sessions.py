"""False alarms of sessions in 1000 steps, by calibration rows and rate: docs/guide/statistics.md, "Sessions".

python -m tests.bench.sessions [--sets 80000]
"""

import argparse
import sys

import numpy as np

from service.core.numerics import Array
from service.core.trajectory import ALLOWANCE, alarm_threshold

ROWS = (19, 25, 33, 50, 100, 101, 130, 500, 5000)
RATES = (0.05, 0.1, 0.15, 0.16, 0.2, 0.5, 1.0, 5.0, 20.0, 100.0)
STEPS, AT_ONCE = 1000, 4000


def evidence(rows: int, rng: np.random.Generator) -> Array:
    """What 1000 steps of each of many sessions add to the statistic; every session has a calibration set of its own."""
    found = np.empty((STEPS, AT_ONCE))
    for session in range(AT_ONCE):
        above = rows - np.searchsorted(np.sort(rng.random(rows)), rng.random(STEPS))
        found[:, session] = -np.log((1.0 + above) / (rows + 1.0)) - ALLOWANCE
    return found


def alarms(rows: int, sets: int) -> Array:
    """False alarms of every rate (rows) in every session (columns)."""
    thresholds = np.array([alarm_threshold(rate, rows=rows) for rate in RATES])[:, None]
    rng, parts = np.random.default_rng(rows), []
    for _ in range(max(1, sets // AT_ONCE)):
        statistic, raised = np.zeros((len(RATES), AT_ONCE)), np.zeros((len(RATES), AT_ONCE))
        for step in evidence(rows, rng):
            statistic = np.maximum(0.0, statistic + step)
            raised += statistic > thresholds
            statistic[statistic > thresholds] = 0.0
        parts.append(raised)
    return np.concatenate(parts, axis=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=80_000)
    sets = parser.parse_args().sets
    sys.stdout.write(f"| rows | {' | '.join(f'rate {rate:g}' for rate in RATES)} |\n{'|---' * (len(RATES) + 1)}|\n")
    for rows in ROWS:
        found = alarms(rows, sets)
        errors = found.std(axis=1) / np.sqrt(found.shape[1])
        cells = (f"{mean:.4f} ± {error:.4f}" for mean, error in zip(found.mean(axis=1), errors, strict=True))
        sys.stdout.write(f"| {rows} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
