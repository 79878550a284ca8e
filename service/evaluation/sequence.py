"""Sequences as a problem of an evaluation: every position a row; segments, and what paths of actions cost.

Tested in tests/tasks/test_sequences.py and tests/evaluation/test_evaluate_before.py.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from service.core.assessment.metrics import log_loss
from service.core.assessment.segment_overlap import segment_overlap_score
from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices, log_softmax
from service.core.pipeline import Policy, at_prevalence
from service.core.sequence import SequencePlan, decide_positions, flat, lengths_of, present, row_sums
from service.core.smoothing import adjacent_jsd, segments
from service.evaluation.classification_problem import ClassificationProblem, LabelledAnswer, SampleDesign
from service.fitting.sequence import check_lengths

POSITIONS: Final = "positions"
MOST_LENGTHS = 20  # segments at least so long are counted together


@dataclass(frozen=True, slots=True)
class Segments:
    """Runs of one label.

    Attributes
    ----------
    count : int
        Segments in all sequences.
    mean_length : float
        Their mean length.
    lengths : dict of str to int
        How many have each length; the last key counts all longer ones too.
    adjacent_jsd : float or None
        Mean Jensen-Shannon divergence of neighbouring positions, in nats; None for true labels and single positions.
    """

    count: int
    mean_length: float
    lengths: dict[str, int]
    adjacent_jsd: float | None = None


@dataclass(frozen=True, slots=True)
class PathReport:
    """What a policy cost per sequence, changes of the action included.

    Attributes
    ----------
    expected_cost, realised_cost : float
        Along the cheapest path.
    separate_cost : float
        Realised cost of deciding every position on its own, changes included.
    switches : float
        Changes of the action per sequence.
    """

    expected_cost: float
    realised_cost: float
    separate_cost: float
    switches: float


@dataclass(frozen=True, slots=True)
class SequenceStructure:
    """What concerns neighbouring positions.

    Attributes
    ----------
    smoother : str
        Name of the smoother.
    unsmoothed_log_loss : float
        Of the positions without a smoother.
    segment_overlap_score : float
        SOV'99 of the most probable labels.
    predicted, true : Segments
        Of the most probable labels, and of the true ones.
    paths : dict of str to PathReport
        Of the policies that have a price on changing the action.
    """

    smoother: str
    unsmoothed_log_loss: float
    segment_overlap_score: float
    predicted: Segments
    true: Segments
    paths: dict[str, PathReport]


def sequence(labelled: LabelledAnswer) -> tuple[dict[str, ClassificationProblem], SequenceStructure]:
    """One problem, of all unpadded positions, and the structure that they make.

    Parameters
    ----------
    labelled : LabelledAnswer

    Raises
    ------
    DataError
        If a sequence has another number of labels than positions.
    """
    posterior, policies = labelled.answer.posterior, labelled.chosen_policies
    check_lengths(labelled.labels, lengths_of(posterior))
    alone = {name: _plan(labelled, replace(policy, switch=None)) for name, policy in policies.items()}
    problem = _problem(labelled, alone)
    paths = {
        name: _path(labelled, policy, alone[name]) for name, policy in policies.items() if policy.switch is not None
    }
    return {POSITIONS: problem}, _structure(labelled, problem, paths)


def _plan(labelled: LabelledAnswer, policy: Policy) -> SequencePlan:
    posterior = labelled.answer.posterior
    lengths = lengths_of(posterior)
    return decide_positions(labelled.answer.log_probs, policy, lengths=lengths, flagged=posterior.flagged)


def _problem(labelled: LabelledAnswer, alone: dict[str, SequencePlan]) -> ClassificationProblem:
    answer = labelled.answer
    model, lengths = answer.model, lengths_of(answer.posterior)
    raw = at_prevalence(flat(answer.posterior.logits, lengths), source=model.source, target=answer.target)
    return ClassificationProblem(
        classes=model.classes,
        log_probs=flat(answer.log_probs, lengths),
        uncalibrated=log_softmax(raw),
        labels=labelled.labels[labelled.labels != PADDING],
        sample=_sample(labelled, lengths),
        policies=labelled.chosen_policies,
        decisions={name: plan.decisions for name, plan in alone.items()},
        calibrator=labelled.calibrator,
    )


def _sample(labelled: LabelledAnswer, lengths: Indices) -> SampleDesign:
    """Positions of a sequence belong together: without groups every sequence is one."""
    units = np.arange(len(lengths)) if labelled.groups is None else labelled.groups
    weights = None if labelled.weights is None else np.repeat(labelled.weights, lengths)
    return SampleDesign.of(weights, np.repeat(units, lengths))


def _structure(
    labelled: LabelledAnswer, problem: ClassificationProblem, paths: dict[str, PathReport]
) -> SequenceStructure:
    answer = labelled.answer
    lengths = lengths_of(answer.posterior)
    unsmoothed = flat(answer.posterior.log_probs, lengths)
    predicted = np.where(present(lengths, answer.log_probs.shape[1]), answer.log_probs.argmax(axis=2), PADDING)
    return SequenceStructure(
        smoother=answer.smoother or "none",
        unsmoothed_log_loss=log_loss(unsmoothed, problem.labels, weights=problem.sample.weights),
        segment_overlap_score=segment_overlap_score(labelled.labels, predicted),
        predicted=_segments(predicted, lengths, _mean_jsd(answer.log_probs, lengths)),
        true=_segments(labelled.labels, lengths, None),
        paths=paths,
    )


def _segments(labels: Indices, lengths: Indices, divergence: float | None) -> Segments:
    runs = segments(labels, lengths=lengths)
    counted = np.bincount(np.minimum(runs.lengths[runs.lengths > 0], MOST_LENGTHS))
    names = [*map(str, range(MOST_LENGTHS)), f"{MOST_LENGTHS} or more"]
    return Segments(
        count=int(runs.counts.sum()),
        mean_length=float(lengths.sum() / runs.counts.sum()),
        lengths={names[i]: int(counted[i]) for i in np.flatnonzero(counted).tolist()},
        adjacent_jsd=divergence,
    )


def _mean_jsd(log_probs: Array, lengths: Indices) -> float | None:
    pairs = int((lengths - 1).sum())
    return float(adjacent_jsd(log_probs, lengths=lengths).sum() / pairs) if pairs else None


def _path(labelled: LabelledAnswer, policy: Policy, alone: SequencePlan) -> PathReport:
    along = _plan(labelled, policy)
    realised, separate = (_realised(labelled, policy, plan) for plan in (along, alone))
    total, switches = (np.average(values, weights=labelled.weights) for values in (along.total, along.switches))
    return PathReport(float(total), realised, separate, float(switches))


def _realised(labelled: LabelledAnswer, policy: Policy, plan: SequencePlan) -> float:
    """Mean cost of a sequence by its true labels, changes included."""
    true = labelled.labels[labelled.labels != PADDING]
    spent = row_sums(policy.cost[plan.decisions.action, true], lengths_of(labelled.answer.posterior))
    return float(np.average(spent + (policy.switch or 0.0) * plan.switches, weights=labelled.weights))
