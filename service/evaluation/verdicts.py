"""What an evaluation amounts to, in sentences: each with the number it rests on and what chance alone would do."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.core.costs import class_ranges
from service.core.decision import Decisions, best_action, decide
from service.core.intervals import highest_share
from service.core.miscalibration import favourite, smooth_gap
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.core.pipeline import Policy, Posterior
from service.core.recalibration import Cox, class_log_odds, cox
from service.core.reliability import class_event, debiased_interval, null_test
from service.core.sampling import effective_rows, mean_noise
from service.core.utility import Difference, difference_bounds, paired_difference
from service.evaluation.diagnostics import Shift

Mood = Literal["good", "caution", "note"]
SIGNIFICANT = 0.05
NORMAL = 1.96
NAMED = 3  # classes in a sentence
REMEDY = (
    "A temperature cannot move that, a bias can: fit with --calibrator auto or bcts on rows of this population. Where "
    "only the proportions of the classes differ from the calibration rows', state the prevalence instead."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A conclusion, how it should feel, and the sentences that carry it."""

    mood: Mood
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """What calibration is judged on: the second class of two, or the predicted one of many.

    Attributes
    ----------
    name : str
    probabilities, log_odds : ndarray of shape (N,)
    happened : ndarray of shape (N,)
    weights, groups : ndarray of shape (N,), optional
    """

    name: str
    probabilities: Array
    log_odds: Array
    happened: Flags
    weights: Array | None = None
    groups: Indices | None = None

    def mean(self, values: Array | Flags) -> float:
        """Mean over the rows, by their weights."""
        return float(np.average(values, weights=self.weights))


@dataclass(frozen=True, slots=True)
class Strategies:
    """Cost of every row under a policy and under simpler ways to act.

    Attributes
    ----------
    decisions : Decisions
    promised, paid : ndarray of shape (N,)
        By the probabilities, and by the label.
    variance : ndarray of shape (N,), of what is paid, if the probabilities are right
    label, constant : ndarray of shape (N,), for the most probable class' cheapest and for the best single action
    against_label, against_constant : Difference, how much more the policy costs than these two
    weights, groups : ndarray of shape (N,), optional
    """

    decisions: Decisions
    promised: Array
    paid: Array
    variance: Array
    label: Array
    constant: Array
    against_label: Difference
    against_constant: Difference
    weights: Array | None = None
    groups: Indices | None = None

    def noise(self, rows: Flags | slice = slice(None)) -> float:
        """95 % half-width of the mean paid on some rows about the mean promised; not a number without rows."""
        deviation = np.sqrt(self.variance[rows])
        weights = None if self.weights is None else self.weights[rows]
        groups = None if self.groups is None else self.groups[rows]
        return NORMAL * mean_noise(deviation, weights=weights, groups=groups) if len(deviation) else math.nan

    def mean(self, costs: Array) -> float:
        """Cost per row, by the rows' weights."""
        return float(np.average(costs, weights=self.weights))


