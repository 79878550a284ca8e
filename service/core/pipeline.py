"""From raw logits to calibrated probabilities with OOD evidence (stages A to C), then to actions (D and E)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.core import prior, single_row
from service.core.calibration import Map
from service.core.calibration.identity import Identity
from service.core.calibration.temperature import Temperature
from service.core.costs import Prices, priced
from service.core.decision import Decisions, decide
from service.core.detector import Detector
from service.core.fused import softmax
from service.core.inverse import Inverse
from service.core.numerics import Array, Flags, Indices, log_softmax, width
from service.core.ood.range import outside


@dataclass(frozen=True)
class Chain:
    """Stages A to C of one model version.

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

    @cached_property
    def temperature(self) -> float | None:
        """T, where stages B and C are a temperature and nothing else."""
        if self.inverse is not None:
            return None
        unscaled = 1.0 if isinstance(self.calibrator, Identity) else None
        return self.calibrator.temperature if isinstance(self.calibrator, Temperature) else unscaled

    @cached_property
    def plain(self) -> bool:
        """Whether there are scores, each with one threshold for all rows."""
        return bool(self.detectors) and all(detector.by_class is None for detector in self.detectors)

    @cached_property
    def gate(self) -> list[int]:
        """Places of the detectors whose flags count."""
        return [i for i, detector in enumerate(self.detectors) if detector.gated]

    def outside(self, columns: Array) -> Flags:
        """Which cells lie outside their plausible range, shape (N, F)."""
        low, high = self._ranges
        return outside(columns, low=low, high=high)

    @cached_property
    def _ranges(self) -> tuple[Array, Array]:
        # Of shape (1, F): NumPy compares one row with a row in half the time that it takes to broadcast (F,).
        return self.low[None], self.high[None]


@dataclass(frozen=True)
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
        Sequence: price of another action at the next position; None decides every position alone.
    ties : float
        How many times wider than `decision.TIE_TOLERANCE` a tie of costs is: 1, unless a provider rounds otherwise.
    """

    name: str
    source: str
    actions: tuple[str, ...]
    cost: Array
    on_ood: int | None
    switch: float | None = None
    ties: float = 1.0

    @cached_property
    def prices(self) -> Prices:
        """The costs, prepared once for every decision."""
        return priced(self.cost, ties=self.ties)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probabilities and OOD evidence of N rows, before a request's prevalence and costs.

    Attributes
    ----------
    logits, log_probs : ndarray of shape (N, K)
        Raw, and calibrated under the source prevalence. Multilabel: (N, M) and (N, M, 2); sequence: (N, L, K).
    scores : ndarray of shape (N, S)
        One column per detector.
    p_values, flags : ndarray of shape (N, S), or None when uncalibrated
    outside : ndarray of shape (N, F)
        Cells outside their plausible range.
    p_value : ndarray of shape (N,), or None when uncalibrated or without a score in the gate
        Joint p-value of the gate's scores, Bonferroni.
    flagged : ndarray of shape (N,), or None when uncalibrated
    lengths : ndarray of shape (N,), or None
        Sequence: unpadded positions of every row.
    probabilities : ndarray of shape (N, K), or None
        Exponentials of ``log_probs``, where stage C computed them.
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
    if chain.temperature is not None and chain.plain and n == 1 and k <= single_row.FEW_CLASSES:
        row = single_row.evidence(chain.detectors, logits, seen, temperature=chain.temperature)
        return _posterior_of_one(chain, logits, columns, row)
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
    """The posterior of rows from its parts: p-values and flags are added where there are thresholds.

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
        Exponentials of ``log_probs``, where the caller has them already.
    """
    scores = np.empty((len(logits), len(values)))
    for i, value in enumerate(values):
        scores[:, i] = value
    scores = bounded(scores)
    cells = chain.outside(columns)
    if not chain.calibrated:
        return Posterior(logits, log_probs, scores, None, None, cells, None, None, None, probabilities)
    p_values, flags = _significance(chain.detectors, scores, logits)
    gate = chain.gate
    p_value = np.minimum(1.0, len(gate) * np.minimum.reduce(p_values[:, gate], axis=1)) if gate else None
    flagged: Flags = np.logical_or.reduce(flags[:, gate], axis=1)
    if chain.range_gated:
        flagged |= np.logical_or.reduce(cells, axis=1)
    return Posterior(logits, log_probs, scores, p_values, flags, cells, p_value, flagged, None, probabilities)


def choose(log_probs: Array, policy: Policy, *, flagged: Flags | None, known: Array | None = None) -> Decisions:
    """Stage E alone: `decide` under a policy.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    policy : Policy
    flagged : ndarray of shape (N,), or None when uncalibrated
    known : ndarray of shape (N, K), optional
        The probabilities, where the caller has them already.
    """
    if len(log_probs) == 1 and len(policy.actions) <= single_row.FEW_ACTIONS:
        p = np.exp(log_probs) if known is None else known
        return single_row.decide(p, log_probs, policy.prices, on_ood=policy.on_ood, flagged=flagged)
    return decide(log_probs, policy.prices, on_ood=policy.on_ood, flagged=flagged, probabilities=known)


def at_prevalence(log_probs: Array, *, source: Array | None, target: Array | None) -> Array:
    """Stage D alone: `prior.shift` where a target is given, else the same log-probabilities, shape (N, K).

    Raises
    ------
    ValueError
        If there is a target and the source prevalence is unknown.
    """
    if target is None:
        return log_probs
    if source is None:
        raise ValueError("the source prevalence is unknown, so nothing can be moved to another one")
    return prior.shift(log_probs, source=source, target=target)


def bounded(scores: Array) -> Array:
    """Scores that are numbers: a distance that overflows, or is NaN, becomes the largest double."""
    if math.isfinite(np.add.reduce(scores, axis=None)):
        return scores
    return np.nan_to_num(scores, nan=single_row.FARTHEST)


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


def _posterior_of_one(chain: Chain, logits: Array, columns: Array, row: single_row.Evidence) -> Posterior:
    cells = chain.outside(columns)
    if not chain.calibrated:
        return Posterior(logits, row.log_probs, row.scores, None, None, cells, None, None, None, row.probabilities)
    flagged = row.flagged or (chain.range_gated and bool(np.count_nonzero(cells)))
    return Posterior(
        logits,
        row.log_probs,
        row.scores,
        row.p_values,
        row.flags,
        cells,
        row.p_value if chain.gate else None,
        np.array([flagged]),
        None,
        row.probabilities,
    )
