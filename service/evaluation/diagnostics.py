"""Whether what was said can be believed: calibration against chance, and promised against paid costs."""

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from service.core.assessment.chance import chance_bound
from service.core.assessment.decomposition import Loss, binned_decomposition, corp_decomposition
from service.core.assessment.metrics import log_loss
from service.core.assessment.miscalibration import equal_width, favourite, smooth_gap
from service.core.assessment.recalibration import Cox, calibration_in_the_large, class_log_odds, cox
from service.core.assessment.reliability import class_event, debiased_interval, null_test, reliability_curve
from service.core.assessment.selective import Coverage, area_under_risk_coverage, coverage_at_risk, excess_area
from service.core.assessment.utility import (
    Difference,
    cost_calibration,
    difference_bounds,
    dominated_actions,
    oracle_regret,
    paired_difference,
    savings_score,
)
from service.core.costs import class_ranges
from service.core.decision import Decisions, best_action, decide
from service.core.intervals import highest_share
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.core.pipeline import Policy, Posterior
from service.core.sampling import effective_rows, informative
from service.evaluation.checks import (
    PREDICTED,
    ActionCheck,
    BinnedParts,
    CalibrationCheck,
    Diagnostics,
    Diagram,
    FlagCheck,
    LossCheck,
    Parts,
    PolicyCheck,
    Promise,
    SelectiveCheck,
    Shift,
)

LEVEL = 0.95
NORMAL = 1.96
RISKS: Final = (0.01, 0.05, 0.1)
LOSSES: Final[tuple[Loss, ...]] = ("brier", "log_loss")
DIAGRAM_BINS: Final = 10  # fewer than the calibration error's, so that most hold enough rows to see anything


@dataclass(frozen=True, slots=True)
class Event:
    """What calibration is judged on: the second class of two, or the predicted one of many.

    Attributes
    ----------
    of : str
    probabilities, log_odds : ndarray of shape (N,)
    happened : ndarray of shape (N,)
    """

    of: str
    probabilities: Array
    log_odds: Array
    happened: Flags


@dataclass(frozen=True, slots=True)
class Sample:
    """How rows count: weights, groups, and the seed of what is drawn from them."""

    weights: Array | None
    groups: Indices | None
    seed: int

    @property
    def uneven(self) -> str | None:
        """Why what counts independent, equal rows cannot be told; None where they are."""
        return "groups" if self.groups is not None else "weights" if self.weights is not None else None

    def alone(self, rows: int) -> str | None:
        """Why the rows bound no difference: one unit shows no spread; None where there are more."""
        if rows < 2:
            return "one_row"
        return "one_group" if self.groups is not None and self.groups.min() == self.groups.max() else None

    def difference(self, costs: Array, others: Array, bounds: tuple[Array, Array]) -> Difference:
        """`paired_difference` of two values per row, whose difference lies within bounds whatever the row's class."""
        least, most = bounds
        return paired_difference(costs, others, least=least, most=most, weights=self.weights, groups=self.groups)

    def noise(self, costs: Array, log_probs: Array, rows: Flags | slice = slice(None)) -> float:
        """How far chance carries the mean over some rows of costs by class, either way; not a number without rows."""
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        own = costs[rows]
        return chance_bound(own, np.exp(log_probs[rows]), weights=weights, groups=groups) if len(own) else math.nan


def diagnose(
    posterior: Posterior,
    labels: Indices,
    *,
    classes: tuple[str, ...],
    policies: dict[str, Policy],
    weights: Array | None = None,
    groups: Indices | None = None,
    seed: int = 0,
) -> Diagnostics:
    """Check probabilities and policies against the labels.

    Parameters
    ----------
    posterior : Posterior
    labels : ndarray of shape (N,)
    classes : tuple of str
    policies : dict of str to Policy
    weights : ndarray of shape (N,), optional
        Positive.
    groups : ndarray of shape (N,), optional
        A group is one draw in intervals, and chance takes its rows to have one fate.
    seed : int
        Of what is simulated.
    """
    sample = Sample(*informative(weights, groups), seed)
    return Diagnostics(
        _calibration(posterior, labels, classes, sample),
        _selective(posterior.log_probs, labels, sample),
        {name: _policy(policy, posterior, labels, sample) for name, policy in policies.items()},
        _losses(posterior, labels, sample),
    )


