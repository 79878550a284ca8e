"""The hot path: from raw logits to what is believed of a row (A to C) and what to do about it (D, E)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.core import conformal, prior
from service.core.calibration import Map
from service.core.decision import Decisions, Prices, decide, priced
from service.core.inverse import Inverse
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.core.ood import Score
from service.core.ood.range import outside


@dataclass(frozen=True, slots=True)
class Detector:
    """An OOD score; with its calibration scores it also has a threshold, p-values and flags.

    Attributes
    ----------
    name : str
    score : Score
    calibration : Reference or None
        None in an uncalibrated version.
    threshold : float or None
    gated : bool
        Whether its flag counts for the row.
    by_class : ByClass or None
        References and thresholds within every predicted class, in place of those of all rows.
    """

    name: str
    score: Score
    calibration: conformal.Reference | None
    threshold: float | None
    gated: bool
    by_class: conformal.ByClass | None = None

    def thresholds(self, logits: Array) -> Array | None:
        """Threshold that applies to every row of logits (N, K), shape (N,); None in an uncalibrated version."""
        if self.threshold is None or self.by_class is None:
            return None if self.threshold is None else np.full(len(logits), self.threshold)
        return self.by_class.thresholds[predicted_class(logits)]

    def p_values(self, scores: Array, logits: Array) -> Array | None:
        """p-value of every row, shape (N,); None in an uncalibrated version."""
        if self.calibration is None or self.by_class is None:
            return None if self.calibration is None else conformal.p_values(self.calibration, scores)
        return conformal.p_values_by_class(self.by_class.references, scores, predicted_class(logits))


@dataclass(frozen=True, slots=True)
class Chain:
    """What stages A to C of one model version consist of.

    Attributes
    ----------
    detectors : tuple of Detector
    low, high : ndarray of shape (F,)
        Plausible ranges of the features.
    range_gated : bool
        Whether a value outside its range flags the row.
    calibrator : Map
    calibrated : bool
        False makes every flag, threshold and p-value None.
    inverse : Inverse or None
        Undoes what the training loss did to the posterior, before the calibrator.
    """

    detectors: tuple[Detector, ...]
    low: Array
    high: Array
    range_gated: bool
    calibrator: Map
    calibrated: bool
    inverse: Inverse | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Named actions with costs, and what an OOD flag does.

    Attributes
    ----------
    name : str
    source : str
        Where it was declared: ``manifest`` or ``request``.
    actions : tuple of str
    cost : ndarray of shape (A, K), or (N, A, K) where every row has its own
    on_ood : int or None
        The action that flagged rows get; None only flags them.
    switch : float or None
        Of sequences: price of another action at the next position; None decides every position alone.
    prices : Prices
        The costs, and what every decision asks of them.
    """

    name: str
    source: str
    actions: tuple[str, ...]
    cost: Array
    on_ood: int | None
    switch: float | None = None
    prices: Prices = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prices", priced(self.cost))


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of N rows, before anybody's prevalence or costs.

    Attributes
    ----------
    logits, log_probs : ndarray of shape (N, K)
        Raw, and calibrated under the source prevalence. Of labels (N, M) and (N, M, 2); of sequences (N, L, K).
    scores : ndarray of shape (N, S)
        One column per detector.
    p_values, flags : ndarray of shape (N, S), or None when uncalibrated
    outside : ndarray of shape (N, F)
        Cells outside their plausible range.
    p_value : ndarray of shape (N,), or None when uncalibrated or without a score in the gate
        Joint p-value of the gate's scores, Bonferroni.
    flagged : ndarray of shape (N,), or None when uncalibrated
    lengths : ndarray of shape (N,), or None
        Of sequences: unpadded positions.
    """

    logits: Array
    log_probs: Array
    scores: Array
    p_values: Array | None
    flags: Flags | None
    outside: Flags
    p_value: Array | None
    flagged: Flags | None
    lengths: Indices | None = None


def postprocess(chain: Chain, logits: Array, columns: Array, *, features: Array | None = None) -> Posterior:
    """Stages A to C: OOD scores on raw logits and features, then the loss inverse and calibration.

    Parameters
    ----------
    chain : Chain
    logits : ndarray of shape (N, K)
        Finite.
    columns : ndarray of shape (N, F)
        Inputs with a plausible range, NaN where a value is missing.
    features : ndarray of shape (N, D), optional
        What feature scores look at; by default the columns.
    """
    seen = columns if features is None else features
    scores = [d.score.score(seen if d.score.needs == "features" else logits) for d in chain.detectors]
    undone = logits if chain.inverse is None else chain.inverse.apply(log_softmax(logits))
    return weigh(chain, logits, chain.calibrator.apply(undone), scores, columns)


def weigh(chain: Chain, logits: Array, log_probs: Array, values: Sequence[Array], columns: Array) -> Posterior:
    """Put OOD scores beside what is believed of the same rows, with p-values and flags where there are thresholds.

    Parameters
    ----------
    chain : Chain
    logits, log_probs : ndarray
        Raw and calibrated, rows first.
    values : sequence of ndarray of shape (N,)
        One for every detector.
    columns : ndarray of shape (N, F)
        Inputs with a plausible range, NaN where a value is missing.
    """
    scores = bounded(np.stack(values, axis=1) if values else np.empty((len(logits), 0)))
    cells = outside(columns, low=chain.low, high=chain.high)
    if not chain.calibrated:
        return Posterior(logits, log_probs, scores, None, None, cells, None, None)
    p_values, flags = _significance(chain.detectors, scores, logits)
    gated = [i for i, detector in enumerate(chain.detectors) if detector.gated]
    p_value = np.minimum(1.0, len(gated) * p_values[:, gated].min(axis=1)) if gated else None
    rules = np.any(cells, axis=1) if chain.range_gated else np.zeros(len(logits), dtype=np.bool_)
    flagged: Flags = np.any(flags[:, gated], axis=1) | rules
    return Posterior(logits, log_probs, scores, p_values, flags, cells, p_value, flagged)


def act(
    posterior: Posterior, policy: Policy, *, source: Array | None = None, target: Array | None = None
) -> tuple[Array, Decisions]:
    """Stages D and E: shift to the prevalence where the decision is taken, then choose.

    Parameters
    ----------
    posterior : Posterior
    policy : Policy
    source : ndarray of shape (K,), optional
        Prevalence the posterior speaks of.
    target : ndarray of shape (K,) or (N, K), optional
        The one asked for, of all rows or of each; without it nothing is shifted.

    Returns
    -------
    log_probs : ndarray of shape (N, K)
        Under ``target``.
    decisions : Decisions
    """
    log_probs = at_prevalence(posterior.log_probs, source=source, target=target)
    return log_probs, choose(log_probs, policy, flagged=posterior.flagged)


def choose(log_probs: Array, policy: Policy, *, flagged: Flags | None) -> Decisions:
    """Stage E alone: `decide` under a policy.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    policy : Policy
    flagged : ndarray of shape (N,), or None when uncalibrated
    """
    return decide(log_probs, policy.prices, on_ood=policy.on_ood, flagged=flagged)


def at_prevalence(log_probs: Array, *, source: Array | None, target: Array | None) -> Array:
    """Stage D alone: `prior.shift` where a target is given, else the same log-probabilities, shape (N, K).

    Raises
    ------
    ValueError
        If there is a target and nobody knows which prevalence the log-probabilities speak of.
    """
    if target is None:
        return log_probs
    if source is None:
        raise ValueError("the source prevalence is unknown, so nothing can be moved to another one")
    return prior.shift(log_probs, source=source, target=target)


def bounded(scores: Array) -> Array:
    """Scores that are numbers: a distance that overflows, or is NaN, is as far away as a double can say."""
    return np.nan_to_num(scores, nan=np.finfo(np.float64).max)


def predicted_class(logits: Array) -> Indices:
    """Class that thresholds go by: the largest raw logit, shape (N,), which no prevalence or calibration moves."""
    return logits.argmax(axis=1)


def _significance(detectors: tuple[Detector, ...], scores: Array, logits: Array) -> tuple[Array, Flags]:
    p_values = np.ones_like(scores)
    flags = np.zeros(scores.shape, dtype=np.bool_)
    for i, detector in enumerate(detectors):
        p, limits = detector.p_values(scores[:, i], logits), detector.thresholds(logits)
        if p is not None and limits is not None:
            p_values[:, i] = p
            flags[:, i] = scores[:, i] > limits
    return p_values, flags
