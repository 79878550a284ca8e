"""What an evaluation amounts to, in sentences: each with the number it rests on and what chance alone would do."""

import math
from collections.abc import Iterator
from typing import Final

from service.evaluation.checks import (
    CalibrationCheck,
    Diagnostics,
    FlagCheck,
    LossCheck,
    Mood,
    PolicyCheck,
    Shift,
    Verdict,
)
from service.evaluation.reasons import REASONS, interval
from service.evaluation.report import PolicyReport, Report

SIGNIFICANT = 0.05
NAMED = 3  # classes in a sentence
ONE_SCALE: Final = frozenset({"temperature", "identity", "uncalibrated"})
"""Calibrators without an intercept of their own for every class."""
REMEDY = (
    "A temperature cannot move that, a bias can: fit on rows of this population, with the default, which adds biases "
    "where they help, or with --calibrator bcts. Where only the proportions of the classes differ from the calibration "
    "rows', state the prevalence instead."
)
REMEDY_BEYOND_INTERCEPTS = (
    "The calibrator has an intercept for every class, so that these rows come from another population than its "
    "calibration rows. Where only the proportions of the classes differ, state the prevalence; otherwise calibrate on "
    "rows of this population."
)


def conclude(report: Report, checks: Diagnostics, *, method: str, flagged: FlagCheck | None = None) -> list[Verdict]:
    """Everything that an evaluation amounts to.

    Parameters
    ----------
    report : Report
    checks : Diagnostics
    method : str
        Calibrator of the version: advice that was followed is not given again.
    flagged : FlagCheck, optional
        None where flags are judged elsewhere, or not at all.
    """
    return list(_all(report, checks, method, flagged))


def calibration(check: CalibrationCheck) -> Verdict:
    """Whether the calibration error is more than what right probabilities would show."""
    n, name = check.rows, check.event[0].upper() + check.event[1:]
    text = (
        f"On average, {check.event} is {short(check.error)} away from what happened (calibration error in 15 bins; "
        f"{short(check.smooth_error)} without bins, smECE). "
        f"Probabilities that are exactly right stay below {short(check.chance)} in 19 of 20 samples of {n:,} rows "
        f"(p = {short(check.p_value)}).{_corrected(check)}"
    )
    if check.p_value > SIGNIFICANT:
        return Verdict("calibration", None, "good", f"{name} is calibrated, as far as {n:,} rows can tell", text)
    return Verdict("calibration", None, "caution", f"{name} is not calibrated: the gap is more than chance", text)


def balance(shifted: dict[str, Shift], classes: int, *, method: str = "temperature") -> Verdict:
    """Whether every class is predicted as often as it occurs; if not, that is a bias, and what mends it.

    Parameters
    ----------
    shifted : dict of str to Shift
        Of `diagnostics.shifts`.
    classes : int
        K.
    method : str
        Calibrator of the version.
    """
    if not shifted:
        text = "Every class is, on average, as probable as it is frequent, up to what chance does to these rows."
        return Verdict("balance", None, "good", "No class is predicted too often or too rarely", text)
    worst = sorted(shifted, key=lambda name: -abs(shifted[name].said - shifted[name].happened))
    listed = "; ".join(
        f"“{name}” {percent(shifted[name].said)} on average, {percent(shifted[name].happened)} of the rows"
        for name in worst[:NAMED]
    )
    more = f"; and {len(worst) - NAMED} more of {classes} classes" if len(worst) > NAMED else ""
    often = shifted[worst[0]].said > shifted[worst[0]].happened
    title = f"Biased: “{worst[0]}” is predicted too {'often' if often else 'rarely'}, beyond chance"
    remedy = REMEDY if method in ONE_SCALE else REMEDY_BEYOND_INTERCEPTS
    return Verdict("balance", None, "caution", title, f"{listed}{more}. {remedy}")


