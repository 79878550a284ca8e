"""How often sound versions raise an alarm, and how soon drift does: the tables of docs/guide/monitoring.md, "Alarms".

python -m tests.bench.alarms [--lives 1000] [--rows 5000]

Every life has its own calibration set: T is fitted on it, and outcomes are looked at one by one.
"""

import argparse
import sys
from dataclasses import replace
from typing import Final

import numpy as np

from service.core.assessment.selective import clopper_pearson_upper
from service.core.numerics import Array
from tests.core.sequential.lives import Lives, World, calibration_lives, first_alarm, score_lives

CALIBRATION_WEIGHT: Final = 0.25
"""Of the slope, and of the intercept, where a version has two classes and no sites."""

SCORE_WEIGHT: Final = 0.5
LEVEL: Final = 0.01
WORLDS: Final = {
    "1000 rows": World(),
    "150 rows": World(calibration_rows=150),
    "1000 rows, 5 % events": World(base=-4.5),
    "5 classes": World(classes=5),
}


def outcomes_until_alarm(lives: Lives) -> Array:
    """Of either test, shape (V,)."""
    found = [first_alarm(values, CALIBRATION_WEIGHT, level=LEVEL) for values in (lives.slope, lives.intercept)]
    return np.minimum(*found)


def fixed_sample(sound: Lives, drifted: Lives) -> float:
    """Outcomes at which a likelihood-ratio test that is looked at once has a power of one half, at the same level.

    It is given the alternative, and its critical value is that of the sound lives, whose calibration is finite too.
    """
    critical = np.quantile(sound.log_ratio, 1.0 - LEVEL, axis=1)
    power = (drifted.log_ratio > critical[:, None]).mean(axis=1)
    return float((power >= 0.5).argmax() + 1) if power.max() >= 0.5 else float("inf")


def sound_lives(name: str, world: World, lives: int, seed: int) -> str:
    """One line of the first table."""
    calibration = outcomes_until_alarm(calibration_lives(world, lives, seed))
    scores = first_alarm(score_lives(world, lives, seed), SCORE_WEIGHT, level=LEVEL)
    alarms = int(np.isfinite(np.minimum(calibration, scores)).sum())
    upper = clopper_pearson_upper(alarms, lives, confidence=0.95)
    return f"| {name} | {world.rows} | {lives} | {alarms} | {100 * upper:.2f} % |"


def detection(name: str, world: World, lives: int, seed: int) -> str:
    """One line of the second table: how soon a slope is found."""
    drifted = calibration_lives(world, lives, seed, against=world.slope)
    sound = calibration_lives(replace(world, slope=1.0), lives, seed + 1, against=world.slope)
    waits = outcomes_until_alarm(drifted)
    share = np.isfinite(waits).mean()
    return f"| {name} | {np.median(waits):.0f} | {100 * share:.0f} % | {fixed_sample(sound, drifted):.0f} |"


def main(arguments: list[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=5000)
    chosen = parser.parse_args(arguments)
    _line("| sound version | rows | lives | with an alarm | 95 % upper bound |\n| --- | --- | --- | --- | --- |")
    for seed, (name, world) in enumerate(WORLDS.items()):
        _line(sound_lives(name, replace(world, rows=chosen.rows), chosen.lives, seed))
    few = max(chosen.lives // 5, 50)
    _line("\n| drift | median outcomes | found | fixed sample |\n| --- | --- | --- | --- |")
    for n in (1000, 5000):
        for slope in (1.5, 1.0 / 1.5):
            world = World(calibration_rows=n, rows=chosen.rows, slope=slope)
            words = "too large" if slope > 1.0 else "too small"
            _line(detection(f"T {words} by a factor of 1.5, {n} rows", world, few, 10))
    for shift in (0.5, 1.0):
        values = score_lives(World(rows=chosen.rows, shift=shift), few, 20)
        _line(f"| scores up by {shift} SD | {np.median(first_alarm(values, SCORE_WEIGHT)):.0f} | | |")


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
