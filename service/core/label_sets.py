r"""Conformal label sets: sets that hold the true label with a stated probability.

A label joins the set when its nonconformity is no larger than what calibration rows of that label showed. The
guarantee is split conformal prediction's: it holds whatever the model, as long as nothing behind the scores has learned
from the calibration rows. Scores are therefore taken of the model's own probabilities, before any calibrator. Then the
scores of n calibration rows and of a new one are exchangeable, the new one's is among the
:math:`\lceil (n + 1) c \rceil` smallest of the n + 1 with probability c or more, and it then does not exceed that
order statistic of the n: the true label is in the set. Ties, and labels added to a set, can only raise the coverage.

Class-conditional sets apply this to the rows of each class, and therefore hold under any prevalence; marginal sets hold
on average over the calibration rows' classes, and weighted sets on average over those of a stated prevalence
(`mixed_threshold`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.conformal import FEWEST_STORED, STORED_SCORES, stored_ranks
from service.core.numerics import Array, Flags, Indices, log_softmax, width
from service.core.score_ties import CHAIN_BANDS, ROUNDING, Band, caps, check_caps, clear_edge
from service.core.state_checks import SUM_TOLERANCE, check_array, check_ascending

RAPS_PENALTY: Final = 0.01
RAPS_FREE: Final = 5
SMALLEST: Final = np.finfo(np.float64).tiny
TIE: Final = 1e-9  # nats between two labels of a row that are equally probable


def own_log_probs(logits: Array) -> Array:
    """The model's own log-probabilities in float64, of logits as they are served, shape (N, K).

    What many classes are served with is float32; calibration rows are rounded as requests are.

    Parameters
    ----------
    logits : ndarray of shape (N, K)

    Examples
    --------
    >>> own_log_probs(np.zeros((1, 2))).round(4)
    array([[-0.6931, -0.6931]])
    """
    return log_softmax(logits.astype(width(logits.shape[1]), copy=False).astype(np.float64, copy=False))


def lac(log_probs: Array, tie: float = TIE) -> Array:
    r"""Least ambiguous sets: nonconformity :math:`-\log p_k` of every label, shape (N, K).

    It ranks as the usual :math:`1 - p_k` does, and does not round confident rows together. The smallest sets on
    average; they may be empty.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    tie
        Not used.

    Examples
    --------
    >>> lac(np.log([[0.5, 0.25, 0.25]])).round(4)
    array([[0.6931, 1.3863, 1.3863]])

    References
    ----------
    Sadinle et al. (2019), *Least Ambiguous Set-Valued Classifiers with Bounded Error Levels*, JASA 114.
    """
    del tie
    return -log_probs


def aps(log_probs: Array, tie: float = TIE) -> Array:
    r"""Adaptive sets: mass of the labels more probable than this one, as :math:`-\log` of what is left, shape (N, K).

    .. math:: s_{(j)} = -\log \Bigl(1 - \sum_{i < j} p_{(i)}\Bigr)

    The deterministic variant. The set of level :math:`\tau` is the shortest list of most probable labels whose mass
    reaches :math:`\tau`, so the label of rank j is in it exactly if the mass before it falls short of
    :math:`\tau`. The most probable label has nonconformity 0: every set holds it. Labels that are equally probable
    share a rank, so that neither their order nor rounding decides between them.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    tie : float
        Log-probabilities of neighbours in rank that differ by no more are equal.

    Examples
    --------
    >>> 1.0 - np.exp(-aps(np.log([[0.25, 0.5, 0.25]]))).round(4)
    array([[0.5, 0. , 0.5]])

    References
    ----------
    Romano et al. (2020), *Classification with Valid and Adaptive Coverage*, NeurIPS, section 2.
    """
    order, first = _ranked_labels(log_probs, tie)
    p = np.exp(np.take_along_axis(log_probs, order, axis=1))
    left = np.cumsum(p[:, ::-1], axis=1)[:, ::-1]  # from the improbable end: exact where next to nothing is left
    scores = -np.log(np.maximum(np.take_along_axis(left, first, axis=1), SMALLEST))
    return _unsorted(np.where(first == 0, 0.0, np.maximum(scores, 0.0)), order)


def raps(log_probs: Array, tie: float = TIE) -> Array:
    r"""Regularised adaptive sets: the mass before a label, plus 0.01 for every rank beyond the fifth, shape (N, K).

    .. math:: s_{(j)} = \sum_{i < j} p_{(i)} + \lambda \max(0, j - k_{reg}), \quad \lambda = 0.01, \; k_{reg} = 5

    The long tail of many improbable labels is kept out; up to five classes it ranks as `aps` does.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    tie : float
        As in `aps`.

    Examples
    --------
    >>> raps(np.log([[0.4, 0.3, 0.1, 0.09, 0.06, 0.05]])).round(4)
    array([[0.  , 0.4 , 0.7 , 0.8 , 0.89, 0.96]])

    References
    ----------
    Angelopoulos et al. (2021), *Uncertainty Sets for Image Classifiers using Conformal Prediction*, ICLR.
    """
    order, first = _ranked_labels(log_probs, tie)
    penalty = _unsorted(RAPS_PENALTY * np.maximum(0, first + 1 - RAPS_FREE), order)
    return penalty - np.expm1(-aps(log_probs, tie))


METHODS: Final[dict[str, Callable[[Array, float], Array]]] = {"lac": lac, "aps": aps, "raps": raps}
ADAPTIVE: Final = frozenset({"aps", "raps"})  # their sets always hold the most probable label


@dataclass(frozen=True, slots=True)
class Conformity:
    """Sorted nonconformities of true labels, with their ranks.

    Attributes
    ----------
    scores : ndarray of shape (M,)
        Ascending, all or conservative order statistics.
    ranks : ndarray of shape (M,)
        How many rows, or groups, score no higher; a row counts one over the rows of its group.
    n : int
        Number of rows, or of groups.
    caps : ndarray of shape (M,)
        `ties.caps` of the scores, among all that were ranked: what labels are compared with.
    reach : ndarray of shape (M,)
        How far two computations of each score may lie apart.
    """

    scores: Array
    ranks: Array
    n: int
    caps: Array
    reach: Array

    def __post_init__(self) -> None:
        stored = len(check_ascending("scores", self.scores, None))
        check_caps(self.caps, self.scores)
        ranks = check_ascending("ranks", self.ranks, stored)
        if self.n < 0 or (stored and not (ranks[0] > 0.0 and ranks[-1] <= self.n * (1.0 + SUM_TOLERANCE))):
            raise ValueError("ranks must rise from above 0 to n or less")
        if (check_array("reach", self.reach, stored) < 0.0).any():
            raise ValueError("reach must not be negative")

    def threshold(self, coverage: float) -> float:
        """Edge of the smallest score of rank (n + 1) coverage or more; infinite when n rows cannot give that coverage.

        Rounding decides nothing: it lies above all scores that are equal to within the band, so a label at the
        threshold is a member.
        """
        at = np.searchsorted(self.ranks, (self.n + 1) * coverage - 1e-9)
        return float(self.caps[at]) if at < len(self.caps) else math.inf


@dataclass(frozen=True, slots=True)
class Sets:
    """Label sets of N rows.

    Attributes
    ----------
    members : ndarray of shape (N, K)
    valid : bool
        Whether every label's calibration rows were enough for the coverage. Where they were not, the label is in
        every set: marginal sets are then full.
    """

    members: Flags
    valid: bool


@dataclass(frozen=True, slots=True)
class LabelSets:
    """A fitted method: nonconformities per class, or of all rows together.

    Attributes
    ----------
    method : str
        Of `METHODS`.
    conformities : tuple of Conformity
        One per class; a single one for marginal sets.
    tie : float
        Labels of a row whose log-probabilities are no further apart are equally probable.
    prevalence : ndarray of shape (K,), optional
        Mixes the rankings of the classes into one: sets then hold on average over this prevalence.
    """

    method: str
    conformities: tuple[Conformity, ...]
    tie: float = TIE
    prevalence: Array | None = None

    @property
    def kind(self) -> str:
        """What the coverage holds over: every class, the calibration rows, or a stated prevalence."""
        if self.prevalence is not None:
            return "weighted"
        return "class_conditional" if len(self.conformities) > 1 else "marginal"

    def thresholds(self, coverage: float) -> Array:
        """Largest nonconformity of a member, shape (K,) or (1,)."""
        if self.prevalence is not None:
            return np.array([mixed_threshold(self.conformities, self.prevalence, coverage=coverage)])
        return np.array([conformity.threshold(coverage) for conformity in self.conformities])

    def predict(
        self, log_probs: Array, *, coverage: float, top: Indices | None = None, allow_empty: bool = False
    ) -> Sets:
        """Sets that hold the true label with probability ``coverage`` or more.

        Parameters
        ----------
        log_probs : ndarray of shape (N, K)
            As in `fit`: the model's own.
        coverage : float
            In (0, 1).
        top : ndarray of shape (N,), optional
            The label that is answered; by default the most probable one. Adaptive sets always hold it, and it is what
            fills an empty set: coverage can only rise.
        allow_empty : bool
            Leave sets as they are.

        Examples
        --------
        >>> fitted = fit(np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0, 0, 1]), conditional=False)
        >>> fitted.predict(np.log([[0.7, 0.3], [0.5, 0.5]]), coverage=0.75)
        Sets(members=array([[ True, False],
               [ True, False]]), valid=True)
        """
        limits = self.thresholds(coverage)
        members: Flags = METHODS[self.method](log_probs, self.tie) <= limits
        if not allow_empty:
            top = log_probs.argmax(axis=1) if top is None else top
            rows = np.flatnonzero(~members.any(axis=1)) if self.method not in ADAPTIVE else np.arange(len(members))
            members[rows, top[rows]] = True
        return Sets(members, bool(np.isfinite(limits).all()))


def fit(
    log_probs: Array,
    labels: Indices,
    *,
    method: str = "lac",
    conditional: bool = True,
    groups: Indices | None = None,
    band: Band | Array = ROUNDING,
    limit: int = STORED_SCORES,
) -> LabelSets:
    r"""Nonconformities of calibration rows' true labels, ranked.

    With groups (several rows of a patient) a row counts :math:`1 / m_g`, and n is the number of groups: coverage
    then holds for one row of a new group.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        The model's own, before any calibrator: nothing behind them may have learned from these rows.
    labels : ndarray of shape (N,)
    method : str
        Of `METHODS`.
    conditional : bool
        One ranking per class; `enough_for_classes` checks whether the counts allow it.
    groups : ndarray of shape (N,), optional
    band : Band, or ndarray of shape (N,)
        How far two computations of each row's nonconformity may lie apart. An error of e in the logits moves it by 2e
        at most.
    limit : int
        Scores kept in all; what is left out can only enlarge sets.

    Examples
    --------
    >>> fitted = fit(np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0, 0, 1]))
    >>> fitted.thresholds(0.5).round(4), fitted.thresholds(0.6).round(4)
    (array([0.5108, 0.2231]), array([0.5108,    inf]))

    References
    ----------
    Vovk (2012), *Conditional Validity of Inductive Conformal Predictors*, ACML.
    Lee, Barber and Willett (2023), *Distribution-free inference with hierarchical data*, arXiv 2306.06342.
    """
    classes = log_probs.shape[1]
    tie = _clear_tie(log_probs, band) if method in ADAPTIVE else TIE
    own = METHODS[method](log_probs, tie)[np.arange(len(labels)), labels]
    reach = band.widths(own) if isinstance(band, Band) else band
    parts = [labels == k for k in range(classes)] if conditional else [np.ones(len(labels), dtype=np.bool_)]
    units = np.arange(len(labels)) if groups is None else groups
    share = max(FEWEST_STORED, limit // len(parts))
    ranked = [_ranked(own[part], units[part], reach[part], share) for part in parts]
    return LabelSets(method, tuple(ranked), tie)


def mixed_threshold(conformities: Sequence[Conformity], prevalence: Array, *, coverage: float) -> float:
    r"""Edge of the smallest score that holds the true label under a prevalence; infinite where rows are too few.

    .. math:: \min \Bigl\{ t : \sum_k \pi_k \frac{r_k(t)}{n_k + 1} \ge c \Bigr\}

    with :math:`r_k(t)` of class k's :math:`n_k` rows scoring t or less. These are the weights of conformal prediction
    under label shift, target over source, with the calibration rows' own frequencies for the source; the +1 in every
    class pays for not knowing them better, so that the guarantee stays exact. Put one new row into every class and
    call the threshold of those rows :math:`t^+`. It treats the :math:`n_k + 1` rows of a class alike, so the new one
    of class k is below it with probability :math:`E[r_k^+(t^+)] / (n_k + 1)`, which averages to c or more over
    :math:`\pi`; and :math:`t \ge t^+`, for :math:`r_k \le r_k^+`. Only the classes' proportions may have changed.

    Parameters
    ----------
    conformities : sequence of Conformity
        One per class.
    prevalence : ndarray of shape (K,)
    coverage : float

    Examples
    --------
    >>> fitted = fit(np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0, 0, 1]))
    >>> [round(mixed_threshold(fitted.conformities, np.array(p), coverage=0.55), 4) for p in ([0.5, 0.5], [0.9, 0.1])]
    [0.5108, 0.5108]

    References
    ----------
    Tibshirani et al. (2019), *Conformal Prediction Under Covariate Shift*, NeurIPS.
    Podkopaev & Ramdas (2021), *Distribution-free Uncertainty Quantification for Classification under Label Shift*, UAI.
    """
    shares = [share / (c.n + 1) for share, c in zip(prevalence, conformities, strict=True)]
    gains = [share * np.diff(c.ranks, prepend=0.0) for share, c in zip(shares, conformities, strict=True)]
    scores, reach = (np.concatenate(part) for part in zip(*((c.scores, c.reach) for c in conformities), strict=True))
    order = np.argsort(scores, kind="stable")
    reached = np.flatnonzero(np.cumsum(np.concatenate(gains)[order]) >= coverage - 1e-12)
    return float(caps(scores[order], reach[order])[reached[0]]) if len(reached) else math.inf


def enough_for_classes(counts: Indices, *, coverage: float, most: int = 20) -> bool:
    """Whether sets can be class-conditional: few classes, and each with rows (or groups) enough for the coverage.

    Parameters
    ----------
    counts : ndarray of shape (K,)
    coverage : float
    most : int
        Above so many classes, sets that hold within each are too large to help.

    Examples
    --------
    >>> enough_for_classes(np.array([19, 40]), coverage=0.95), enough_for_classes(np.array([18, 40]), coverage=0.95)
    (True, False)
    """
    return len(counts) <= most and bool(np.all(counts >= (counts + 1) * coverage - 1e-9))


def _clear_tie(log_probs: Array, band: Band | Array) -> float:
    """A limit of equality that no two neighbouring labels of a calibration row are near."""
    gaps = -np.diff(np.sort(log_probs, axis=1)[:, ::-1], axis=1)
    least = max(TIE, band.noise if isinstance(band, Band) else float(np.median(band)))
    return clear_edge(gaps[gaps < CHAIN_BANDS * least], least, CHAIN_BANDS * least)


def _ranked(scores: Array, units: Indices, reach: Array, limit: int) -> Conformity:
    names, of_row, rows_of = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    kept = stored_ranks(len(scores), limit=limit) - 1
    ranks = np.cumsum(1.0 / rows_of[of_row[order]])
    ascending, reach = scores[order], reach[order]
    return Conformity(ascending[kept], ranks[kept], len(names), caps(ascending, reach)[kept], reach[kept])


def _ranked_labels(log_probs: Array, tie: float) -> tuple[Indices, Indices]:
    """Labels from the most probable down, and the place where each one's run of equals begins."""
    order = np.argsort(-log_probs, axis=1, kind="stable")
    sorted_log_probs = np.take_along_axis(log_probs, order, axis=1)
    falls = -np.diff(sorted_log_probs, axis=1, prepend=np.inf) > tie
    return order, np.maximum.accumulate(np.where(falls, np.arange(log_probs.shape[1]), 0), axis=1)


def _unsorted(values: Array, order: Indices) -> Array:
    restored = np.empty_like(values)
    np.put_along_axis(restored, order, values, axis=1)
    return restored
