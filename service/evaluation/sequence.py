"""How well sequences did: every position as a row, the structure they make, and what paths of actions cost."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from service.core.assessment.metrics import log_loss
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices
from service.core.pipeline import Policy, Posterior
from service.core.sequence import decide_positions, flat, lengths_of, row_sums
from service.core.smoothing import adjacent_jsd, segments
from service.evaluation.checks import Diagnostics
from service.evaluation.diagnostics import diagnose
from service.evaluation.flags import Trust, beliefs_json, trust_of
from service.evaluation.report import Report, evaluate
from service.fitting.sequence import check_lengths
from service.runtime.model import Model

MOST_LENGTHS = 20  # segments at least so long are counted together


@dataclass(frozen=True, slots=True)
class Structure:
    """Segments: runs of one label.

    Attributes
    ----------
    segments : int
        How many there are.
    mean_length : float
    lengths : dict of str to int
        How many have each length; the last key counts all longer ones too.
    adjacent_jsd : float or None
        Mean Jensen-Shannon divergence of neighbours, in nats; None for labels that are no distributions.
    """

    segments: int
    mean_length: float
    lengths: dict[str, int]
    adjacent_jsd: float | None = None


@dataclass(frozen=True, slots=True)
class PathReport:
    """What a policy cost per sequence, changes of the action included.

    Attributes
    ----------
    expected_cost, realised_cost : float
        What was promised, and what the labels then charged.
    separate_cost : float
        What it costs to decide every position alone, changes included.
    switches : float
        Changes of the action per sequence.
    """

    expected_cost: float
    realised_cost: float
    separate_cost: float
    switches: float


@dataclass(frozen=True, slots=True)
class SequencesReport:
    """What `evaluate` says of sequences.

    Attributes
    ----------
    sequences : int
    smoother : str
    positions : Report
        Every unpadded position as a row.
    unsmoothed_log_loss : float
        Of positions answered one by one.
    said, true : Structure
        Of the most probable labels, and of the true ones.
    paths : dict of str to PathReport
    trust : Trust
        Flags and OOD scores, which are of whole sequences.
    """

    sequences: int
    smoother: str
    positions: Report
    unsmoothed_log_loss: float
    said: Structure
    true: Structure
    paths: dict[str, PathReport]
    trust: Trust

    def as_json(self) -> dict[str, Any]:
        """Plain values, without anything that is not finite."""
        return {
            "sequences": self.sequences,
            "rows": self.positions.rows,
            "smoother": self.smoother,
            **beliefs_json(self.positions),
            "unsmoothed_log_loss": self.unsmoothed_log_loss,
            "structure": {"said": asdict(self.said), "true": asdict(self.true)},
            "paths": {name: asdict(path) for name, path in self.paths.items()},
            **asdict(self.trust),
        }


def evaluate_sequences(
    model: Model,
    posterior: Posterior,
    log_probs: Array,
    labels: Indices,
    *,
    smoother: str,
    policies: dict[str, Policy],
    elsewhere: Posterior | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> SequencesReport:
    """Compare what was said of every position with what was true.

    Parameters
    ----------
    model : Model
    posterior : Posterior
        Stages A to C for the labelled sequences.
    log_probs : ndarray of shape (N, L, K)
        Smoothed.
    labels : ndarray of shape (N, L)
        -1 behind the end.
    smoother : str
        What smoothed them.
    policies : dict of str to Policy
    elsewhere : Posterior, optional
        Sequences known to come from another population.
    weights, groups : ndarray of shape (N,), optional
        Of the sequences; without groups every sequence is a group of its positions.

    Raises
    ------
    DataError
        If a sequence has another number of labels than positions.
    """
    lengths = lengths_of(posterior)
    check_lengths(labels, lengths)
    own, units = of_positions(lengths, weights, groups)
    true = labels[labels != PADDING]
    beliefs = flat_posterior(posterior, log_probs)
    said = np.where(np.arange(log_probs.shape[1]) < lengths[:, None], log_probs.argmax(axis=2), PADDING)
    return SequencesReport(
        sequences=len(labels),
        smoother=smoother,
        positions=evaluate(
            replace(model.chain, detectors=()),
            beliefs,
            beliefs.log_probs,
            true,
            classes=model.classes,
            policies=policies,
            weights=own,
            groups=units,
        ),
        unsmoothed_log_loss=log_loss(flat(posterior.log_probs, lengths), true, weights=own),
        said=_structure(said, lengths, _mean_jsd(log_probs, lengths)),
        true=_structure(labels, lengths, None),
        paths={n: _path(p, posterior, log_probs, true, weights) for n, p in policies.items() if p.switch is not None},
        trust=trust_of(model.chain, posterior, elsewhere, weights=weights),
    )


def diagnose_sequences(
    posterior: Posterior,
    log_probs: Array,
    labels: Indices,
    model: Model,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
    seed: int = 0,
) -> Diagnostics:
    """Check positions' probabilities and costs against what was true; positions of a sequence belong together."""
    beliefs = flat_posterior(posterior, log_probs)
    own, units = of_positions(lengths_of(posterior), weights, groups)
    true = labels[labels != PADDING]
    return diagnose(beliefs, true, classes=model.classes, policies=model.policies, weights=own, groups=units, seed=seed)