def event_of(
    log_probs: Array,
    labels: Indices,
    classes: tuple[str, ...],
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Event:
    """The positive class of a binary, the top label otherwise.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    weights, groups : ndarray of shape (N,), optional
    """
    k = len(classes)
    if k == 2:
        said, happened = class_event(log_probs, labels, 1)
        log_odds, name = class_log_odds(log_probs, 1), f"the probability of “{classes[1]}”"
    else:
        said, happened = favourite(log_probs, labels)
        log_odds, name = class_log_odds(np.sort(log_probs, axis=1), k - 1), "the probability of the predicted class"
    return Event(name, said, log_odds, happened, weights, groups)


def strategies(
    policy: Policy,
    log_probs: Array,
    labels: Indices,
    flagged: Flags | None,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Strategies:
    """What every row cost, and would have cost otherwise.

    Parameters
    ----------
    policy : Policy
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    labels : ndarray of shape (N,)
    flagged : ndarray of shape (N,) or None
    weights, groups : ndarray of shape (N,), optional
    """
    cost, rows = policy.cost, np.arange(len(labels))
    taken = decide(log_probs, cost, on_ood=policy.on_ood, flagged=flagged)
    cheapest, _ = best_action(cost.T, scale=class_ranges(cost))
    best = int(np.average(cost[:, labels], axis=1, weights=weights).argmin())
    believed, always = cheapest[log_probs.argmax(axis=1)], np.full(len(labels), best)
    promised, paid = taken.risks[rows, taken.action], cost[taken.action, labels]
    surprise = cost[taken.action] - promised[:, None]

    def against(other: Indices) -> Difference:
        least, most = difference_bounds(taken.action, other, cost)
        return paired_difference(paid, cost[other, labels], least=least, most=most, weights=weights, groups=groups)

    return Strategies(
        decisions=taken,
        promised=promised,
        paid=paid,
        variance=np.einsum("nk,nk->n", np.exp(log_probs), surprise**2),
        label=cost[believed, labels],
        constant=cost[always, labels],
        against_label=against(believed),
        against_constant=against(always),
        weights=weights,
        groups=groups,
    )


def calibration(event: Event) -> Verdict:
    """Whether the calibration error is more than what right probabilities would show."""
    n, name = len(event.happened), event.name[0].upper() + event.name[1:]
    test = null_test(event.probabilities, event.happened, weights=event.weights, groups=event.groups)
    smooth = smooth_gap(event.probabilities, event.happened, weights=event.weights)
    text = (
        f"On average, {event.name} is {short(test.error)} away from what happened (calibration error in 15 bins; "
        f"{short(smooth)} without bins, smECE). "
        f"Probabilities that are exactly right stay below {short(test.quantile)} in 19 of 20 samples of {n:,} rows "
        f"(p = {short(test.p_value)}).{_corrected(event)}"
    )
    if test.p_value > SIGNIFICANT:
        return Verdict("good", f"{name} is calibrated, as far as {n:,} rows can tell", text)
    return Verdict("caution", f"{name} is not calibrated: the gap is more than chance", text)


def balance(shifted: dict[str, Shift], classes: int) -> Verdict:
    """Whether every class is predicted as often as it occurs; if not, that is a bias, and what mends it.

    Parameters
    ----------
    shifted : dict of str to Shift
        Of `diagnostics.shifts`.
    classes : int
        K.
    """
    if not shifted:
        text = "Every class is, on average, as probable as it is frequent, up to what chance does to these rows."
        return Verdict("good", "No class is predicted too often or too rarely", text)
    worst = sorted(shifted, key=lambda name: -abs(shifted[name].said - shifted[name].happened))
    listed = "; ".join(
        f"“{name}” {percent(shifted[name].said)} on average, {percent(shifted[name].happened)} of the rows"
        for name in worst[:NAMED]
    )
    more = f"; and {len(worst) - NAMED} more of {classes} classes" if len(worst) > NAMED else ""
    often = shifted[worst[0]].said > shifted[worst[0]].happened
    title = f"Biased: “{worst[0]}” is predicted too {'often' if often else 'rarely'}, beyond chance"
    return Verdict("caution", title, f"{listed}{more}. {REMEDY}")


def confidence(event: Event) -> Verdict:
    """Whether the probabilities are too extreme or too timid, and whether they are shifted."""
    line = cox(event.log_odds, event.happened, weights=event.weights, groups=event.groups)
    if not math.isfinite(line.slope):
        reason = (
            "a threshold on the probabilities parts the rows without error, so no line through them has a best slope"
            if math.isinf(line.slope)
            else "all rows have the same outcome or the same probability"
        )
        return Verdict("note", "Over- or under-confidence cannot be judged", f"On these rows, {reason}.")
    text = (
        f"Slope {_around(line.slope, line.slope_error)}: 1 is right, less is over-confident, more is under-confident. "
        f"Intercept {_around(line.intercept, line.intercept_error)}: 0 is right. On average, {event.name} is "
        f"{percent(event.mean(event.probabilities))}; it happened in {percent(event.mean(event.happened))}."
    )
    mood, title = _tilt(line, event.name)
    return Verdict(mood, title, text)


def improvement(
    posterior: Posterior,
    labels: Indices,
    *,
    before: float,
    after: float,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> Verdict:
    """Whether the served probabilities surprise less than the raw ones.

    Parameters
    ----------
    posterior : Posterior
    labels : ndarray of shape (N,)
    before, after : float, log loss of the raw and of the served probabilities
    weights, groups : ndarray of shape (N,), optional
    """
    if posterior.flagged is None:
        text = f"The probabilities are the model's own; log loss {short(before)}. `temperance fit` calibrates them."
        return Verdict("caution", "This version is uncalibrated", text)
    rows = np.arange(len(labels))
    change = log_softmax(posterior.logits) - posterior.log_probs
    ends = {"least": change.min(axis=1), "most": change.max(axis=1)}
    gain = paired_difference(change[rows, labels], np.zeros(len(rows)), **ends, weights=weights, groups=groups)
    text = f"Log loss {short(after)} served, {short(before)} uncalibrated: {_difference(gain)}."
    if gain.high < 0.0:
        return Verdict("good", "Calibration helped", text)
    if gain.low > 0.0:
        return Verdict("caution", "Calibration made the probabilities worse on these rows", text)
    return Verdict("note", "Calibration made no difference that these rows can show", text)


def flags(
    posterior: Posterior,
    elsewhere: Posterior | None,
    *,
    promised: float | None,
    calibrated_on: int,
    groups: Indices | None = None,
) -> Verdict:
    """Whether the gate flags as many good rows as was promised, and how many strangers it catches.

    Parameters
    ----------
    posterior : Posterior
    elsewhere : Posterior, optional
    promised : float, optional
        False-alarm rate of the gate's scores; None when it has rules only.
    calibrated_on : int
        Rows that the threshold rests on: it is noisy too.
    groups : ndarray of shape (N,), optional
    """
    if posterior.flagged is None:
        return Verdict("caution", "Nothing is flagged", "Without a calibration no score has a threshold.")
    n, rate = len(posterior.flagged), float(posterior.flagged.mean())
    text = f"{int(posterior.flagged.sum()):,} of {n:,} labelled rows were flagged, {percent(rate)}"
    caught = ""
    if elsewhere is not None and elsewhere.flagged is not None:
        share = percent(float(elsewhere.flagged.mean()))
        caught = f" Of the {len(elsewhere.flagged):,} rows from elsewhere, {share} were flagged."
    if promised is None:
        return Verdict("note", "Flags come from rules alone", f"{text}; rules promise no rate.{caught}")
    independent = max(1, math.floor(effective_rows(n, groups=groups) + 1e-9))
    allowed = highest_share(independent, promised, calibrated_on=max(calibrated_on, 1))
    text += f"; {percent(promised)} was promised, {percent(allowed)} is what chance allows.{caught}"
    if rate > allowed:
        return Verdict("caution", "More rows are flagged than promised: they differ from the calibration rows", text)
    return Verdict("good", "False alarms are as rare as promised", text)


def worth(name: str, costs: Strategies, *, constant_action: str) -> Verdict:
    """Whether a policy was cheaper than believing the label and than doing the same for everybody.

    Parameters
    ----------
    name : str
    costs : Strategies
    constant_action : str
        The best single action.
    """
    label, constant = costs.against_label, costs.against_constant
    paid, believed, always = (money(costs.mean(found)) for found in (costs.paid, costs.label, costs.constant))
    text = (
        f"It cost {paid} per row. Against believing the most probable class ({believed}): {_difference(label)}. "
        f"Against always “{constant_action}”, the best single action ({always}): {_difference(constant)}."
    )
    rivals = {"believing the label": label, f"always “{constant_action}”": constant}
    dearer = [rival for rival, found in rivals.items() if found.low > 0.0]
    cheaper = [rival for rival, found in rivals.items() if found.high < 0.0]
    if dearer:
        return Verdict("caution", f"Policy “{name}” cost more than {' and '.join(dearer)}", text)
    if cheaper:
        mood: Mood = "good" if len(cheaper) == len(rivals) else "note"
        return Verdict(mood, f"Policy “{name}” was cheaper than {' and '.join(cheaper)}", text)
    return Verdict("note", f"Policy “{name}” was neither cheaper nor dearer beyond chance", text)


def promise(name: str, costs: Strategies) -> Verdict:
    """Whether a policy cost what its probabilities said it would."""
    promised, paid, noise = costs.mean(costs.promised), costs.mean(costs.paid), costs.noise()
    text = (
        f"It promised {money(promised)} per row and cost {money(paid)}; if the probabilities are right, chance moves "
        f"that by up to {money(noise)} either way in 19 of 20 samples."
    )
    if abs(paid - promised) <= noise + 1e-12 * abs(promised):  # constant costs add up with rounding
        return Verdict("good", f"Policy “{name}” cost what it promised", text)
    word = "more" if paid > promised else "less"
    return Verdict("caution", f"Policy “{name}” cost {word} than it promised, beyond chance", text)


def draws_for(rows: int) -> int:
    """Simulations that a page can wait for."""
    return int(np.clip(50_000_000 // max(rows, 1), 200, 1000))


def short(value: float | None) -> str:
    """Three digits."""
    if value is None or math.isnan(value):
        return "not known"
    return f"{value:,.0f}" if 1000.0 <= abs(value) < math.inf else f"{value:.3g}"


def money(value: float | None) -> str:
    """A cost per row."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001  # an en dash for a table's empty cell
    return f"{value:,.4f}" if abs(value) < 100.0 else f"{value:,.2f}"


def percent(share: float | None) -> str:
    """A share of rows."""
    return "not known" if share is None else f"{100.0 * share:.3g} %"


def _corrected(event: Event) -> str:
    """The correction counts rows that are independent and alike, so it is left out for others."""
    if event.weights is not None or event.groups is not None:
        return ""
    low, high = debiased_interval(event.probabilities, event.happened, draws=draws_for(len(event.happened)))
    gap = f"the root-mean-square gap lies between {short(low)} and {short(high)} (95 % interval)"
    return f" Corrected for that noise, {gap}."


def _tilt(line: Cox, name: str) -> tuple[Mood, str]:
    if abs(line.slope - 1.0) > NORMAL * line.slope_error:
        return "caution", "Over-confident" if line.slope < 1.0 else "Under-confident"
    if abs(line.intercept) > NORMAL * line.intercept_error:
        return "caution", f"Shifted: {name} is too {'high' if line.intercept < 0.0 else 'low'}"
    return "good", "Neither over- nor under-confident, as far as these rows can tell"


def _around(value: float, error: float) -> str:
    return f"{short(value)} (95 % interval {short(value - NORMAL * error)} to {short(value + NORMAL * error)})"


def _difference(found: Difference) -> str:
    if found.low == found.high == 0.0:
        return "the same on every row"
    if found.low <= 0.0 <= found.high:
        interval = f"95 % interval {found.low:+.3g} to {found.high:+.3g}"
        return f"a difference of {found.mean:+.3g} ({interval}), which may be chance"
    near, far = sorted((abs(found.low), abs(found.high)))
    word = "less" if found.high < 0.0 else "more"
    return f"{short(abs(found.mean))} {word} (95 % interval {short(near)} to {short(far)})"
