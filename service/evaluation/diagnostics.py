"""Whether what was said can be believed: calibration against chance, and promised against paid costs."""

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from service.core.costs import class_ranges
from service.core.decision import best_action, decide
from service.core.decomposition import Loss, binned_decomposition, corp_decomposition
from service.core.miscalibration import favourite, smooth_gap
from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Policy, Posterior
from service.core.recalibration import calibration_in_the_large, class_log_odds, cox
from service.core.reliability import class_event, null_test
from service.core.sampling import mean_noise
from service.core.selective import coverage_at_risk, excess_area
from service.core.utility import (
    cost_calibration,
    difference_bounds,
    dominated_actions,
    oracle_regret,
    paired_difference,
    savings_score,
)

PREDICTED = "the predicted class"
LEVEL = 0.95
NORMAL = 1.96
RISKS: Final = (0.01, 0.05, 0.1)
LOSSES: Final[tuple[Loss, ...]] = ("brier", "log_loss")


@dataclass(frozen=True, slots=True)
class BinnedParts:
    """Murphy's parts of a mean loss, in 15 bins; None where infinite.

    Attributes
    ----------
    score : float or None
        ``reliability - resolution + uncertainty + within``.
    reliability, resolution, uncertainty : float or None
        Loss by saying the bins' probabilities instead of their frequencies; saved by these over the base rate; the base
        rate's own.
    within : float or None
        What the bins hide.
    """

    score: float | None
    reliability: float | None
    resolution: float | None
    uncertainty: float | None
    within: float | None


@dataclass(frozen=True, slots=True)
class Shift:
    """A class that is predicted more or less often than it occurs, beyond chance."""

    said: float
    happened: float


@dataclass(frozen=True, slots=True)
class CalibrationCheck:
    """How one probability compares with what happened.

    Attributes
    ----------
    of : str
        The second class of two, or the predicted class.
    error, chance, p_value : float
        Calibration error (15 bins), the 95 % quantile that a perfect predictor would show on as many rows, and the
        share of perfect predictors with a larger error.
    smooth_error : float
        The same without bins (smECE).
    slope, intercept : float or None
        Of a logistic regression on the log-odds: 1 and 0 when calibrated, slope below 1 when too sure. None where
        the rows do not determine them, and for more than two classes.
    miscalibration, discrimination, uncertainty : float
        CORP parts of the Brier score: first minus second plus third is the score.
    binned : dict of str to BinnedParts
        Murphy's parts of "brier" and "log_loss".
    mean_said, mean_happened : dict of str to float
        Mean probability and frequency of every class.
    shifted : dict of str to Shift
        Classes whose two means differ by more than chance does: a bias, which no temperature can mend.
    """

    of: str
    error: float
    chance: float
    p_value: float
    smooth_error: float
    slope: float | None
    intercept: float | None
    miscalibration: float
    discrimination: float
    uncertainty: float
    binned: dict[str, BinnedParts]
    mean_said: dict[str, float]
    mean_happened: dict[str, float]
    shifted: dict[str, Shift]

    @property
    def is_within_chance(self) -> bool:
        """Whether a perfect predictor might well look like this."""
        return self.error <= self.chance


@dataclass(frozen=True, slots=True)
class ActionCheck:
    """What one action was promised to cost, and cost; None where it was never taken."""

    taken: int
    promised: float | None
    paid: float | None


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """How a policy's promises held.

    Attributes
    ----------
    saved : float
        Cost per row saved against believing the most probable class.
    saved_low, saved_high : float or None
        Its 95 % interval, which knows of costly cases that did not occur; None where all rows are of one group.
    excess, excess_low, excess_high : float or None
        Cost per row paid beyond what was promised, with its interval, as above.
    noise : float
        How far ``excess`` may lie from 0, either way, in 19 of 20 samples, if the probabilities are right.
    regret : float
        Cost per row beyond that of always knowing the class.
    savings : float or None
        Share of the cheapest single action's cost that was saved; None unless that cost is positive.
    actions : dict of str to ActionCheck
    dominated : dict of str to str
        Actions that another one beats in every class, and that one: they are never worth taking.
    """

    saved: float
    saved_low: float | None
    saved_high: float | None
    excess: float
    excess_low: float | None
    excess_high: float | None
    noise: float
    regret: float
    savings: float | None
    actions: dict[str, ActionCheck]
    dominated: dict[str, str]


@dataclass(frozen=True, slots=True)
class Promise:
    """The most rows that may be answered while their error rate stays below a risk, with 95 % confidence.

    Attributes
    ----------
    threshold : float or None
        Answer where the most probable class has at least this probability; None where no threshold keeps the promise.
    coverage : float
        Share of the rows answered.
    """

    threshold: float | None
    coverage: float


@dataclass(frozen=True, slots=True)
class SelectiveCheck:
    """What leaving rows unanswered buys.

    Attributes
    ----------
    excess_area : float
        Area under the risk-coverage curve beyond that of the best order of the same errors (E-AURC).
    at_risk : dict of str to Promise, or None
        For error rates of `RISKS`; None where rows are weighted or in groups: the guarantee is of independent rows.
    """

    excess_area: float
    at_risk: dict[str, Promise] | None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What `temperance evaluate` adds to the report."""

    calibration: CalibrationCheck
    selective: SelectiveCheck
    policies: dict[str, PolicyCheck]


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
        Rows of a group are resampled together, and chance takes them to have one fate.
    seed : int
        Of the resampling.
    """
    found = _calibration(posterior.log_probs, labels, classes, weights=weights, groups=groups, seed=seed)
    checks = {
        name: _policy(policy, posterior, labels, weights=weights, groups=groups) for name, policy in policies.items()
    }
    counted = weights is None and groups is None
    return Diagnostics(found, _selective(posterior.log_probs, labels, counted=counted), checks)


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
    large = calibration_in_the_large(log_probs, labels, weights=weights, groups=groups)
    limit = NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / (2.0 * len(classes)))
    beyond = np.abs(large.predicted - large.observed) > limit * large.standard_error + 1e-9
    return {classes[k]: Shift(float(large.predicted[k]), float(large.observed[k])) for k in np.flatnonzero(beyond)}


