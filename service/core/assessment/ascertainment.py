"""Outcomes that are known of some rows only: inverse-probability weighting.

What is known of the rows whose outcome was looked for says nothing of the others, unless every kind of row had a chance
to be looked at. Then each row that was seen stands for those of its kind that were not.
"""

from dataclasses import dataclass

import numpy as np

from service.core.assessment.utility import Difference, paired_difference
from service.core.numerics import Array, Flags, Indices

FEWEST_KNOWN = 5  # rows of a kind below which its share of known outcomes is no estimate of anything


@dataclass(frozen=True, slots=True)
class Overlap:
    """Whether every kind of row has outcomes that are known.

    Attributes
    ----------
    weights : ndarray of shape (N,) or None
        Rows of a kind over those of it that are known; 0 where the outcome is unknown. None without overlap.
    without : ndarray of shape (M,)
        Kinds with fewer than `FEWEST_KNOWN` known outcomes: nothing can be concluded about their rows.
    """

    weights: Array | None
    without: Indices


def inverse_probability_weights(known: Flags, kind: Indices, *, groups: Indices | None = None) -> Overlap:
    r"""Weights of known rows: one over the share of their kind's rows whose outcome is known.

    .. math:: w_i = \frac{n_{s(i)}}{m_{s(i)}}

    with n rows of kind s, of which the outcome of m is known. The probability of being known is so modelled
    without any form, and the weighted kinds have the sizes of the real ones. Right if within a kind it does not depend
    on the outcome.

    Parameters
    ----------
    known : ndarray of shape (N,)
    kind : ndarray of shape (N,)
        0..S-1: what decides whether the outcome becomes known, such as the action, or the action and a part of the
        probability's range.
    groups : ndarray of shape (N,), optional
        Known rows count towards `FEWEST_KNOWN` by group.

    Examples
    --------
    >>> known = np.arange(40) % 4 == 0
    >>> inverse_probability_weights(known, np.zeros(40, dtype=int)).weights[:5]
    array([4., 0., 0., 0., 4.])
    >>> inverse_probability_weights(known, np.arange(40) % 2)  # odd rows are never known
    Overlap(weights=None, without=array([1]))

    References
    ----------
    Horvitz & Thompson (1952), *A Generalization of Sampling Without Replacement from a Finite Universe*, JASA 47.
    Begg & Greenes (1983), *Assessment of Diagnostic Tests when Disease Verification is Subject to Selection Bias*,
    Biometrics 39.
    """
    total = np.bincount(kind)
    seen = np.bincount(kind[known], minlength=len(total))
    units = seen if groups is None else _units(kind[known], groups[known], len(total))
    without = np.flatnonzero((total > 0) & (units < FEWEST_KNOWN))
    if len(without):
        return Overlap(None, without)
    ratio = total / np.maximum(seen, 1)
    return Overlap(np.where(known, ratio[kind], 0.0), without)


def horvitz_thompson(values: Array, probability: Array, *, rows: int) -> float:
    r"""Mean over all rows from those that were seen: :math:`\frac{1}{n} \sum_i v_i / \pi_i`.

    Unbiased, and noisier than `hajek`, because the weights need not sum to the number of rows.

    Parameters
    ----------
    values, probability : ndarray of shape (M,)
        Of the rows that were seen; of being seen.
    rows : int
        Seen or not.

    Examples
    --------
    >>> horvitz_thompson(np.array([1.0, 0.0, 2.0]), np.array([0.5, 0.5, 0.25]), rows=8)
    1.25

    References
    ----------
    Horvitz & Thompson (1952), *A Generalization of Sampling Without Replacement from a Finite Universe*, JASA 47.
    """
    return float((values / probability).sum() / rows)


def hajek(
    values: Array,
    probability: Array,
    *,
    least: Array | None = None,
    most: Array | None = None,
    groups: Indices | None = None,
) -> Difference:
    r"""Weighted mean of the rows that were seen, with its 95 % interval.

    .. math:: \frac{\sum_i v_i / \pi_i}{\sum_i 1 / \pi_i}

    Probabilities that were estimated from the same rows make the estimate better than the interval says (Hirano, Imbens
    & Ridder, 2003), so that it covers at least as often as stated.

    Parameters
    ----------
    values, probability : ndarray of shape (M,)
        Of the rows that were seen; of being seen, above 0.
    least, most : ndarray of shape (M,), optional
        What each value could have been.
    groups : ndarray of shape (M,), optional
        Rows of a group are one draw.

    Examples
    --------
    >>> found = hajek(np.array([1.0, 0.0, 2.0]), np.array([0.5, 0.5, 0.25]))
    >>> found.mean, found.low < 1.25 < found.high
    (1.25, True)

    References
    ----------
    Hájek (1971), comment on Basu, in *Foundations of Statistical Inference*.
    Lunceford & Davidian (2004), *Stratification and Weighting via the Propensity Score in Estimation of Causal
    Treatment Effects*, Statistics in Medicine 23.
    """
    return paired_difference(
        values, np.zeros_like(values), least=least, most=most, weights=1.0 / probability, groups=groups
    )


def _units(kind: Indices, groups: Indices, kinds: int) -> Indices:
    pairs = np.unique(np.stack([kind, groups], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=kinds)
