"""Multilabel task: every label is a binary problem of its own, absent against present.

No probability of a set of labels is derived: given a row, labels depend on each other, which the product of their
marginals ignores.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.core import pipeline
from service.core.calibration import Map
from service.core.decision import Decisions
from service.core.inverse import Inverse
from service.core.numerics import Array, Flags, two_column
from service.core.pipeline import Policy, choose


@dataclass(frozen=True, slots=True)
class LabelChain:
    """Stages B and C of one label.

    Attributes
    ----------
    inverse : Inverse or None
        On log-odds, before the calibrator.
    calibrator : Map
        Of two classes.
    """

    inverse: Inverse | None
    calibrator: Map

    def apply(self, log_odds: Array) -> Array:
        """Calibrated log-probabilities (N, 2), absent and present, of raw log-odds (N,)."""
        return self.calibrator.apply(two_column(undo(self.inverse, log_odds)))


@dataclass(frozen=True, slots=True)
class PerLabel:
    """Calibrates every label by a chain of its own.

    Parameters
    ----------
    chains : tuple of LabelChain, length M
    """

    chains: tuple[LabelChain, ...]

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, M, 2), of raw log-odds, shape (N, M).

        Examples
        --------
        >>> from service.core.calibration.identity import Identity
        >>> np.exp(PerLabel((LabelChain(None, Identity()),)).apply(np.array([[np.log(3.0)]]))).round(4)
        array([[[0.25, 0.75]]])
        """
        return np.stack([chain.apply(logits[:, m]) for m, chain in enumerate(self.chains)], axis=1)


def undo(inverse: Inverse | None, log_odds: Array) -> Array:
    """Log-odds of the posterior from those that a training loss made of it; without an inverse they are the same."""
    return log_odds if inverse is None else inverse.apply(log_odds)


def at_prevalence(log_probs: Array, *, source: Array | None, target: Array | None) -> Array:
    """Log-probabilities of every label at the target prevalence, shape (N, M, 2); the same ones without a target.

    Parameters
    ----------
    log_probs : ndarray of shape (N, M, 2)
    source, target : ndarray of shape (M, 2), optional
        Prevalence of absent and present.

    Raises
    ------
    ValueError
        If there is a target and the source prevalence is unknown.
    """
    if target is None:
        return log_probs
    sources = [None] * len(target) if source is None else list(source)
    moved = [
        pipeline.at_prevalence(log_probs[:, m], source=own, target=aim)
        for m, (own, aim) in enumerate(zip(sources, target, strict=True))
    ]
    return np.stack(moved, axis=1)


def decide_labels(
    log_probs: Array, policies: Mapping[int, Policy], *, flagged: Flags | None = None
) -> dict[int, Decisions]:
    """Least-cost action for every label that has costs, `decision.decide` on its two columns.

    Parameters
    ----------
    log_probs : ndarray of shape (N, M, 2)
    policies : mapping of int to Policy
        By the label's index.
    flagged : ndarray of shape (N,), optional
        Of the rows: an out-of-distribution input is one for every label.
    """
    return {m: choose(log_probs[:, m], policy, flagged=flagged) for m, policy in policies.items()}


def shares_of(prevalence: Array) -> Array:
    """Prevalence of absent and present, shape (M, 2), from that of present, shape (M,)."""
    return np.stack([1.0 - prevalence, prevalence], axis=1)
