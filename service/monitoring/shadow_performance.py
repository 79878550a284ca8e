"""A version that runs beside another, compared on the same rows.

Tested in tests/monitoring/test_performance.py.
"""

from dataclasses import dataclass

import numpy as np

from service.core.assessment.comparison import cost_difference, log_loss_difference
from service.core.assessment.utility import Difference as Paired
from service.core.decision import decide
from service.core.numerics import Array, Indices
from service.evaluation.classification_problem import Difference, SampleDesign, finite
from service.monitoring.observations import Decided, Predictions


@dataclass(frozen=True, slots=True)
class PairedPredictions:
    """Predictions of two versions for the same rows, all with an outcome.

    Attributes
    ----------
    version : int
        The shadow's.
    answered : Predictions
    shadow : ndarray of shape (P, K)
        Log-probabilities of the shadow.
    subject : ndarray of shape (P,)
    """

    version: int
    answered: Predictions
    shadow: Array
    subject: Indices


@dataclass(frozen=True, slots=True)
class ShadowPerformance:
    """What a shadow does better or worse on the same rows: below 0 the shadow is better.

    Attributes
    ----------
    version : int
        The shadow's.
    rows, subjects : int
        Rows that both answered, with an outcome, and their subjects.
    log_loss : Difference
        Of the shadow, minus that of the answers, in nats per row.
    costs : dict of str to Difference
        By policy: realised cost of what the shadow's probabilities decide, minus that of the answered actions.
    """

    version: int
    rows: int
    subjects: int
    log_loss: Difference
    costs: dict[str, Difference]


def shadow_performance(pairs: PairedPredictions) -> ShadowPerformance:
    """Compare a shadow with the answers.

    Parameters
    ----------
    pairs : PairedPredictions
        At least one.
    """
    answered, groups = pairs.answered, np.unique(pairs.subject, return_inverse=True)[1]
    sample = SampleDesign.of(None, groups)
    loss = log_loss_difference(pairs.shadow, answered.log_probs, answered.labels, groups=sample.groups)
    return ShadowPerformance(
        version=pairs.version,
        rows=len(answered.labels),
        subjects=int(groups.max()) + 1,
        log_loss=_difference(loss, sample, len(answered.labels)),
        costs={decided.policy.name: _cost(pairs, decided, groups) for decided in answered.decided},
    )


def _cost(pairs: PairedPredictions, decided: Decided, groups: Indices) -> Difference:
    own = decided.places
    sample = SampleDesign.of(None, np.unique(groups[own], return_inverse=True)[1])
    # flags are of inputs, which are the same: what they overruled in the answer they overrule in the shadow
    free = decide(pairs.shadow[own], decided.policy.cost).action
    overruled = decided.action != decide(pairs.answered.log_probs[own], decided.policy.cost).action
    action = np.where(overruled, decided.action, free)
    found = cost_difference(
        action, decided.action, decided.policy.cost, pairs.answered.labels[own], groups=sample.groups
    )
    return _difference(found, sample, len(own))


def _difference(found: Paired, sample: SampleDesign, rows: int) -> Difference:
    return Difference(finite(found.mean), finite(found.low), finite(found.high), sample.too_few(rows))
