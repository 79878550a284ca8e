"""The hot path: from raw logits to what is believed of a row (A to C) and what to do about it (D, E)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import le
from typing import Final

import numpy as np

from service.core import conformal, prior
from service.core.calibration import Map
from service.core.calibration.identity import Identity
from service.core.calibration.temperature import Temperature
from service.core.costs import Prices, priced
from service.core.decision import Decisions, decide
from service.core.detector import Detector
from service.core.fused import FEW_CLASSES, softmax, softmax_of_one
from service.core.inverse import Inverse
from service.core.numerics import Array, Flags, Indices, log_softmax, read_only, width
from service.core.ood.range import outside

FEW_COLUMNS: Final = 64  # of one row: Python's comparisons beat NumPy's calls up to here
FARTHEST: Final = np.finfo(np.float64).max  # what a distance says that overflows, or that a missing value makes NaN


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
    temperature : float or None
        T, where stages B and C are nothing but a temperature.
    plain : bool
        Whether there are scores, each with one threshold for all rows.
    gate : list of int
        Places of the detectors whose flags count.
    limits : tuple of two lists
        ``low`` and ``high`` as Python's numbers.
    nowhere : ndarray of shape (1, F)
        What `outside` says of a row within all ranges; read-only.
    """

    detectors: tuple[Detector, ...]
    low: Array
    high: Array
    range_gated: bool
    calibrator: Map
    calibrated: bool
    inverse: Inverse | None = None
    temperature: float | None = field(init=False, repr=False, compare=False)
    plain: bool = field(init=False, repr=False, compare=False)
    gate: list[int] = field(init=False, repr=False, compare=False)
    limits: tuple[list[float], list[float]] = field(init=False, repr=False, compare=False)
    nowhere: Flags = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unscaled = 1.0 if isinstance(self.calibrator, Identity) else None
        scaled = self.calibrator.temperature if isinstance(self.calibrator, Temperature) else unscaled
        plain = bool(self.detectors) and all(detector.by_class is None for detector in self.detectors)
        object.__setattr__(self, "temperature", scaled if self.inverse is None else None)
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "gate", [i for i, detector in enumerate(self.detectors) if detector.gated])
        object.__setattr__(self, "limits", (self.low.tolist(), self.high.tolist()))
        object.__setattr__(self, "nowhere", read_only(np.zeros((1, len(self.low)), dtype=np.bool_)))


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
    probabilities : ndarray of shape (N, K), or None
        Exponentials of ``log_probs``, where they were needed on the way.
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
    probabilities: Array | None = None

    def known(self, log_probs: Array) -> Array | None:
        """The probabilities of these log-probabilities, if they are this posterior's own."""
        return self.probabilities if log_probs is self.log_probs else None

    def __getitem__(self, rows: slice | Indices) -> "Posterior":
        """The same of some of the rows."""
        return Posterior(
            self.logits[rows],
            self.log_probs[rows],
            self.scores[rows],
            None if self.p_values is None else self.p_values[rows],
            None if self.flags is None else self.flags[rows],
            self.outside[rows],
            None if self.p_value is None else self.p_value[rows],
            None if self.flagged is None else self.flagged[rows],
            None if self.lengths is None else self.lengths[rows],
            None if self.probabilities is None else self.probabilities[rows],
        )


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
    n, k = logits.shape
    seen = columns if features is None else features
    logits = logits.astype(width(k), copy=False)
    if n == 1 and k <= FEW_CLASSES and chain.plain and chain.temperature is not None:
        return _postprocess_one(chain, logits, columns, seen, chain.temperature)
    if chain.temperature is not None:
        found = softmax(logits, temperature=chain.temperature)
        scores = [d.swept(found.top, found.nll) if d.swept else _score(d, logits, seen) for d in chain.detectors]
        return weigh(chain, logits, found.log_probs, scores, columns, probabilities=found.probabilities)
    undone = logits if chain.inverse is None else chain.inverse.apply(log_softmax(logits))
    log_probs = chain.calibrator.apply(undone)
    scores = [_score(d, logits, seen) for d in chain.detectors]
    return weigh(chain, logits, log_probs, scores, columns, probabilities=np.exp(log_probs))


