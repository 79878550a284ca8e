r"""Whether scores of new rows rank among the calibration scores as chance ranks them.

Calibration scores cut the line into n + 1 gaps. If new rows are exchangeable with calibration rows, the gaps that they
fall into are drawn from Pólya's urn, whatever the distribution of the scores. After m rows, of which :math:`m_b` fell
into a bin of :math:`g_b` gaps,

.. math:: P(\text{next in bin } b) = \frac{g_b + m_b}{n + 1 + m}

This is the null's prediction, exact for every n and every m. New rows share one calibration set, which makes their
p-values against it dependent, and the urn is that dependence: the number of rows above a threshold at rank k is
beta-binomial with :math:`\mathrm{Beta}(n + 1 - k, k)`, the law that the flag rate has over calibration sets. A rate
that is higher because n is finite is therefore no evidence, however long the version lives. It equals conformal
p-values of every row among all rows before it, put into bins; no randomness is needed. Ties move the edge of a bin by
less than one gap.

Alternatives tilt the calibration frequencies, :math:`q_j(b) \propto g_b e^{\eta_j \varphi(b)}`: towards larger or
smaller scores, and towards the last bin, whose edge is the threshold of a flag. They compete in `change_mixture`.

References
----------
Vovk, Gammerman & Shafer (2005), *Algorithmic Learning in a Random World*, Springer (conformal test martingales).
Vovk (2021), *Testing Randomness Online*, Statistical Science 36.
Bates et al. (2023), *Testing for Outliers with Conformal p-values*, Annals of Statistics 51.
Blackwell & MacQueen (1973), *Ferguson Distributions via Pólya Urn Schemes*, Annals of Statistics 1.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np

from service.core.conformal import Reference
from service.core.numerics import Array, Indices
from service.core.sequential.change_mixture import State, advance, begin, followed

QUANTILES: Final = (0.25, 0.5, 0.75, 0.9)
"""Edges of bins below the threshold."""

TILTS: Final = (0.2, 0.4, 0.8, 1.6)
RARER: Final = (-0.8, -0.4, 0.4, 0.8, 1.6, 2.4)
"""Changes of the log-odds of the last bin."""


@dataclass(frozen=True, slots=True)
class Bins:
    """How many gaps between calibration scores lie in every bin, and what alternatives make of their frequencies.

    Attributes
    ----------
    gaps : ndarray of shape (B,)
    log_alternatives : ndarray of shape (J, B)
        Logarithms of the bins' probabilities.
    """

    gaps: Array
    log_alternatives: Array

    @property
    def log_weights(self) -> Array:
        """Logarithms of the weights of the alternatives, all the same, shape (J,)."""
        return np.full(len(self.log_alternatives), -np.log(len(self.log_alternatives)))


@dataclass(frozen=True, slots=True)
class Ranks:
    """Whether scores rank among calibration scores as chance ranks them.

    Attributes
    ----------
    edges : ndarray of shape (B - 1,)
        Calibration scores, ascending; a row belongs to the bin of the first edge that is not below it.
    among : Bins
    """

    needs: ClassVar[str] = "scores"

    edges: Array
    among: Bins

    @classmethod
    def of(cls, calibration: Reference, *, threshold: float) -> Self:
        """Bins between quantiles of the calibration scores, and the flagged ones above the threshold.

        Parameters
        ----------
        calibration : Reference
        threshold : float
            The last edge; a calibration score; of any other value, the one below it.

        Examples
        --------
        >>> from service.core.conformal import reference
        >>> found = Ranks.of(reference(np.arange(1.0, 101.0)), threshold=96.0)
        >>> found.edges.round(3), found.among.gaps
        (array([25., 50., 75., 90., 96.]), array([25., 25., 25., 15.,  6.,  5.]))
        """
        edge = calibration.covering(threshold)
        last = max(int(calibration.caps.searchsorted(edge, side="right")) - 1, 0)
        places = [int(calibration.ranks.searchsorted(q * calibration.n)) for q in QUANTILES]
        # A tie ends at its last rank: an edge within it would count its rows twice.
        kept = sorted({_end_of_tie(calibration, place) for place in [*places, last] if place <= last})
        return cls(calibration.caps[kept], bins(calibration.ranks[kept], calibration.n))

    def begin(self) -> State:
        """Before any row."""
        return begin_ranks(self.among)

    def follow(self, state: State, values: Array, labels: Indices) -> tuple[State, Array]:
        """The state after more rows, and log E after each; ``values`` are scores (N,)."""
        del labels
        rows = [np.asarray(b) for b in self.edges.searchsorted(values)]
        return followed(state, rows, lambda now, row: advance_ranks(now, row, self.among))


def _end_of_tie(calibration: Reference, place: int) -> int:
    return int(calibration.caps.searchsorted(calibration.caps[place], side="right")) - 1


def bins(ranks: Indices, n: int) -> Bins:
    """Bins of calibration scores of certain ranks: rows up to each, and those above the last.

    Parameters
    ----------
    ranks : ndarray of shape (B - 1,)
        Ascending, from 1 to n.
    n : int
        How many calibration scores there are.

    Examples
    --------
    >>> found = bins(np.array([10, 19]), 19)
    >>> found.gaps, len(found.log_alternatives)
    (array([10.,  9.,  1.]), 14)
    """
    gaps = np.diff(np.concatenate([[0], ranks, [n + 1]])).astype(np.float64)
    middle = (np.cumsum(gaps) - 0.5 * gaps) / gaps.sum()
    position = np.log(middle) - np.log1p(-middle)
    position /= np.sqrt(gaps @ position**2 / gaps.sum())
    last = np.arange(len(gaps)) == len(gaps) - 1
    tilts = [sign * tilt * position for sign in (-1.0, 1.0) for tilt in TILTS] + [tilt * last for tilt in RARER]
    log_q = np.log(gaps) + np.array(tilts)
    return Bins(gaps, log_q - np.logaddexp.reduce(log_q, axis=1, keepdims=True))


def begin_ranks(among: Bins, shape: tuple[int, ...] = ()) -> State:
    """Before any row: the rows in every bin are what it remembers."""
    weights = np.broadcast_to(among.log_weights, (*shape, len(among.log_alternatives)))
    return State(np.zeros((*shape, len(among.gaps))), begin(weights))


def advance_ranks(state: State, fell_into: Indices, among: Bins) -> State:
    """After one more row of every process.

    Parameters
    ----------
    state : State
    fell_into : ndarray of shape (...)
        Index of the bin.
    among : Bins
    """
    at = np.asarray(fell_into)[..., None]
    urn = among.gaps + state.memory
    predicted = np.log(np.take_along_axis(urn, at, axis=-1) / urn.sum(axis=-1, keepdims=True))
    evidence = advance(state.evidence, among.log_alternatives.T[fell_into] - predicted, among.log_weights)
    return State(state.memory + (np.arange(len(among.gaps)) == at), evidence)
