"""How well a model's probabilities, flags and decisions did on labelled rows."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from service.core.assessment.coding import bits_by_part, code_lengths, cumulative_prior_code_length
from service.core.assessment.metrics import all_metrics, realised_cost, separation_score
from service.core.assessment.ranking import area_under_precision_recall, detection_error, fpr_at_tpr
from service.core.costs import class_ranges
from service.core.decision import Decisions, best_action, decide
from service.core.detector import Detector
from service.core.numerics import Array, Indices, log_softmax
from service.core.pipeline import Chain, Policy, Posterior
from service.core.sampling import informative
from service.evaluation.rates import Acted, ClassReport, Counts, acted, class_reports, label_confusion


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """One OOD score; None where there is no threshold or no OOD data.

    Attributes
    ----------
    threshold : float or None
        That of all rows.
    flag_rate, ood_flag_rate : float or None
        Share of labelled rows, and of rows from elsewhere, above it.
    auroc : float or None
        Chance that a row from elsewhere scores above a labelled one.
    fpr95_ood_positive, fpr95_id_positive : float or None
        FPR@95 by both conventions: labelled rows flagged when 95 % of the others are, and rows from elsewhere accepted
        when 95 % of the labelled ones are.
    aupr_out, aupr_in : float or None
        Area under precision and recall at finding rows from elsewhere, and labelled ones; it depends on the mix.
    detection_error : float or None
        Least error of any threshold, were both kinds equally frequent.
    class_thresholds : dict of str to float, or None
        What applies in place of ``threshold``, by predicted class.
    """

    threshold: float | None
    flag_rate: float | None
    ood_flag_rate: float | None = None
    auroc: float | None = None
    fpr95_ood_positive: float | None = None
    fpr95_id_positive: float | None = None
    aupr_out: float | None = None
    aupr_in: float | None = None
    detection_error: float | None = None
    class_thresholds: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class CodeLength:
    """Prequential code length: bits of the labels in the order of the rows; None where it is infinite.

    Attributes
    ----------
    bits : float or None
        Of all labels. The model does not learn from them, so its prequential length is the plain sum.
    prior_bits : float
        What a coder pays that sees no input and learns the frequencies of the classes as it goes.
    per_label : dict of str to (float or None)
        Bits per label in each consecutive tenth of the rows: where they rise, the model drifts.
    """

    bits: float | None
    prior_bits: float
    per_label: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What a policy cost, per row.

    Attributes
    ----------
    expected_cost : float
        What the probabilities promised of the actions taken.
    realised_cost : float
        What the labels then charged for them.
    label_cost : float
        What it costs to believe the most probable class and take that class' cheapest action.
    constant_cost : float
        What the best single action for everybody costs.
    constant_action : str
    actions : dict of str to int
        How often each was taken.
    overruled : int
        Rows where an OOD flag took over from another action.
    decided : Acted
        The actions by the true class, and what acting on each class is worth.
    """

    expected_cost: float
    realised_cost: float
    label_cost: float
    constant_cost: float
    constant_action: str
    actions: dict[str, int]
    overruled: int
    decided: Acted


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `evaluate` says; `as_json` is its machine-readable form.

    Attributes
    ----------
    classes : dict of str to ClassReport
        How well each class, or each of the most frequent 20, is told from the others.
    confusion : dict of str to dict of str to float, or None
        Most probable class, then true class, then the weight of the rows; None above 20 classes.
    """

    rows: int
    class_counts: dict[str, int]
    metrics: dict[str, float]
    uncalibrated_metrics: dict[str, float]
    flag_rate: float | None
    range_rate: float
    ood_rows: int
    ood_flag_rate: float | None
    scores: dict[str, ScoreReport]
    policies: dict[str, PolicyReport]
    code_length: CodeLength
    classes: dict[str, ClassReport]
    confusion: Counts | None

    def as_json(self) -> dict[str, object]:
        """Plain values, without anything that is not finite."""
        return asdict(self)


def evaluate(
    chain: Chain,
    posterior: Posterior,
    log_probs: Array,
    labels: Indices,
    *,
    classes: tuple[str, ...],
    policies: dict[str, Policy],
    elsewhere: Posterior | None = None,
    raw: Array | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Report:
    """Compare what was said with what was true.

    Parameters
    ----------
    chain : Chain
        Its detectors name the scores.
    posterior : Posterior
        Stages A to C for the labelled rows.
    log_probs : ndarray of shape (N, K)
        Under the prevalence at which the rows are judged.
    labels : ndarray of shape (N,)
    classes : tuple of str
    policies : dict of str to Policy
    elsewhere : Posterior, optional
        Rows known to come from another population.
    raw : ndarray of shape (N, K), optional
        Uncalibrated logits at the prevalence of ``log_probs``, where that is not the source's.
    weights : ndarray of shape (N,), optional
        Positive. They count in metrics, costs and rates; the code length counts rows.
    groups : ndarray of shape (N,), optional
        Rows of a group depend on each other; intervals are wider for it.
    """
    counts = np.bincount(labels, minlength=len(classes))
    weights, groups = informative(weights, groups)
    return Report(
        rows=len(labels),
        class_counts={name: int(count) for name, count in zip(classes, counts, strict=True)},
        metrics=all_metrics(log_probs, labels, weights=weights),
        uncalibrated_metrics=all_metrics(
            log_softmax(posterior.logits if raw is None else raw), labels, weights=weights
        ),
        flag_rate=rate(posterior.flagged, weights=weights),
        range_rate=float(np.average(np.any(posterior.outside, axis=1), weights=weights)),
        ood_rows=0 if elsewhere is None else len(elsewhere.logits),
        ood_flag_rate=None if elsewhere is None else rate(elsewhere.flagged),
        scores={
            d.name: score_report(i, d, posterior, elsewhere, classes, weights=weights)
            for i, d in enumerate(chain.detectors)
        },
        policies={
            name: _policy(policy, posterior, log_probs, labels, classes, weights=weights, groups=groups)
            for name, policy in policies.items()
        },
        code_length=_code_length(log_probs, labels),
        classes=class_reports(log_probs, labels, classes, weights=weights, groups=groups),
        confusion=label_confusion(log_probs, labels, classes, weights=weights),
    )


def score_report(
    i: int,
    detector: Detector,
    posterior: Posterior,
    elsewhere: Posterior | None,
    classes: tuple[str, ...],
    *,
    weights: Array | None = None,
) -> ScoreReport:
    """What one detector, the i-th, did on labelled rows and on those from elsewhere."""
    threshold, by_class = detector.threshold, detector.by_class
    of_class = None if by_class is None else dict(zip(classes, by_class.thresholds.tolist(), strict=True))
    inside_flags = None if posterior.flags is None else posterior.flags[:, i]
    if elsewhere is None:
        return ScoreReport(threshold, rate(inside_flags, weights=weights), class_thresholds=of_class)
    outside_flags = None if elsewhere.flags is None else elsewhere.flags[:, i]
    inside, outside = posterior.scores[:, i], elsewhere.scores[:, i]
    return ScoreReport(
        threshold,
        rate(inside_flags, weights=weights),
        rate(outside_flags),
        separation_score(inside, outside, weights=weights),
        fpr_at_tpr(inside, outside, positive="out", weights=weights),
        fpr_at_tpr(inside, outside, positive="in", weights=weights),
        area_under_precision_recall(inside, outside, positive="out", weights=weights),
        area_under_precision_recall(inside, outside, positive="in", weights=weights),
        detection_error(inside, outside, weights=weights),
        of_class,
    )


def _code_length(log_probs: Array, labels: Indices) -> CodeLength:
    learned = cumulative_prior_code_length(labels, classes=log_probs.shape[1])
    parts = bits_by_part(log_probs, labels)
    return CodeLength(
        _finite(code_lengths(log_probs, labels).sum()),
        float(learned[-1]),
        {str(i + 1): _finite(bits) for i, bits in enumerate(parts)},
    )


def _policy(
    policy: Policy,
    posterior: Posterior,
    log_probs: Array,
    labels: Indices,
    classes: tuple[str, ...],
    *,
    weights: Array | None,
    groups: Indices | None,
) -> PolicyReport:
    taken: Decisions = decide(log_probs, policy.cost, on_ood=policy.on_ood, flagged=posterior.flagged)
    rows = np.arange(len(labels))
    cheapest, _ = best_action(policy.cost.T, scale=class_ranges(policy.cost))
    constant = np.average(policy.cost[:, labels], axis=1, weights=weights)
    best = int(constant.argmin())
    counts = np.bincount(taken.action, minlength=len(policy.actions))
    return PolicyReport(
        expected_cost=float(np.average(taken.risks[rows, taken.action], weights=weights)),
        realised_cost=realised_cost(taken.action, policy.cost, labels, weights=weights),
        label_cost=realised_cost(cheapest[log_probs.argmax(axis=1)], policy.cost, labels, weights=weights),
        constant_cost=float(constant[best]),
        constant_action=policy.actions[best],
        actions={name: int(count) for name, count in zip(policy.actions, counts, strict=True)},
        overruled=int((taken.action != taken.least_cost).sum()),
        decided=acted(taken.action, policy.actions, policy.cost, labels, classes, weights=weights, groups=groups),
    )


def rate(flags: np.ndarray | None, *, weights: Array | None = None) -> float | None:
    """Share that is set, by the rows' weights; None where nothing is flagged for want of a calibration."""
    return None if flags is None else float(np.average(flags, weights=weights))


def _finite(value: float | np.floating) -> float | None:
    return float(value) if math.isfinite(value) else None