def confidence(check: CalibrationCheck) -> Verdict:
    """Whether the probabilities are too extreme or too timid, and whether they are shifted."""
    if check.slope is None or check.intercept is None:
        reason = REASONS[check.undetermined or "one_outcome"]
        reason += ", so no line through them has a best slope" if check.undetermined == "separable" else ""
        title = "Over- or under-confidence cannot be judged"
        return Verdict("confidence", None, "note", title, f"On these rows, {reason}.")
    slope = _around(check.slope, check.slope_low, check.slope_high, check.line_reason)
    intercept = _around(check.intercept, check.intercept_low, check.intercept_high, check.line_reason)
    text = (
        f"Slope {slope}: 1 is right, less is over-confident, more is under-confident. Intercept {intercept}: 0 is "
        f"right. On average, {check.event} is {percent(check.probability)}; it happened in {percent(check.frequency)}."
    )
    mood, title = _tilt(check)
    return Verdict("confidence", None, mood, title, text)


def improvement(check: LossCheck) -> Verdict:
    """Whether the served probabilities surprise less than the raw ones."""
    if not check.is_calibrated:
        text = (
            f"The probabilities are the model's own; log loss {short(check.uncalibrated)}. `temperance fit` calibrates "
            "them."
        )
        return Verdict("improvement", None, "caution", "This version is uncalibrated", text)
    text = f"Log loss {short(check.served)} served, {short(check.uncalibrated)} uncalibrated"
    if check.difference is not None:
        text += f": {_difference(check.difference, check.low, check.high, check.interval_reason)}"
    if check.high is not None and check.high < 0.0:
        return Verdict("improvement", None, "good", "Calibration helped", f"{text}.")
    if check.low is not None and check.low > 0.0:
        title = "Calibration made the probabilities worse on these rows"
        return Verdict("improvement", None, "caution", title, f"{text}.")
    return Verdict("improvement", None, "note", "Calibration made no difference that these rows can show", f"{text}.")


def flags(check: FlagCheck) -> Verdict:
    """Whether the gate flags as many rows as its false-alarm rate says, and how many of another population."""
    if check.flagged is None:
        text = f"No score has a threshold: {REASONS[check.limit_reason or 'uncalibrated']}."
        return Verdict("flags", None, "caution", "Nothing is flagged", text)
    text = f"{check.flagged:,} of {check.rows:,} labelled rows were flagged, {percent(check.rate)}"
    caught = ""
    if check.ood_rate is not None:
        caught = f" Of the {check.ood_rows:,} rows from elsewhere, {percent(check.ood_rate)} were flagged."
    if check.expected is None or check.limit is None or check.rate is None:
        text = f"{text}; {REASONS[check.limit_reason or 'rules_only']}.{caught}"
        return Verdict("flags", None, "note", "Flags come from rules alone", text)
    text += f"; {percent(check.expected)} was promised, {percent(check.limit)} is what chance allows.{caught}"
    if check.rate > check.limit:
        title = "More rows are flagged than promised: they differ from the calibration rows"
        return Verdict("flags", None, "caution", title, text)
    return Verdict("flags", None, "good", "False alarms are as rare as promised", text)


def worth(name: str, found: PolicyReport, check: PolicyCheck) -> Verdict:
    """Whether a policy was cheaper than believing the label and than doing the same for everybody.

    Parameters
    ----------
    name : str
    found : PolicyReport
    check : PolicyCheck
    """
    paid, believed, always = (money(cost) for cost in (found.realised_cost, found.label_cost, found.constant_cost))
    label = _more(check.saved, check.saved_low, check.saved_high)
    constant = _more(check.saved_of_constant, check.saved_of_constant_low, check.saved_of_constant_high)
    against_label, against_constant = (_difference(*rival, check.interval_reason) for rival in (label, constant))
    text = (
        f"It cost {paid} per row. Against believing the most probable class ({believed}): {against_label}. "
        f"Against always “{found.constant_action}”, the best single action ({always}): {against_constant}."
    )
    rivals = {"believing the label": label, f"always “{found.constant_action}”": constant}
    dearer = [rival for rival, (_, low, _high) in rivals.items() if low is not None and low > 0.0]
    cheaper = [rival for rival, (_, _low, high) in rivals.items() if high is not None and high < 0.0]
    if dearer:
        title = f"Policy “{name}” cost more than {' and '.join(dearer)}"
        return Verdict("worth", name, "caution", title, text)
    if cheaper:
        mood: Mood = "good" if len(cheaper) == len(rivals) else "note"
        return Verdict("worth", name, mood, f"Policy “{name}” was cheaper than {' and '.join(cheaper)}", text)
    return Verdict("worth", name, "note", f"Policy “{name}” was neither cheaper nor dearer beyond chance", text)