def of_positions(lengths: Indices, weights: Array | None, groups: Indices | None) -> tuple[Array | None, Indices]:
    """Weights and groups of unpadded positions, given those of their sequences."""
    units = np.arange(len(lengths)) if groups is None else groups
    return None if weights is None else np.repeat(weights, lengths), np.repeat(units, lengths)


def flat_posterior(posterior: Posterior, log_probs: Array) -> Posterior:
    """Every unpadded position as a row of its own, with its sequence's flag."""
    lengths = lengths_of(posterior)
    return replace(
        posterior,
        logits=flat(posterior.logits, lengths),
        log_probs=flat(log_probs, lengths),
        scores=np.empty((int(lengths.sum()), 0)),
        p_values=None,
        flags=None,
        outside=np.repeat(posterior.outside, lengths, axis=0),
        p_value=None,
        flagged=None if posterior.flagged is None else np.repeat(posterior.flagged, lengths),
        lengths=None,
    )


def _structure(labels: Indices, lengths: Indices, divergence: float | None) -> Structure:
    runs = segments(labels, lengths=lengths)
    counted = np.bincount(np.minimum(runs.lengths[runs.lengths > 0], MOST_LENGTHS))
    names = [*map(str, range(MOST_LENGTHS)), f"{MOST_LENGTHS} or more"]
    return Structure(
        segments=int(runs.counts.sum()),
        mean_length=float(lengths.sum() / runs.counts.sum()),
        lengths={names[i]: int(counted[i]) for i in np.flatnonzero(counted).tolist()},
        adjacent_jsd=divergence,
    )


def _mean_jsd(log_probs: Array, lengths: Indices) -> float | None:
    pairs = int((lengths - 1).sum())
    return float(adjacent_jsd(log_probs, lengths=lengths).sum() / pairs) if pairs else None


def _path(policy: Policy, posterior: Posterior, log_probs: Array, true: Indices, weights: Array | None) -> PathReport:
    lengths = lengths_of(posterior)
    along = decide_positions(log_probs, policy, lengths=lengths, flagged=posterior.flagged)
    alone = decide_positions(log_probs, replace(policy, switch=None), lengths=lengths, flagged=posterior.flagged)
    price = policy.switch or 0.0
    paid, separate = (
        np.average(row_sums(policy.cost[plan.decisions.action, true], lengths) + price * plan.switches, weights=weights)
        for plan in (along, alone)
    )
    total, switches = (np.average(values, weights=weights) for values in (along.total, along.switches))
    return PathReport(float(total), float(paid), float(separate), float(switches))
