"""The conclusions of an evaluation, in sentences: each with its number and what chance alone would do."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from service.evaluation.calibration_report import CalibrationLine, CalibrationReport, ClassCalibration
from service.evaluation.classification_problem import Difference
from service.evaluation.number_format import decimal, percent, rounded
from service.evaluation.ood_report import OodReport
from service.evaluation.policy_report import PolicyReport
from service.evaluation.probability_report import LossChange
from service.evaluation.reasons import REASONS, interval
from service.evaluation.report import Mood, PartReport, Verdict

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


def conclude(parts: Mapping[str, PartReport], ood: OodReport) -> Iterator[Verdict]:
    """All conclusions of an evaluation.

    Parameters
    ----------
    parts : mapping of str to PartReport
    ood : OodReport
    """
    for name, part in parts.items():
        yield from (replace(verdict, part=name) for verdict in _of_part(part))
    yield flags(ood)


def calibration(check: CalibrationReport) -> Verdict:
    """Whether the calibration error is more than what exact probabilities would show."""
    n, name = check.rows, check.event[0].upper() + check.event[1:]
    text = (
        f"On average, {check.event} differs from the observed frequency by {rounded(check.error)} (calibration error "
        f"in 15 bins; {rounded(check.smooth_error)} without bins, smECE). "
        f"Exact probabilities stay below {rounded(check.chance)} in 19 of 20 samples of {n:,} rows "
        f"(p = {rounded(check.p_value)}).{_corrected(check)}"
    )
    if check.p_value > SIGNIFICANT:
        return _verdict("calibration", "good", f"{name} is calibrated, as far as {n:,} rows can show", text)
    return _verdict("calibration", "caution", f"{name} is not calibrated: the gap is more than chance", text)


def balance(classes: Mapping[str, ClassCalibration], *, method: str) -> Verdict:
    """Whether every class is predicted as often as it occurs; if not, that is a bias, and what corrects it.

    Parameters
    ----------
    classes : mapping of str to ClassCalibration
    method : str
        Calibrator of the version: advice that was followed is not given again.
    """
    shifted = [name for name, check in classes.items() if check.shifted]
    if not shifted:
        text = (
            "The mean predicted probability of every class is its observed frequency, up to what chance does to these "
            "rows."
        )
        return _verdict("balance", "good", "No class is predicted too often or too rarely", text)
    worst = sorted(shifted, key=lambda name: -abs(classes[name].gap))
    more = f"; and {len(worst) - NAMED} more of {len(classes)} classes" if len(worst) > NAMED else ""
    listed = "; ".join(_means(name, classes[name]) for name in worst[:NAMED])
    title = f"Biased: “{worst[0]}” is predicted too {'often' if classes[worst[0]].gap > 0 else 'rarely'}, beyond chance"
    remedy = REMEDY if method in ONE_SCALE else REMEDY_BEYOND_INTERCEPTS
    return _verdict("balance", "caution", title, f"{listed}{more}. {remedy}")


def confidence(check: CalibrationReport) -> Verdict:
    """Whether the probabilities are too extreme or not extreme enough, and whether they are shifted."""
    line = check.line
    if line.slope is None or line.intercept is None:
        reason = REASONS[line.undetermined or "one_outcome"]
        reason += ", so that no slope is best" if line.undetermined == "separable" else ""
        title = "Over- or under-confidence cannot be determined"
        return _verdict("confidence", "note", title, f"On these rows, {reason}.")
    slope = _around(line.slope, line.slope_low, line.slope_high, line.reason)
    intercept = _around(line.intercept, line.intercept_low, line.intercept_high, line.reason)
    text = (
        f"Slope {slope}: 1 is right, less is over-confident, more is under-confident. Intercept {intercept}: 0 is "
        f"right. The mean of {check.event} is {percent(check.mean_predicted_probability)}; the observed frequency is "
        f"{percent(check.observed_frequency)}."
    )
    return _verdict("confidence", *_tilt(check, line), text)


def improvement(check: LossChange) -> Verdict:
    """Whether the served probabilities have a lower log loss than the raw ones."""
    if not check.is_calibrated:
        text = (
            f"The probabilities are the model's own; log loss {rounded(check.uncalibrated)}. `temperance fit` "
            "calibrates them."
        )
        return _verdict("improvement", "caution", "This version is uncalibrated", text)
    text, change = (
        f"Log loss {rounded(check.served)} served, {rounded(check.uncalibrated)} uncalibrated",
        check.difference,
    )
    if change.mean is not None:
        text += f": {_difference(change)}"
    if change.high is not None and change.high < 0.0:
        return _verdict("improvement", "good", "Calibration helped", f"{text}.")
    if change.low is not None and change.low > 0.0:
        return _verdict("improvement", "caution", "Calibration made the probabilities worse on these rows", f"{text}.")
    return _verdict("improvement", "note", "Calibration made no difference that these rows can show", f"{text}.")


def flags(found: OodReport) -> Verdict:
    """Whether the gate flags as many rows as its false-alarm rate allows, and how much of the OOD data."""
    if found.flagged is None:
        text = f"No score has a threshold: {REASONS[found.limit_reason or 'uncalibrated']}."
        return _verdict("flags", "caution", "Nothing is flagged", text)
    text, caught = f"{found.flagged:,} of {found.rows:,} labelled rows are flagged, {percent(found.flag_rate)}", ""
    if found.ood_flag_rate is not None:
        caught = f" Of the {found.ood_rows:,} rows of OOD data, {percent(found.ood_flag_rate)} are flagged."
    if found.flag_rate_limit is None or found.flag_rate is None:
        text = f"{text}; {REASONS[found.limit_reason or 'rules_only']}.{caught}"
        return _verdict("flags", "note", "Flags come from rules alone", text)
    expected, limit = percent(found.expected_flag_rate), percent(found.flag_rate_limit)
    text += f"; {expected} is expected, and chance allows up to {limit}.{caught}"
    if found.flag_rate > found.flag_rate_limit:
        title = "More rows are flagged than expected: they differ from the calibration rows"
        return _verdict("flags", "caution", title, text)
    return _verdict("flags", "good", "False alarms are as rare as expected", text)


def worth(name: str, found: PolicyReport) -> Verdict:
    """Whether a policy was cheaper than acting on the label and than the best single action.

    Parameters
    ----------
    name : str
    found : PolicyReport
    """
    realised, of_label, constant = (
        decimal(cost) for cost in (found.realised_cost, found.label_cost, found.constant_cost)
    )
    always = f"always “{found.constant_action}”"
    rivals = {"acting on the most probable class": _more(found.saved), always: _more(found.saved_of_constant)}
    against_label, against_constant = map(_difference, rivals.values())
    text = (
        f"Its realised cost is {realised} per row. Against acting on the most probable class ({of_label}): "
        f"{against_label}. Against {always}, the best single action ({constant}): {against_constant}."
    )
    dearer = [rival for rival, more in rivals.items() if more.low is not None and more.low > 0.0]
    cheaper = [rival for rival, more in rivals.items() if more.high is not None and more.high < 0.0]
    if dearer:
        return _verdict("worth", "caution", f"Policy “{name}” cost more than {' and '.join(dearer)}", text, name)
    if cheaper:
        mood: Mood = "good" if len(cheaper) == len(rivals) else "note"
        return _verdict("worth", mood, f"Policy “{name}” was cheaper than {' and '.join(cheaper)}", text, name)
    return _verdict("worth", "note", f"Policy “{name}” was neither cheaper nor dearer beyond chance", text, name)


def cost(name: str, found: PolicyReport) -> Verdict:
    """Whether the realised cost of a policy is the expected one; parameters as `worth`."""
    expected, realised, noise = found.expected_cost, found.realised_cost, found.noise
    text = (
        f"The expected cost is {decimal(expected)} per row, the realised cost {decimal(realised)}; if the "
        f"probabilities are right, chance moves it by up to {decimal(noise)} either way in 19 of 20 samples."
    )
    if abs(realised - expected) <= noise + 1e-12 * abs(expected):  # constant costs add up with rounding
        return _verdict("cost", "good", f"The realised cost of policy “{name}” is what was expected", text, name)
    word = "higher" if realised > expected else "lower"
    title = f"The realised cost of policy “{name}” is {word} than expected, beyond chance"
    return _verdict("cost", "caution", title, text, name)


def _of_part(part: PartReport) -> Iterator[Verdict]:
    found = part.probabilities
    yield calibration(found.calibration)
    yield confidence(found.calibration)
    yield balance(found.calibration.classes, method=part.calibrator)
    yield improvement(found.loss_change)
    for name, policy in part.policies.items():
        yield worth(name, policy)
        yield cost(name, policy)


def _verdict(about: str, mood: Mood, title: str, text: str, policy: str | None = None) -> Verdict:
    return Verdict(None, about, policy, mood, title, text)


def _means(name: str, check: ClassCalibration) -> str:
    mean, frequency = percent(check.mean_predicted_probability), percent(check.observed_frequency)
    return f"“{name}” has a mean predicted probability of {mean} and an observed frequency of {frequency}"


def _corrected(check: CalibrationReport) -> str:
    """The correction is for independent rows of equal weight."""
    if check.rms_gap.low is None or check.rms_gap.high is None:
        return f" Not corrected for that noise: {REASONS[check.rms_gap.reason or 'weights']}."
    low, high = rounded(check.rms_gap.low), rounded(check.rms_gap.high)
    return f" Corrected for that noise, the root-mean-square gap lies between {low} and {high} (95 % interval)."


def _tilt(check: CalibrationReport, line: CalibrationLine) -> tuple[Mood, str]:
    if _beyond(1.0, line.slope_low, line.slope_high):
        return "caution", "Over-confident" if (line.slope or 0.0) < 1.0 else "Under-confident"
    if _beyond(0.0, line.intercept_low, line.intercept_high):
        return "caution", f"Shifted: {check.event} is too {'high' if (line.intercept or 0.0) < 0.0 else 'low'}"
    return "good", "Neither over- nor under-confident, as far as these rows can show"


def _beyond(value: float, low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and not low <= value <= high


def _around(value: float, low: float | None, high: float | None, reason: str | None) -> str:
    return f"{rounded(value)} ({interval(low, high, reason, form=rounded)})"


def _more(saved: Difference) -> Difference:
    """How much more the policy costs, from what it saved."""
    mean, low, high = (None if end is None else -end for end in (saved.mean, saved.high, saved.low))
    return Difference(mean, low, high, saved.reason)


def _difference(found: Difference) -> str:
    mean, low, high = found.mean or 0.0, found.low, found.high
    if low is None or high is None:
        return f"a difference of {mean:+.3g} ({interval(low, high, found.reason)})"
    if low == high == 0.0:
        return "the same on every row"
    if low <= 0.0 <= high:
        return f"a difference of {mean:+.3g} (95 % interval {low:+.3g} to {high:+.3g}), which may be chance"
    near, far = sorted((abs(low), abs(high)))
    word = "less" if high < 0.0 else "more"
    return f"{rounded(abs(mean))} {word} (95 % interval {rounded(near)} to {rounded(far)})"