def _calibration(
    log_probs: Array,
    labels: Indices,
    classes: tuple[str, ...],
    *,
    weights: Array | None,
    groups: Indices | None,
    seed: int,
) -> CalibrationCheck:
    said, happened = _event(log_probs, labels)
    chance = null_test(said, happened, weights=weights, groups=groups, seed=seed)
    parts = corp_decomposition(said, happened, weights=weights)
    log_odds, event = class_log_odds(log_probs, 1), labels == 1
    line = cox(log_odds, event, weights=weights, groups=groups) if len(classes) == 2 else None
    means = calibration_in_the_large(log_probs, labels, weights=weights)
    return CalibrationCheck(
        of=classes[1] if len(classes) == 2 else PREDICTED,
        error=chance.error,
        chance=chance.quantile,
        p_value=chance.p_value,
        smooth_error=smooth_gap(said, happened, weights=weights),
        slope=None if line is None else _finite(line.slope),
        intercept=None if line is None else _finite(line.intercept),
        miscalibration=parts.miscalibration,
        discrimination=parts.discrimination,
        uncertainty=parts.uncertainty,
        binned={loss: _binned(said, happened, loss, weights) for loss in LOSSES},
        mean_said=dict(zip(classes, means.predicted.tolist(), strict=True)),
        mean_happened=dict(zip(classes, means.observed.tolist(), strict=True)),
        shifted=shifts(log_probs, labels, classes, weights=weights, groups=groups),
    )


def _binned(said: Array, happened: Flags, loss: Loss, weights: Array | None) -> BinnedParts:
    return BinnedParts(*map(_finite, astuple(binned_decomposition(said, happened, loss=loss, weights=weights))))


def _event(log_probs: Array, labels: Indices) -> tuple[Array, Flags]:
    return class_event(log_probs, labels, 1) if log_probs.shape[1] == 2 else favourite(log_probs, labels)


def _selective(log_probs: Array, labels: Indices, *, counted: bool) -> SelectiveCheck:
    confidence, right = favourite(log_probs, labels)
    wrong = (~right).astype(np.float64)
    area = excess_area(confidence, wrong)
    if not counted:
        return SelectiveCheck(area, None)
    found = {f"{risk:g}": coverage_at_risk(confidence, wrong, risk=risk, confidence=LEVEL) for risk in RISKS}
    return SelectiveCheck(area, {risk: Promise(_finite(at.threshold), at.coverage) for risk, at in found.items()})


def _policy(
    policy: Policy,
    posterior: Posterior,
    labels: Indices,
    *,
    weights: Array | None,
    groups: Indices | None,
) -> PolicyCheck:
    log_probs, cost = posterior.log_probs, policy.cost
    taken = decide(log_probs, cost, on_ood=policy.on_ood, flagged=posterior.flagged)
    cheapest, _ = best_action(cost.T, scale=class_ranges(cost))
    believed = cheapest[log_probs.argmax(axis=1)]
    bounds = (difference_bounds(believed, taken.action, cost), _of_paid(cost, taken.action, taken.risks))
    paid, promised = cost[taken.action, labels], taken.risks[np.arange(len(labels)), taken.action]
    spread = np.einsum("nk,nk->n", np.exp(log_probs), (cost[taken.action] - promised[:, None]) ** 2)
    noise = NORMAL * mean_noise(np.sqrt(spread), weights=weights, groups=groups)
    saved, excess = (
        paired_difference(one, other, least=least, most=most, weights=weights, groups=groups)
        for one, other, (least, most) in zip((cost[believed, labels], paid), (paid, promised), bounds, strict=True)
    )
    held = cost_calibration(taken.risks, taken.action, cost, labels, weights=weights)
    actions = {
        name: ActionCheck(int(count), _finite(promised), _finite(paid))
        for name, count, promised, paid in zip(policy.actions, held.count, held.expected, held.realised, strict=True)
    }
    beaten = {policy.actions[worse]: policy.actions[better] for worse, better in dominated_actions(cost)}
    (saved_low, saved_high), (excess_low, excess_high) = (tuple(map(_finite, (d.low, d.high))) for d in (saved, excess))
    return PolicyCheck(
        saved.mean,
        saved_low,
        saved_high,
        excess.mean,
        excess_low,
        excess_high,
        noise,
        oracle_regret(taken.action, cost, labels, weights=weights),
        _finite(savings_score(taken.action, cost, labels, weights=weights)),
        actions,
        beaten,
    )


def _of_paid(cost: Array, actions: Indices, risks: Array) -> tuple[Array, Array]:
    """The least and the most that any class of a row would have cost beyond what was expected."""
    expected = risks[np.arange(len(actions)), actions]
    return cost.min(axis=1)[actions] - expected, cost.max(axis=1)[actions] - expected


def _finite(value: float | np.floating) -> float | None:
    return float(value) if math.isfinite(value) else None