def shifts(
    log_probs: Array,
    labels: Indices,
    classes: tuple[str, ...],
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> dict[str, Shift]:
    """Classes predicted more or less often than they occur, beyond what chance does to any of them in 1 of 20 samples.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    weights, groups : ndarray of shape (N,), optional
    """
    z = NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / (2.0 * len(classes)))
    large = calibration_in_the_large(log_probs, labels, weights=weights, groups=groups, z=z)
    beyond = np.abs(large.predicted - large.observed) > large.noise + 1e-9
    return {classes[k]: Shift(float(large.predicted[k]), float(large.observed[k])) for k in np.flatnonzero(beyond)}


def event_of(log_probs: Array, labels: Indices, classes: tuple[str, ...]) -> Event:
    """The second class of two, the predicted class of more.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    """
    k = len(classes)
    if k == 2:
        said, happened = class_event(log_probs, labels, 1)
        return Event(classes[1], said, class_log_odds(log_probs, 1), happened)
    said, happened = favourite(log_probs, labels)
    return Event(PREDICTED, said, class_log_odds(np.sort(log_probs, axis=1), k - 1), happened)


def check_flags(
    posterior: Posterior,
    elsewhere: Posterior | None,
    *,
    expected: float | None,
    calibrated_on: int,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> FlagCheck:
    """Whether the gate flags as many rows of the population as it should, and how many of another it catches.

    Parameters
    ----------
    posterior : Posterior
    elsewhere : Posterior, optional
        Rows of another population.
    expected : float, optional
        False-alarm rate of the gate's scores; None when it has rules only.
    calibrated_on : int
        Rows that the threshold rests on: it is noisy too.
    weights, groups : ndarray of shape (N,), optional
    """
    n, flags = len(posterior.log_probs), posterior.flagged
    limit, reason = None, "uncalibrated" if flags is None else "rules_only" if expected is None else None
    if expected is not None and flags is not None:
        independent = max(1, math.floor(effective_rows(n, weights=weights, groups=groups) + 1e-9))
        limit = highest_share(independent, expected, calibrated_on=max(calibrated_on, 1))
    caught = None if elsewhere is None or elsewhere.flagged is None else float(elsewhere.flagged.mean())
    return FlagCheck(
        rows=n,
        flagged=None if flags is None else int(flags.sum()),
        rate=None if flags is None else float(np.average(flags, weights=weights)),
        expected=expected,
        limit=limit,
        limit_reason=reason,
        ood_rows=0 if elsewhere is None else len(elsewhere.logits),
        ood_rate=caught,
    )


def _calibration(posterior: Posterior, labels: Indices, classes: tuple[str, ...], sample: Sample) -> CalibrationCheck:
    event, weights = event_of(posterior.log_probs, labels, classes), sample.weights
    parts = _parts(event, weights)
    line = cox(event.log_odds, event.happened, weights=weights, groups=sample.groups)
    return CalibrationCheck(
        of=event.of,
        rows=len(labels),
        probability=float(np.average(event.probabilities, weights=weights)),
        frequency=float(np.average(event.happened, weights=weights)),
        slope=_finite(line.slope),
        intercept=_finite(line.intercept),
        **_line(line),
        **_against_chance(event, sample),
        miscalibration=parts.miscalibration,
        discrimination=parts.discrimination,
        uncertainty=parts.uncertainty,
        squared_error=parts.squared_error,
        uncalibrated=_parts(event_of(log_softmax(posterior.logits), labels, classes), weights),
        binned={loss: _binned(event, loss, weights) for loss in LOSSES},
        **_by_class(posterior.log_probs, labels, classes, sample),
        diagram=_diagram(event, sample),
    )


def _against_chance(event: Event, sample: Sample) -> dict[str, Any]:
    """Calibration errors, and what right probabilities would show."""
    said, happened = event.probabilities, event.happened
    chance = null_test(said, happened, weights=sample.weights, groups=sample.groups, seed=sample.seed)
    gap = (None, None) if sample.uneven else debiased_interval(said, happened, draws=_draws(len(said)))
    return {
        "error": chance.error,
        "chance": chance.quantile,
        "p_value": chance.p_value,
        "smooth_error": smooth_gap(said, happened, weights=sample.weights),
        "gap_low": gap[0],
        "gap_high": gap[1],
        "gap_reason": sample.uneven,
    }


def _by_class(log_probs: Array, labels: Indices, classes: tuple[str, ...], sample: Sample) -> dict[str, Any]:
    """Mean probability against frequency, and what chance allows between them."""
    means = calibration_in_the_large(log_probs, labels, weights=sample.weights, groups=sample.groups)
    columns = {
        "mean_said": means.predicted,
        "mean_happened": means.observed,
        "gaps": means.predicted - means.observed,
        "noise": means.noise,
    }
    found = {key: dict(zip(classes, values.tolist(), strict=True)) for key, values in columns.items()}
    return {**found, "shifted": shifts(log_probs, labels, classes, weights=sample.weights, groups=sample.groups)}


def _line(line: Cox) -> dict[str, Any]:
    slope, intercept = (
        (_finite(value - NORMAL * error), _finite(value + NORMAL * error))
        for value, error in ((line.slope, line.slope_error), (line.intercept, line.intercept_error))
    )
    found = dict(zip(("slope_low", "slope_high", "intercept_low", "intercept_high"), (*slope, *intercept), strict=True))
    reason = "separable" if math.isinf(line.slope) else "one_outcome" if math.isnan(line.slope) else None
    bounded = found["slope_low"] is not None and found["intercept_low"] is not None
    return {**found, "undetermined": reason, "line_reason": None if bounded else reason or "one_group"}


def _diagram(event: Event, sample: Sample) -> Diagram:
    said = event.probabilities
    curve = reliability_curve(
        said,
        event.happened,
        index=equal_width(said, bins=DIAGRAM_BINS),
        draws=_draws(len(said)),
        weights=sample.weights,
        groups=sample.groups,
    )
    return Diagram(
        predicted=curve.predicted.tolist(),
        observed=curve.observed.tolist(),
        low=curve.low.tolist(),
        high=curve.high.tolist(),
        count=curve.count.tolist(),
        outside=int(((curve.observed < curve.low) | (curve.observed > curve.high)).sum()),
    )


def _draws(rows: int) -> int:
    """Simulations that a report can wait for."""
    return int(np.clip(50_000_000 // max(rows, 1), 200, 1000))


def _parts(event: Event, weights: Array | None) -> Parts:
    found = corp_decomposition(event.probabilities, event.happened, weights=weights)
    return Parts(found.miscalibration, found.discrimination, found.uncertainty, found.score)


def _binned(event: Event, loss: Loss, weights: Array | None) -> BinnedParts:
    found = binned_decomposition(event.probabilities, event.happened, loss=loss, weights=weights)
    return BinnedParts(*map(_finite, astuple(found)))


def _selective(log_probs: Array, labels: Indices, sample: Sample) -> SelectiveCheck:
    confidence, right = favourite(log_probs, labels)
    wrong = (~right).astype(np.float64)
    # log-probabilities still rank rows whose probabilities have all rounded to one
    whole = (area_under_risk_coverage(log_probs.max(axis=1), ~right), float(np.average(wrong, weights=sample.weights)))
    area = excess_area(confidence, wrong)
    if sample.uneven is not None:
        return SelectiveCheck(area, None, sample.uneven, *whole)
    found = {f"{risk:g}": coverage_at_risk(confidence, wrong, risk=risk, confidence=LEVEL) for risk in RISKS}
    return SelectiveCheck(area, {risk: _promise(at) for risk, at in found.items()}, None, *whole)


def _promise(found: Coverage) -> Promise:
    threshold = _finite(found.threshold)
    return Promise(threshold, found.coverage, "no_threshold" if threshold is None else None)


def _losses(posterior: Posterior, labels: Indices, sample: Sample) -> LossCheck:
    raw, rows = log_softmax(posterior.logits), np.arange(len(labels))
    before, after = (_finite(log_loss(p, labels, weights=sample.weights)) for p in (raw, posterior.log_probs))
    if before is None or after is None:
        return LossCheck(posterior.flagged is not None, before, after, None, None, None, "infinite_loss")
    change = raw - posterior.log_probs
    bounds = change.min(axis=1), change.max(axis=1)
    gain = sample.difference(-posterior.log_probs[rows, labels], -raw[rows, labels], bounds)
    return LossCheck(posterior.flagged is not None, before, after, *_interval(gain), sample.alone(len(labels)))


def _policy(policy: Policy, posterior: Posterior, labels: Indices, sample: Sample) -> PolicyCheck:
    log_probs, cost, weights = posterior.log_probs, policy.cost, sample.weights
    taken = decide(log_probs, cost, on_ood=policy.on_ood, flagged=posterior.flagged)
    cheapest, _ = best_action(cost.T, scale=class_ranges(cost))
    label = cheapest[log_probs.argmax(axis=1)]
    constant = np.full_like(label, np.average(cost[:, labels], axis=1, weights=weights).argmin())
    paid, promised = cost[taken.action, labels], taken.risks[np.arange(len(labels)), taken.action]
    saved = sample.difference(cost[label, labels], paid, difference_bounds(label, taken.action, cost))
    excess = sample.difference(paid, promised, _of_realised(cost, taken.action, promised))
    of_constant = sample.difference(cost[constant, labels], paid, difference_bounds(constant, taken.action, cost))
    return PolicyCheck(
        *_interval(saved),
        *_interval(excess),
        sample.noise(cost[taken.action], log_probs),
        oracle_regret(taken.action, cost, labels, weights=weights),
        _finite(savings_score(taken.action, cost, labels, weights=weights)),
        _actions(policy, taken, labels, log_probs, sample),
        {policy.actions[worse]: policy.actions[better] for worse, better in dominated_actions(cost)},
        *_interval(of_constant),
        None if policy.on_ood is None else policy.actions[policy.on_ood],
        sample.alone(len(labels)),
    )


def _actions(
    policy: Policy, taken: Decisions, labels: Indices, log_probs: Array, sample: Sample
) -> dict[str, ActionCheck]:
    held = cost_calibration(taken.risks, taken.action, policy.cost, labels, weights=sample.weights)
    of_row = policy.cost[taken.action]
    noise = (sample.noise(of_row, log_probs, taken.action == a) for a in range(len(policy.actions)))
    columns = zip(policy.actions, held.count, held.expected, held.realised, noise, strict=True)
    return {
        name: ActionCheck(
            int(count), _finite(promised), _finite(paid), _finite(within), None if count else "never_taken"
        )
        for name, count, promised, paid, within in columns
    }


def _of_realised(cost: Array, actions: Indices, expected: Array) -> tuple[Array, Array]:
    """The least and the most that any class of a row would have cost beyond what was expected."""
    return cost.min(axis=1)[actions] - expected, cost.max(axis=1)[actions] - expected


def _interval(found: Difference) -> tuple[float, float | None, float | None]:
    return found.mean, _finite(found.low), _finite(found.high)


def _finite(value: float | np.floating) -> float | None:
    return float(value) if math.isfinite(value) else None
