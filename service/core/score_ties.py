"""Ties to within rounding: edges that no rounding of a score can carry a calibration row across.

The same row has the same score only to rounding: the order of a sum, the batch that it came in, the processor. Ranks,
p-values and thresholds compare a new score with calibration scores, so a row that equals one of them would fall on
either side by chance. They compare with `caps` in place of the scores themselves.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags
from service.core.state_checks import check_ascending

CHAIN_BANDS: Final = 16.0
"""Widest run of calibration scores that is one tie, in bands of its largest score."""

_LARGEST: Final = np.finfo(np.float64).max


@dataclass(frozen=True, slots=True)
class Band:
    r"""How far two computations of one score may lie apart: :math:`b(s) = r\,|s| + e`.

    Attributes
    ----------
    relative : float
        r, in [0, 1).
    noise : float
        e, what the model's own output contributes near 0, where a relative part is nothing.
    """

    relative: float = 1e-9
    noise: float = 0.0

    def widths(self, scores: Array) -> Array:
        """Of every score, the same shape.

        Examples
        --------
        >>> Band(0.01, 0.5).widths(np.array([-100.0, 0.0]))
        array([1.5, 0.5])
        """
        return self.relative * np.abs(scores) + self.noise


ROUNDING: Final = Band()
"""Arithmetic in float64 alone, with seven digits to spare for sums that cancel."""

UNMEASURED: Final = Band(1e-6, 1e-6)
"""A float32 output of unmeasured noise, as in versions fitted before `fit` did."""


def caps(scores: Array, band: Band | Array) -> Array:
    r"""Upper edge of every calibration score's tie: a new score above it lies further away, any other counts as equal.

    .. math:: \kappa_i = \max\{s_j + b_j : s_j \sim s_i\}, \quad
        s_j \sim s_k \Leftarrow [s_j - b_j, s_j + b_j] \cap [s_k - b_k, s_k + b_k] \ne \emptyset

    Scores whose bands touch are one tie, and so are chains of them. Where a score is computed to within its band,
    no calibration row can fall on another side of any edge: its own edge lies at least its band above it, and the
    bands of the next tie begin above that edge. Edges are never below their scores, so p-values only rise: they stay
    valid.

    A chain wider than `CHAIN_BANDS` of its bands is cut in the widest gap near its middle, until no part is wider.
    Edges of such cuts lie in the middle of their gaps, which is the best that scores without a gap allow: there, a
    row within the noise of an edge may still fall on either side.

    Parameters
    ----------
    scores : ndarray of shape (N,)
        Ascending; all of them, not some of the order statistics.
    band : Band, or ndarray of shape (N,)
        How far two computations of each score may lie apart.

    Returns
    -------
    ndarray of shape (N,)
        Ascending, each at least its score.

    Examples
    --------
    >>> caps(np.array([1.0, 1.05, 3.0]), Band(0.0, 0.1)).round(6)
    array([1.15, 1.15, 3.1 ])
    """
    if not len(scores):
        return scores.astype(np.float64)
    reach = band.widths(scores) if isinstance(band, Band) else band
    with np.errstate(over="ignore"):  # the farthest of all is the largest double: above it there is nothing
        edges = np.maximum.accumulate(scores + reach)
        apart = edges[:-1] < np.minimum.accumulate((scores - reach)[::-1])[::-1][1:]
        for first, last in _chains(apart):
            for cut in _cuts(scores, first, last, CHAIN_BANDS * reach[first : last + 1].mean()):
                apart[cut], edges[cut] = True, scores[cut] + 0.5 * (scores[cut + 1] - scores[cut])
    ends = np.flatnonzero(np.append(apart, True))
    return np.minimum(np.repeat(edges[ends], np.diff(ends, prepend=-1)), _LARGEST)


def check_caps(edges: Array, scores: Array) -> None:
    """Refuse edges that do not belong to scores: each is its score or more, and none lies below the one before.

    Parameters
    ----------
    edges, scores : ndarray of shape (N,)

    Raises
    ------
    ValueError
    """
    if (check_ascending("caps", edges, len(scores)) < scores).any():
        raise ValueError("caps must be at least the scores")


def clear_edge(values: Array, low: float, high: float) -> float:
    """A limit in [low, high] as far from all values as can be: the middle of their widest gap there.

    Parameters
    ----------
    values : ndarray of shape (N,)
    low, high : float

    Examples
    --------
    >>> clear_edge(np.array([0.0, 1.2, 1.4, 9.0]), 1.0, 2.0)
    1.7
    """
    inside = np.sort(values[(values > low) & (values < high)])
    points = np.concatenate([[low], inside, [high]])
    widest = int(np.diff(points).argmax())
    return float(points[widest] + 0.5 * (points[widest + 1] - points[widest]))


def _chains(apart: Flags) -> list[tuple[int, int]]:
    ends = np.flatnonzero(np.append(apart, True))
    starts = np.append(0, ends[:-1] + 1)
    several = ends > starts
    return list(zip(starts[several].tolist(), ends[several].tolist(), strict=True))


def _cuts(scores: Array, first: int, last: int, most: float) -> list[int]:
    # Places after which a chain is cut. A gap that reaches into the middle half leaves neither part above 3/4.
    found, parts = [], [(first, last)]
    while parts:
        start, end = parts.pop()
        width = scores[end] - scores[start]
        if width <= most:
            continue
        lower, upper = scores[start] + 0.25 * width, scores[end] - 0.25 * width
        left, right = scores[start:end], scores[start + 1 : end + 1]
        gaps = np.where((right > lower) & (left < upper), right - left, -1.0)
        cut = start + int(gaps.argmax())
        found.append(cut)
        parts += [(start, cut), (cut + 1, end)]
    return found