def weigh(
    chain: Chain,
    logits: Array,
    log_probs: Array,
    values: Sequence[Array],
    columns: Array,
    *,
    probabilities: Array | None = None,
) -> Posterior:
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
    probabilities : ndarray, optional
        Exponentials of ``log_probs``, where somebody has them already.
    """
    scores = np.empty((len(logits), len(values)))
    for i, value in enumerate(values):
        scores[:, i] = value
    scores = bounded(scores)
    cells = outside(columns, low=chain.low, high=chain.high)
    if not chain.calibrated:
        return Posterior(logits, log_probs, scores, None, None, cells, None, None, None, probabilities)
    p_values, flags = _significance(chain.detectors, scores, logits)
    gate = chain.gate
    p_value = np.minimum(1.0, len(gate) * np.minimum.reduce(p_values[:, gate], axis=1)) if gate else None
    flagged: Flags = np.logical_or.reduce(flags[:, gate], axis=1)
    if chain.range_gated:
        flagged |= np.logical_or.reduce(cells, axis=1)
    return Posterior(logits, log_probs, scores, p_values, flags, cells, p_value, flagged, None, probabilities)


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
    return log_probs, choose(log_probs, policy, flagged=posterior.flagged, known=posterior.known(log_probs))


def choose(log_probs: Array, policy: Policy, *, flagged: Flags | None, known: Array | None = None) -> Decisions:
    """Stage E alone: `decide` under a policy.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    policy : Policy
    flagged : ndarray of shape (N,), or None when uncalibrated
    known : ndarray of shape (N, K), optional
        The probabilities, where somebody has them already.
    """
    return decide(log_probs, policy.prices, on_ood=policy.on_ood, flagged=flagged, probabilities=known)


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
    if math.isfinite(np.add.reduce(scores, axis=None)):
        return scores
    return np.nan_to_num(scores, nan=FARTHEST)


def _score(detector: Detector, logits: Array, seen: Array) -> Array:
    return detector.score.score(seen if detector.score.needs == "features" else logits)


def _significance(detectors: tuple[Detector, ...], scores: Array, logits: Array) -> tuple[Array, Flags]:
    p_values = np.ones_like(scores)
    flags = np.zeros(scores.shape, dtype=np.bool_)
    for i, detector in enumerate(detectors):
        p, limits = detector.p_values(scores[:, i], logits), detector.thresholds(logits)
        if p is not None and limits is not None:
            p_values[:, i] = p
            flags[:, i] = scores[:, i] > limits
    return p_values, flags


def _postprocess_one(chain: Chain, logits: Array, columns: Array, seen: Array, temperature: float) -> Posterior:
    # One row of few classes, in Python's floats: what NumPy's calls cost would be most of the request.
    top, nll, log_probs, probabilities = softmax_of_one(logits[0].tolist(), temperature=temperature)
    cells = _outside_of_one(chain, columns)
    scores = [d.swept(top, nll) if d.swept else _score_of_one(d, logits, seen) for d in chain.detectors]
    k, s, believed = len(log_probs), len(scores), log_probs + probabilities + scores
    if not chain.calibrated:
        packed = np.array([believed])
        return Posterior(
            logits, packed[:, :k], packed[:, 2 * k :], None, None, cells, None, None, None, packed[:, k : 2 * k]
        )
    p_values, flags, joint, flagged = _significance_of_one(chain, scores)
    flagged = flagged or (chain.range_gated and cells is not chain.nowhere and bool(cells.any()))
    packed = np.array([believed + p_values + [joint]])
    return Posterior(
        logits,
        packed[:, :k],
        packed[:, 2 * k : 2 * k + s],
        packed[:, 2 * k + s : -1],
        _constant(tuple(flags))[None],
        cells,
        packed[0, -1:] if chain.gate else None,
        _constant((flagged,)),
        None,
        packed[:, k : 2 * k],
    )


def _outside_of_one(chain: Chain, columns: Array) -> Flags:
    # Nearly every row lies within all ranges, which Python's comparisons of a few numbers find out sooner than NumPy's.
    if columns.shape[1] <= FEW_COLUMNS:
        values = columns[0].tolist()
        if all(map(le, chain.limits[0], values)) and all(map(le, values, chain.limits[1])):
            return chain.nowhere
    return outside(columns, low=chain.low, high=chain.high)


def _significance_of_one(chain: Chain, scores: list[float]) -> tuple[list[float], list[bool], float, bool]:
    # Of every score, then of the gate: p-value and flag.
    p_values, flags, least, flagged = [], [], 1.0, False
    for detector, score in zip(chain.detectors, scores, strict=True):
        p, flag = 1.0, False
        if detector.calibration is not None and detector.threshold is not None:
            p, flag = conformal.p_value(detector.calibration, score), score > detector.threshold
        if detector.gated:
            least, flagged = min(least, p), flagged or flag
        p_values.append(p)
        flags.append(flag)
    return p_values, flags, min(1.0, len(chain.gate) * least), flagged


def _score_of_one(detector: Detector, logits: Array, seen: Array) -> float:
    score: float = _score(detector, logits, seen).item()
    return score if math.isfinite(score) else float(np.nan_to_num(score, nan=FARTHEST))


@lru_cache(maxsize=256)
def _constant(flags: tuple[bool, ...]) -> Flags:
    # Few scores have few patterns of flags: one is found again quicker than made.
    return read_only(np.array(flags))
