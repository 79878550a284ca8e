"""Numbers over several seeds: what a comparison may claim, and what lies inside the noise."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

STUDENT: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % quantiles of Student's distribution with 1, 2, … degrees of freedom."""


BETWEEN: Final = " | "
"""Between the parts of a number's name, such as ``focal | temperature | log_loss``."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of one number over seeds.

    Attributes
    ----------
    values : tuple of float
        One per seed, in the seeds' order, so that two spreads can be paired.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))

    @property
    def sd(self) -> float:
        """Their standard deviation, with n - 1."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def text(self, digits: int = 3) -> str:
        """As ``mean (sd)``.

        Examples
        --------
        >>> Spread((0.1, 0.2)).text()
        '0.150 (0.071)'
        """
        return f"{self.mean:.{digits}f} ({self.sd:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Gap:
    """Mean difference over seeds with its 95 % interval.

    Attributes
    ----------
    mean, low, high : float
    """

    mean: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """As ``mean (low to high)``."""
        return f"{self.mean:+.{digits}f} ({self.low:+.{digits}f} to {self.high:+.{digits}f})"


def over_seeds(seeds: Iterable[int], run: Callable[[int], Mapping[str, float]]) -> dict[str, Spread]:
    """Run an experiment once for each seed.

    Parameters
    ----------
    seeds : iterable of int
    run : callable
        From a seed to numbers by name, the same names each time.

    Examples
    --------
    >>> over_seeds(range(2), lambda seed: {"loss": float(seed)})
    {'loss': Spread(values=(0.0, 1.0))}
    """
    found = [run(seed) for seed in seeds]
    return {name: Spread(tuple(float(one[name]) for one in found)) for name in found[0]}


def first_of(found: Mapping[str, Spread]) -> dict[str, float]:
    """The numbers of the first seed alone: what a quick run can be compared with.

    Examples
    --------
    >>> first_of({"loss": Spread((0.1, 0.2))})
    {'loss': 0.1}
    """
    return {name: spread.values[0] for name, spread in found.items()}


def paired(first: Spread, second: Spread, *, test_over_training: float = 0.0) -> Gap:
    r"""First less second, seed by seed, with Student's 95 % interval of the mean.

    Parameters
    ----------
    first, second : Spread
        Over the same seeds in the same order.
    test_over_training : float
        Test rows over training rows where every seed draws another split of the same rows. Such splits overlap, so
        their differences vary less than those of new data would; the variance of their mean is then
        :math:`(1/n + r)\, s^2` and not :math:`s^2/n`. Zero where each seed has rows of its own.

    Raises
    ------
    ValueError
        For fewer than two seeds, whose difference has no spread.

    References
    ----------
    Nadeau & Bengio (2003), *Inference for the Generalization Error*, Machine Learning 52.
    """
    if len(first.values) < 2:
        raise ValueError("a difference needs at least two seeds")
    differences: Sequence[float] = [a - b for a, b in zip(first.values, second.values, strict=True)]
    mean, n = float(np.mean(differences)), len(differences)
    half = _student(n - 1) * float(np.std(differences, ddof=1)) * math.sqrt(1.0 / n + test_over_training)
    return Gap(mean, mean - half, mean + half)


def _student(freedom: int) -> float:
    """97.5 % quantile of Student's distribution; beyond the table that of its last entry, which is a little larger."""
    return STUDENT[min(freedom, len(STUDENT)) - 1]
