"""Sequence task: every position has a class, and its neighbours are evidence for it.

Batches are padded: row i has ``lengths[i]`` positions, at least one, and the padding after them is never read.
Flat arrays hold the unpadded positions of all rows, in order.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from service.core.decision import OOD, PATH, Decisions, margin_of, regret
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.core.pipeline import Chain, Policy, Posterior, choose, weigh
from service.core.smoothing import Transitions, forward_backward, jsd_smooth, min_cost_path

STRENGTH = 1.0
"""Price on the divergence of neighbours where a request names none."""


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """Decisions about N sequences.

    Attributes
    ----------
    decisions : Decisions
        Of the flat positions.
    switches : ndarray of shape (N,)
        How often the action changes.
    total : ndarray of shape (N,)
        Expected cost of the whole sequence, changes included.
    """

    decisions: Decisions
    switches: Indices
    total: Array


@dataclass(frozen=True, slots=True)
class Smoother:
    """A way to use neighbouring positions as evidence.

    Attributes
    ----------
    keeps_calibration : bool
    chained : bool
        Whether it needs the transition matrix, and the prevalence of the positions.
    """

    keeps_calibration: bool
    chained: bool


def present(lengths: Indices, length: int) -> Flags:
    """Which of ``length`` positions are no padding, shape (N, L).

    Examples
    --------
    >>> present(np.array([2, 1]), 2)
    array([[ True,  True],
           [ True, False]])
    """
    return np.arange(length) < lengths[:, None]


def flat(values: Array, lengths: Indices) -> Array:
    """Unpadded positions of (N, L, …) one after the other, shape (P, …)."""
    unpadded: Array = values[present(lengths, values.shape[1])]
    return unpadded


def padded(values: Array, lengths: Indices, *, length: int) -> Array:
    """The inverse of `flat`, shape (N, L, …), with zeros behind the end.

    Examples
    --------
    >>> padded(np.array([1.0, 2.0, 3.0]), np.array([2, 1]), length=2)
    array([[1., 2.],
           [3., 0.]])
    """
    whole = np.zeros((len(lengths), length, *values.shape[1:]))
    whole[present(lengths, length)] = values
    return whole


def row_sums(values: Array, lengths: Indices) -> Array:
    """Sum over the positions of every row, shape (N,), of flat values, shape (P,).

    Examples
    --------
    >>> row_sums(np.array([1.0, 2.0, 4.0]), np.array([2, 1]))
    array([3., 4.])
    """
    return np.add.reduceat(values, np.cumsum(lengths) - lengths)


def lengths_of(posterior: Posterior) -> Indices:
    """Unpadded positions of every sequence; ValueError where rows are no sequences."""
    if posterior.lengths is None:
        raise ValueError("these rows are no sequences")
    return posterior.lengths


def postprocess_sequences(chain: Chain, logits: Array, columns: Array, *, lengths: Indices) -> Posterior:
    """Stages A to C, position by position; a sequence's OOD score is the mean over its positions.

    The sequence is what is exchangeable with others, and so what has a threshold and a p-value.

    Parameters
    ----------
    chain : Chain
    logits : ndarray of shape (N, L, K)
    columns : ndarray of shape (N, F)
        Inputs with a plausible range, NaN where a value is missing.
    lengths : ndarray of shape (N,)
    """
    seen = flat(logits, lengths)
    scores = [row_sums(d.score.score(seen), lengths) / lengths for d in chain.detectors]
    undone = seen if chain.inverse is None else chain.inverse.apply(log_softmax(seen))
    log_probs = padded(chain.calibrator.apply(undone), lengths, length=logits.shape[1])
    return replace(weigh(chain, logits, log_probs, scores, columns), lengths=lengths)


def smooth(
    name: str,
    log_probs: Array,
    *,
    lengths: Indices,
    prevalence: Array | None = None,
    transitions: Transitions | None = None,
    strength: float = STRENGTH,
) -> Array:
    """Smoothed log-probabilities of every position, shape (N, L, K).

    Parameters
    ----------
    name : str
        In `SMOOTHERS`.
    log_probs : ndarray of shape (N, L, K)
    lengths : ndarray of shape (N,)
    prevalence : ndarray of shape (K,), optional
        That of ``log_probs``; ``hmm`` needs it.
    transitions : Transitions, optional
        ``hmm`` needs them.
    strength : float
        Of ``jsd``.

    Raises
    ------
    ValueError
        If ``hmm`` lacks what it needs.
    """
    if name == "hmm":
        if prevalence is None or transitions is None:
            raise ValueError("the hmm smoother needs a transition matrix and the prevalence of the positions")
        return forward_backward(log_probs, lengths=lengths, prevalence=prevalence, transitions=transitions)
    return jsd_smooth(log_probs, lengths=lengths, strength=strength) if name == "jsd" else log_probs


def decide_positions(
    log_probs: Array, policy: Policy, *, lengths: Indices, flagged: Flags | None = None
) -> SequencePlan:
    """Action of every position: the cheapest of each alone or, with a price on change, those of the cheapest path.

    A sequence that a flag hands over is handed over as a whole.

    Parameters
    ----------
    log_probs : ndarray of shape (N, L, K)
    policy : Policy
        Its ``switch`` is the price of changing the action between neighbours.
    lengths : ndarray of shape (N,)
    flagged : ndarray of shape (N,), optional
        None means unknown, as in `decision.decide`.
    """
    over = None if flagged is None else np.repeat(flagged, lengths)
    each = flat(log_probs, lengths)
    taken = choose(each, policy, flagged=over)
    if policy.switch:
        taken = _along_path(taken, each, policy, lengths=lengths, length=log_probs.shape[1])
    switches = _switches(taken.action, lengths)
    spent = row_sums(taken.risks[np.arange(len(taken.action)), taken.action], lengths)
    return SequencePlan(taken, switches, spent + (policy.switch or 0.0) * switches)


def _along_path(taken: Decisions, log_probs: Array, policy: Policy, *, lengths: Indices, length: int) -> Decisions:
    regrets, stakes = (padded(part, lengths, length=length) for part in regret(log_probs, policy.prices))
    path = min_cost_path(regrets, lengths=lengths, switch=policy.switch or 0.0, scale=stakes)
    cheapest = path[present(lengths, length)]
    handed_over = taken.reason >= OOD
    action = np.where(handed_over, taken.action, cheapest)
    moved = ~handed_over & (cheapest != taken.least_cost)
    margin = np.where(moved, margin_of(taken.risks, action), taken.margin)
    return replace(taken, action=action, margin=margin, reason=np.where(moved, PATH, taken.reason).astype(np.int8))


def _switches(action: Indices, lengths: Indices) -> Indices:
    changed = np.zeros(len(action))
    changed[1:] = action[1:] != action[:-1]
    changed[np.cumsum(lengths)[:-1]] = 0.0  # a row's first position follows nothing
    return row_sums(changed, lengths).astype(np.intp)


SMOOTHERS: Final[dict[str, Smoother]] = {
    "hmm": Smoother(keeps_calibration=True, chained=True),
    "none": Smoother(keeps_calibration=True, chained=False),
    "jsd": Smoother(keeps_calibration=False, chained=False),
}
