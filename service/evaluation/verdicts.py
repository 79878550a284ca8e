"""What an evaluation amounts to, in sentences: each with the number it rests on and what chance alone would do."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.core.decision import Decisions, best_action, cost_scale, decide
from service.core.miscalibration import favourite
from service.core.numerics import Array, Flags, Indices, log_softmax
from service.core.pipeline import Policy, Posterior
from service.core.recalibration import Cox, class_log_odds, cox
from service.core.reliability import class_event, debiased_interval, null_test
from service.core.utility import Difference, paired_difference

Mood = Literal["good", "caution", "note"]
SIGNIFICANT = 0.05
NORMAL = 1.96


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
    """

    name: str
    probabilities: Array
    log_odds: Array
    happened: Flags


@dataclass(frozen=True, slots=True)
class Strategies:
    """Cost of every row under a policy and under simpler ways to act.

    Attributes
    ----------
    decisions : Decisions
    promised, paid : ndarray of shape (N,)
        By the probabilities, and by the label.
    variance : ndarray of shape (N,)
        Of what is paid, if the probabilities are right. A bootstrap would not know of a costly case that is rare
        enough to be missing from the rows; the probabilities do.
    label, constant : ndarray of shape (N,)
        For the most probable class' cheapest action, and for the best single action.
    against_label, against_constant : Difference
        How much more the policy costs than these two; paired bootstrap.
    """

    decisions: Decisions
    promised: Array
    paid: Array
    variance: Array
    label: Array
    constant: Array
    against_label: Difference
    against_constant: Difference

    def noise(self, rows: Flags | slice = slice(None)) -> float:
        """95 % half-width of the mean paid on some rows about the mean promised; not a number without rows."""
        variance = self.variance[rows]
        return NORMAL * math.sqrt(variance.sum()) / len(variance) if len(variance) else math.nan


def event_of(log_probs: Array, labels: Indices, classes: tuple[str, ...]) -> Event:
    """The positive class of a binary, the top label otherwise.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    classes : tuple of str
    """
    if len(classes) == 2:
        return Event(
            f"the probability of “{classes[1]}”", *_with_log_odds(log_probs, *class_event(log_probs, labels, 1))
        )
    ascending = np.sort(log_probs, axis=1)
    name = "the probability of the predicted class"
    return Event(name, *_with_log_odds(ascending, *favourite(log_probs, labels)))


def strategies(policy: Policy, log_probs: Array, labels: Indices, flagged: Flags | None) -> Strategies:
    """What every row cost, and would have cost otherwise.

    Parameters
    ----------
    policy : Policy
    log_probs : ndarray of shape (N, K)
        Under the prevalence where the decision is taken.
    labels : ndarray of shape (N,)
    flagged : ndarray of shape (N,) or None
    """
    cost, rows = policy.cost, np.arange(len(labels))
    taken = decide(log_probs, cost, on_ood=policy.on_ood, flagged=flagged)
    cheapest, _ = best_action(cost.T, scale=cost_scale(cost))
    best = int(cost[:, labels].mean(axis=1).argmin())
    label, constant = cost[cheapest[log_probs.argmax(axis=1)], labels], cost[best, labels]
    promised, paid = taken.risks[rows, taken.action], cost[taken.action, labels]
    surprise = cost[taken.action] - promised[:, None]
    return Strategies(
        decisions=taken,
        promised=promised,
        paid=paid,
        variance=np.einsum("nk,nk->n", np.exp(log_probs), surprise**2),
        label=label,
        constant=constant,
        against_label=paired_difference(paid, label),
        against_constant=paired_difference(paid, constant),
    )


def calibration(event: Event) -> Verdict:
    """Whether the calibration error is more than what right probabilities would show."""
    n, test = len(event.happened), null_test(event.probabilities, event.happened)
    low, high = debiased_interval(event.probabilities, event.happened, draws=draws_for(n))
    text = (
        f"On average, {event.name} is {short(test.error)} away from what happened (calibration error in 15 bins). "
        f"Probabilities that are exactly right stay below {short(test.quantile)} in 19 of 20 samples of {n:,} rows "
        f"(p = {short(test.p_value)}). Corrected for that noise, the root-mean-square gap lies between {short(low)} "
        f"and {short(high)} (95 % interval)."
    )
    if test.p_value > SIGNIFICANT:
        return Verdict("good", f"Calibrated, as far as {n:,} rows can tell", text)
    return Verdict("caution", "Not calibrated: the gap is more than chance", text)


def confidence(event: Event) -> Verdict:
    """Whether the probabilities are too extreme or too timid, and whether they are shifted."""
    line = cox(event.log_odds, event.happened)
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
        f"{percent(float(event.probabilities.mean()))}; it happened in {percent(float(event.happened.mean()))}."
    )
    mood, title = _tilt(line, event.name)
    return Verdict(mood, title, text)


def improvement(posterior: Posterior, labels: Indices, *, before: float, after: float) -> Verdict:
    """Whether the served probabilities surprise less than the raw ones.

    Parameters
    ----------
    posterior : Posterior
    labels : ndarray of shape (N,)
    before, after : float
        Log loss of the raw and of the served probabilities.
    """
    if posterior.flagged is None:
        text = f"The probabilities are the model's own; log loss {short(before)}. `temperance fit` calibrates them."
        return Verdict("caution", "This version is uncalibrated", text)
    rows = np.arange(len(labels))
    served, raw = posterior.log_probs[rows, labels], log_softmax(posterior.logits)[rows, labels]
    gain = paired_difference(-served, -raw)
    text = f"Log loss {short(after)} served, {short(before)} uncalibrated: {_difference(gain)}."
    if gain.high < 0.0:
        return Verdict("good", "Calibration helped", text)
    if gain.low > 0.0:
        return Verdict("caution", "Calibration made the probabilities worse on these rows", text)
    return Verdict("note", "Calibration made no difference that these rows can show", text)


def flags(posterior: Posterior, elsewhere: Posterior | None, *, promised: float | None, calibrated_on: int) -> Verdict:
    """Whether the gate flags as many good rows as was promised, and how many strangers it catches.

    Parameters
    ----------
    posterior : Posterior
    elsewhere : Posterior, optional
    promised : float, optional
        False-alarm rate of the gate's scores; None when it has rules only.
    calibrated_on : int
        Rows that the threshold rests on: it is noisy too.
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
    noise = NORMAL * math.sqrt(promised * (1.0 - promised) * (1.0 / n + 1.0 / max(calibrated_on, 1)))
    text += f"; {percent(promised)} was promised, {percent(promised + noise)} is what chance allows.{caught}"
    if rate > promised + noise:
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
    text = (
        f"It cost {money(costs.paid.mean())} per row. Against believing the most probable class "
        f"({money(costs.label.mean())}): {_difference(label)}. Against always “{constant_action}”, the best single "
        f"action ({money(costs.constant.mean())}): {_difference(constant)}."
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
    promised, paid, noise = float(costs.promised.mean()), float(costs.paid.mean()), costs.noise()
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


def _with_log_odds(log_probs: Array, probabilities: Array, happened: Flags) -> tuple[Array, Array, Flags]:
    return probabilities, class_log_odds(log_probs, log_probs.shape[1] - 1), happened


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
