"""Shares of classes in unlabelled rows, measured against labelled calibration rows of every class.

Where the proportions of the classes alone have changed, the rows of a class look as they did at calibration. A share
is then the mean of a function of the model's output that averages 1 over the rows of its class and 0 over those of
every other class. The calibration rows give the variance and skewness of that mean at every prevalence, and the
variance that the calibration set, being finite, adds. A gate may remove rows: calibration rows that it flags stay in
their class, with zero in place of an output, so different flag rates of the classes bias nothing.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags, Indices
from service.core.prior import checked_condition, shift

HALVINGS: Final = 20
POOLED_ROWS: Final = 2.0  # a class of few calibration rows borrows the variance of the others, worth so many rows
TINY: Final = 1e-300


@dataclass(frozen=True)
class Sample:
    """Labelled calibration rows, at least one of every class.

    Attributes
    ----------
    log_probs : ndarray of shape (n, K)
        Calibrated under the source prevalence, by fits that did not see the row.
    labels : ndarray of shape (n,)
    unflagged : ndarray of shape (n,)
        Rows that the gate lets through.
    weights : ndarray of shape (n,), optional
    groups : ndarray of shape (n,), optional
        From 0; rows of a group may resemble each other.
    """

    log_probs: Array
    labels: Indices
    unflagged: Flags
    weights: Array | None = None
    groups: Indices | None = None

    @cached_property
    def within(self) -> Array:
        """Weight of every row in the mean of its class, shape (K, n); zero in other classes."""
        member = self.labels == np.arange(self.log_probs.shape[1])[:, None]
        weighted = member * (1.0 if self.weights is None else self.weights)
        return weighted / weighted.sum(axis=1, keepdims=True)

    @property
    def unflagged_rates(self) -> Array:
        """Share of the rows of every class that the gate lets through, shape (K,)."""
        return self.within @ self.unflagged

    @property
    def sizes(self) -> Array:
        """Rows of equal weight that would be as informative, of every class, shape (K,)."""
        return 1.0 / (self.within**2).sum(axis=1)

    @property
    def confusion(self) -> Array:
        """Mean posterior of every class, shape (K, K), columns what is true; of flagged rows too."""
        return (self.within @ np.exp(self.log_probs)).T

    def inflation(self, contributions: Array) -> Array:
        """How much groups raise the variance of sums of contributions (n, K) over the rows, shape (K,); 1 or more."""
        if self.groups is None:
            return np.ones(contributions.shape[1])
        count = int(self.groups.max()) + 1
        sums = np.zeros((count, contributions.shape[1]))
        np.add.at(sums, self.groups, contributions)
        by_group = (sums**2).sum(axis=0) * count / max(count - 1, 1)
        return np.maximum(1.0, by_group / np.maximum((contributions**2).sum(axis=0), TINY))


@dataclass(frozen=True)
class Projection:
    """Functions of a posterior whose means over rows are shares of classes, and their moments in every class.

    Attributes
    ----------
    sample : Sample
    source, target : ndarray of shape (K,)
        The functions are linear in the posterior under ``target``; ``source`` is that of the log-probabilities.
    inverse : ndarray of shape (K, K)
        Of the confusion matrix of that posterior; flagged rows count as zero.
    values : ndarray of shape (n, K)
        The functions at the calibration rows.
    """

    sample: Sample
    source: Array
    target: Array
    inverse: Array
    values: Array

    @cached_property
    def second(self) -> tuple[Array, Array, Array]:
        """Means in every class of g², g·S and S², with S the sum of the functions g of a row."""
        g, total, mean = self.values, self.values.sum(axis=1, keepdims=True), self.sample.within
        return mean @ g**2, mean @ (g * total), mean @ total**2

    @cached_property
    def third(self) -> tuple[Array, Array, Array, Array]:
        """Means in every class of g³, g²·S, g·S² and S³."""
        g, total, mean = self.values, self.values.sum(axis=1, keepdims=True), self.sample.within
        return mean @ g**3, mean @ (g**2 * total), mean @ (g * total**2), mean @ total**3

    def means(self, log_probs: Array) -> Array:
        """Means of the functions over rows, shape (K,)."""
        seen: Array = np.exp(shift(log_probs, source=self.source, target=self.target)).mean(axis=0)
        return self.inverse @ (seen / self.target)

    def central(self, share: Array) -> tuple[Array, Array]:
        """Second and third moment in every class of what `Shares` tests, shape (K, K): class of the rows, share."""
        (gg, gs, ss), (ggg, ggs, gss, sss) = self.second, self.third
        second = gg - 2.0 * share * gs + share**2 * ss
        return second, ggg - 3.0 * share * ggs + 3.0 * share**2 * gss - share**3 * sss

    def excess_flags(self, means: Array, prevalence: Array, *, rows: int, flagged: int, z: float) -> bool:
        r"""Whether more rows are flagged than proportions of the classes explain.

        The functions of a row sum to 1 on average in every class, flagged rows counting 0. So the mean of that sum
        over all rows is 1 whatever their prevalence, and falls short of it by the share of rows of no class. One
        more flagged row in every class allows for flags that its calibration rows are too few to show.

        Parameters
        ----------
        means : ndarray of shape (K,)
            Over unflagged rows.
        prevalence : ndarray of shape (K,)
            The variance is taken there, as `Shares.crowded` finds it.
        rows, flagged : int
        z : float
        """
        sizes, ss, sss = self.sample.sizes, self.second[2][:, 0], self.third[3][:, 0]
        unseen = 1.0 / (sizes + 1.0)
        second = (1.0 - unseen) * np.maximum(ss - 1.0, 0.0) + unseen
        third = (1.0 - unseen) * (3.0 * ss - sss - 2.0) + unseen
        weight = (self.sample.within * prevalence[:, None]).sum(axis=0)[:, None]
        inflation = self.sample.inflation(weight * (1.0 - self.values.sum(axis=1, keepdims=True)))
        of_classes = inflation * prevalence**2 * second / sizes
        noise = _Noise(
            of_rows=prevalence @ second / rows,
            third=prevalence @ third / rows**2,
            of_sample=of_classes.sum(),
            third_of_sample=prevalence**3 @ (third / sizes**2),
        )
        missing = 1.0 - means.sum() * (rows - flagged) / rows
        return bool(missing > prevalence @ unseen + noise.above(noise.widened(z, of_classes[None, :], sizes)))


@dataclass(frozen=True, slots=True)
class _Noise:
    """Variances and third moments of a difference of means: of the rows at hand, and of the calibration rows."""

    of_rows: Array
    third: Array
    of_sample: Array
    third_of_sample: Array

    def above(self, z: float | Array) -> Array:
        """How far chance takes the difference above zero."""
        return self._limit(z, sign=1.0)

    def below(self, z: float | Array) -> Array:
        """How far it takes it below zero."""
        return self._limit(z, sign=-1.0)

    def widened(self, z: float, of_classes: Array, sizes: Array) -> Array:
        """Student's quantile, to the first order, at Welch and Satterthwaite's degrees of freedom."""
        unsure = (of_classes**2 / (sizes - 1.0 + POOLED_ROWS)).sum(axis=1)
        freedom = (self.of_rows + self.of_sample) ** 2 / np.maximum(unsure, TINY)
        return z * (1.0 + (z**2 + 1.0) / (4.0 * np.maximum(freedom, 1.0)))

    def _limit(self, z: float | Array, *, sign: float) -> Array:
        # Cornish and Fisher's corrections, where they widen: of a known variance, and of one that was estimated.
        variance = np.maximum(self.of_rows + self.of_sample, TINY)
        push = np.maximum(sign * z**2 * self.third, 0.0)
        studentised = np.maximum(sign * (2.0 * z**2 + 1.0) * self.third_of_sample, 0.0)
        limit: Array = z * np.sqrt(variance) + (push + studentised) / (6.0 * variance)
        return limit


@dataclass(frozen=True)
class Shares:
    """Shares of the classes in the population that some rows come from, flagged rows included.

    Attributes
    ----------
    projection : Projection
    means : ndarray of shape (K,)
        Of its functions over the unflagged rows: proportional to the shares, but for noise.
    rows : int
        How many unflagged rows there are.
    """

    projection: Projection
    means: Array
    rows: int

    @cached_property
    def prevalence(self) -> Array:
        """The estimate, shape (K,): nonnegative, of sum 1."""
        inside = np.maximum(self.means, 0.0)
        return inside / inside.sum()

    @cached_property
    def inflation(self) -> Array:
        """How much groups raise the variance of every share, shape (K,)."""
        sample, share = self.projection.sample, self.prevalence
        mix = _mixtures(share, share)
        own = sample.labels[:, None] == np.arange(len(share))
        values = self.projection.values
        deviation = values - share * values.sum(axis=1, keepdims=True) - (own - share)
        return sample.inflation(sample.within.sum(axis=0)[:, None] * mix.T[sample.labels] * deviation)

    def differs(self, source: Array, *, z: float, variance: Array) -> Flags:
        """Whether every share differs from that of another population by more than chance, shape (K,).

        Parameters
        ----------
        source : ndarray of shape (K,)
        z : float
            Quantile of the normal distribution that is still chance.
        variance : ndarray of shape (K,)
            Of ``source`` itself, where it was estimated.
        """
        return ~self._fits(source, source, z, variance)

    def interval(self, *, z: float) -> tuple[Array, Array]:
        """Ends, of shape (K,), of all shares that the rows do not contradict.

        The other classes keep their estimated proportions to each other. The test's variance is that of the share in
        question, so it keeps its level where rows are few or the share is near 0 or 1; its limits carry a correction
        for skewness and one for the discreteness of counts.

        Parameters
        ----------
        z : float
            Quantile of the normal distribution at the upper end.

        References
        ----------
        Wilson (1927), *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 22.
        """
        centre = np.clip(self.means / max(self.means.sum(), TINY), 0.0, 1.0)
        low, high = (self._end(centre, np.full_like(centre, end), z) for end in (0.0, 1.0))
        return np.minimum(low, self.prevalence), np.maximum(high, self.prevalence)

    def crowded(self, place: int, *, z: float) -> Array:
        """Prevalence (K,) with the largest share of one class that the rows do not contradict."""
        largest = self.interval(z=z)[1][place]
        rest = np.where(np.arange(len(self.prevalence)) == place, 0.0, self.prevalence + TINY)
        crowded: Array = (1.0 - largest) * rest / rest.sum()
        crowded[place] = largest
        return crowded

    def _end(self, inside: Array, outside: Array, z: float) -> Array:
        last, free = outside, self._fits(outside, self.prevalence, z, 0.0)
        for _ in range(HALVINGS):
            middle = 0.5 * (inside + outside)
            fits = self._fits(middle, self.prevalence, z, 0.0)
            inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
        return np.where(free, last, inside)

    def _fits(self, share: Array, others: Array, z: float, variance: Array | float) -> Flags:
        sample, mix, passed = self.projection.sample, *self._mixtures(share, others)
        second, third = self.projection.central(share)
        own = np.eye(len(share)) - share  # mean of what is tested, in every class
        spread, skewed = np.maximum(second - own**2, 0.0), third - 3.0 * own * second + 2.0 * own**3
        of_classes = self.inflation[:, None] * mix**2 * _pooled(spread, sample.sizes).T
        of_source = np.square(variance) * (1.0 - 2.0 * share) / np.maximum(share * (1.0 - share), TINY)
        noise = _Noise(
            of_rows=passed * (mix * second.T).sum(axis=1) / self.rows,
            third=passed**2 * (mix * third.T).sum(axis=1) / self.rows**2,
            of_sample=of_classes.sum(axis=1) + variance,
            third_of_sample=(mix**3 * skewed.T / sample.sizes**2).sum(axis=1) + of_source,
        )
        widened, step = noise.widened(z, of_classes, sample.sizes), 0.5 / self.rows
        gap = passed * (self.means - share * self.means.sum())
        return (gap <= noise.above(widened) + step) & (-gap <= noise.below(widened) + step)

    def _mixtures(self, share: Array, others: Array) -> tuple[Array, Array]:
        # Prevalences by share tested (rows), and how many of their rows are unflagged.
        mix = _mixtures(share, others)
        return mix, mix @ self.projection.sample.unflagged_rates


def project(sample: Sample, *, source: Array, target: Array) -> Projection:
    r"""Functions that are unbiased for shares whatever the calibration's quality, and efficient where it is good.

    .. math:: g(x) = M^{-1} h(x), \quad h_k(x) = p_{target}(k \mid x), \quad M_{jk} = E[h_j(x) \mid y = k]

    With ``target`` = ``source`` their means are the black-box estimate; with the maximum of the likelihood as
    ``target`` they are, for a calibrated model, as good as that maximum.

    Parameters
    ----------
    sample : Sample
    source, target : ndarray of shape (K,)

    Raises
    ------
    ValueError
        If the matrix cannot be inverted well enough.

    References
    ----------
    Lipton et al. (2018), *Detecting and Correcting for Label Shift with Black Box Predictors*, ICML.
    Garg et al. (2020), *A Unified View of Label Shift Estimation*, NeurIPS.
    """
    log_probs = shift(sample.log_probs, source=source, target=target)
    features = np.where(sample.unflagged[:, None], np.exp(log_probs), 0.0) / target
    confusion = (sample.within @ features).T
    checked_condition(confusion)
    inverse = np.asarray(np.linalg.inv(confusion), dtype=np.float64)
    return Projection(sample, source, target, inverse, features @ inverse.T)


def measure(log_probs: Array, projection: Projection) -> Shares:
    """Shares in the population of unflagged rows (N, K), N > 0."""
    return Shares(projection, projection.means(log_probs), len(log_probs))


def _mixtures(share: Array, others: Array) -> Array:
    # Row j: a prevalence at which class j has its share, and the others what is left in their own proportions.
    k = len(share)
    rest = np.where(np.eye(k, dtype=np.bool_), 0.0, others + 1e-12)
    mix = (1.0 - share)[:, None] * rest / rest.sum(axis=1, keepdims=True)
    mix[np.arange(k), np.arange(k)] = share
    return mix


def _pooled(spread: Array, sizes: Array) -> Array:
    # Variances of the means of classes (K, K), whose rows are classes.
    n = sizes[:, None]
    common = (n * spread).sum(axis=0) / sizes.sum()
    return (n * spread + POOLED_ROWS * common) / np.maximum(n - 1.0 + POOLED_ROWS, 1.0) / n