def promise(name: str, found: PolicyReport, check: PolicyCheck) -> Verdict:
    """Whether a policy cost what its probabilities said it would; parameters as `worth`."""
    promised, paid, noise = found.expected_cost, found.realised_cost, check.noise
    text = (
        f"It promised {money(promised)} per row and cost {money(paid)}; if the probabilities are right, chance moves "
        f"that by up to {money(noise)} either way in 19 of 20 samples."
    )
    if abs(paid - promised) <= noise + 1e-12 * abs(promised):  # constant costs add up with rounding
        return Verdict("cost", name, "good", f"Policy “{name}” cost what it promised", text)
    word = "more" if paid > promised else "less"
    return Verdict("cost", name, "caution", f"Policy “{name}” cost {word} than it promised, beyond chance", text)


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


def _all(report: Report, checks: Diagnostics, method: str, flagged: FlagCheck | None) -> Iterator[Verdict]:
    yield calibration(checks.calibration)
    yield confidence(checks.calibration)
    yield balance(checks.calibration.shifted, len(checks.calibration.mean_said), method=method)
    yield improvement(checks.losses)
    if flagged is not None:
        yield flags(flagged)
    for name, check in checks.policies.items():
        yield worth(name, report.policies[name], check)
        yield promise(name, report.policies[name], check)


def _corrected(check: CalibrationCheck) -> str:
    """The correction counts rows that are independent and alike."""
    if check.gap_low is None or check.gap_high is None:
        return f" Not corrected for that noise: {REASONS[check.gap_reason or 'weights']}."
    gap = f"the root-mean-square gap lies between {short(check.gap_low)} and {short(check.gap_high)} (95 % interval)"
    return f" Corrected for that noise, {gap}."


def _tilt(check: CalibrationCheck) -> tuple[Mood, str]:
    if _beyond(1.0, check.slope_low, check.slope_high):
        return "caution", "Over-confident" if (check.slope or 0.0) < 1.0 else "Under-confident"
    if _beyond(0.0, check.intercept_low, check.intercept_high):
        return "caution", f"Shifted: {check.event} is too {'high' if (check.intercept or 0.0) < 0.0 else 'low'}"
    return "good", "Neither over- nor under-confident, as far as these rows can tell"


def _beyond(value: float, low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and not low <= value <= high


def _around(value: float, low: float | None, high: float | None, reason: str | None) -> str:
    return f"{short(value)} ({interval(low, high, reason, form=short)})"


def _more(saved: float, low: float | None, high: float | None) -> tuple[float, float | None, float | None]:
    """How much more the policy costs, from what it saved."""
    return -saved, None if high is None else -high, None if low is None else -low


def _difference(mean: float, low: float | None, high: float | None, reason: str | None) -> str:
    if low is None or high is None:
        return f"a difference of {mean:+.3g} ({interval(low, high, reason)})"
    if low == high == 0.0:
        return "the same on every row"
    if low <= 0.0 <= high:
        return f"a difference of {mean:+.3g} (95 % interval {low:+.3g} to {high:+.3g}), which may be chance"
    near, far = sorted((abs(low), abs(high)))
    word = "less" if high < 0.0 else "more"
    return f"{short(abs(mean))} {word} (95 % interval {short(near)} to {short(far)})"
