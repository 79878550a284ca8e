"""What `diagnostics` finds, as values: everything that reports say is one of them, or a sentence made of them."""

from dataclasses import dataclass
from typing import Final, Literal

PREDICTED: Final = "the predicted class"

Mood = Literal["good", "caution", "note"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A conclusion, how it should feel, and the sentences that carry it.

    Attributes
    ----------
    about : str
        "calibration", "confidence", "balance", "improvement", "flags"; "worth" and "cost" of a policy.
    policy : str or None
    mood : {"good", "caution", "note"}
    title, text : str
    """

    about: str
    policy: str | None
    mood: Mood
    title: str
    text: str


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
class Parts:
    """CORP parts of a squared error: first minus second plus third is the error itself."""

    miscalibration: float
    discrimination: float
    uncertainty: float
    squared_error: float


@dataclass(frozen=True, slots=True)
class Diagram:
    """A reliability diagram: a bin of rows per entry.

    Attributes
    ----------
    predicted, observed : list of float
        Mean probability and observed frequency.
    low, high : list of float
        Where 95 % of the observed frequencies would lie if the probabilities were right.
    count : list of int
    outside : int
        Bins whose frequency lies outside.
    """

    predicted: list[float]
    observed: list[float]
    low: list[float]
    high: list[float]
    count: list[int]
    outside: int


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
        the rows do not determine them.
    miscalibration, discrimination, uncertainty : float
        CORP parts of the squared error of this probability: first minus second plus third is the error, which for two
        classes is the Brier score.
    binned : dict of str to BinnedParts
        Murphy's parts of "brier" and "log_loss".
    mean_said, mean_happened : dict of str to float
        Mean probability and frequency of every class.
    shifted : dict of str to Shift
        Classes whose two means differ by more than chance does: a bias, which no temperature can mend.
    rows : int
    probability, frequency : float
        Mean of this probability, and how often its event occurred.
    slope_low, slope_high, intercept_low, intercept_high : float or None
        95 % intervals.
    undetermined : str or None
        Why there is no slope: "separable" (a threshold on the probabilities parts the rows without error) or
        "one_outcome" (all rows have the same outcome or the same probability).
    line_reason : str or None
        Why slope and intercept have no interval: as ``undetermined``, or "one_group".
    gap_low, gap_high : float or None
        95 % interval of the root-mean-square gap, corrected for noise; None where rows are weighted or in groups.
    gap_reason : str or None
        Why it is None: "weights" or "groups".
    uncalibrated : Parts
        The squared error's parts for the model's own probabilities.
    squared_error : float
        Of this probability.
    gaps : dict of str to float
        Mean probability of every class minus its frequency.
    noise : dict of str to float
        How far these may lie from 0 in 19 of 20 samples, by chance.
    diagram : Diagram
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
    rows: int
    probability: float
    frequency: float
    slope_low: float | None
    slope_high: float | None
    intercept_low: float | None
    intercept_high: float | None
    undetermined: str | None
    line_reason: str | None
    gap_low: float | None
    gap_high: float | None
    gap_reason: str | None
    uncalibrated: Parts
    squared_error: float
    gaps: dict[str, float]
    noise: dict[str, float]
    diagram: Diagram

    @property
    def event(self) -> str:
        """How sentences call the probability."""
        return f"the probability of {self.of}" if self.of == PREDICTED else f"the probability of “{self.of}”"

    @property
    def is_within_chance(self) -> bool:
        """Whether a perfect predictor might well look like this."""
        return self.error <= self.chance


@dataclass(frozen=True, slots=True)
class ActionCheck:
    """What one action was expected to cost, and cost; None where it was never taken, which ``reason`` says.

    ``noise`` is how far the two may differ, either way, in 19 of 20 samples, if the probabilities are right.
    """

    taken: int
    promised: float | None
    paid: float | None
    noise: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """How a policy's promises held.

    Attributes
    ----------
    saved : float
        Cost per row saved against believing the most probable class.
    saved_low, saved_high : float or None
        Its 95 % interval; None where all rows are of one group.
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
    saved_of_constant, saved_of_constant_low, saved_of_constant_high : float or None
        Cost per row saved against the best single action, with its interval, as above.
    on_ood : str or None
        The action that takes flagged rows over.
    interval_reason : str or None
        Why there are no intervals: "one_row" or "one_group".
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
    saved_of_constant: float
    saved_of_constant_low: float | None
    saved_of_constant_high: float | None
    on_ood: str | None
    interval_reason: str | None


@dataclass(frozen=True, slots=True)
class Promise:
    """The most rows that may be answered while their error rate stays below a risk, with 95 % confidence.

    Attributes
    ----------
    threshold : float or None
        Answer where the most probable class has at least this probability; None where no threshold keeps the promise.
    coverage : float
        Share of the rows answered.
    reason : str or None
        "no_threshold" where there is none.
    """

    threshold: float | None
    coverage: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class SelectiveCheck:
    """What leaving rows unanswered buys.

    Attributes
    ----------
    excess_area : float
        Area under the risk-coverage curve beyond that of the best order of the same errors (E-AURC).
    at_risk : dict of str to Promise, or None
        For error rates of `RISKS`; None where rows are weighted or in groups: the guarantee is of independent rows.
    at_risk_reason : str or None
        Why it is None: "weights" or "groups".
    area : float
        Under the risk-coverage curve. Every row counts once.
    error : float
        Share of the rows whose most probable class is wrong. Every row counts once.
    """

    excess_area: float
    at_risk: dict[str, Promise] | None
    at_risk_reason: str | None
    area: float
    error: float


@dataclass(frozen=True, slots=True)
class LossCheck:
    """Log loss of the served probabilities against that of the model's own.

    Attributes
    ----------
    is_calibrated : bool
        Whether the version has a calibration at all.
    uncalibrated, served : float or None
        None where infinite.
    difference, low, high : float or None
        Served minus uncalibrated, with its 95 % interval.
    interval_reason : str or None
        Why they are None: "infinite_loss", "one_row" or "one_group".
    """

    is_calibrated: bool
    uncalibrated: float | None
    served: float | None
    difference: float | None
    low: float | None
    high: float | None
    interval_reason: str | None


@dataclass(frozen=True, slots=True)
class FlagCheck:
    """Whether as few rows are flagged as the false-alarm rate says.

    Attributes
    ----------
    rows : int
    flagged : int or None
        None without a calibration.
    rate : float or None
    expected, limit : float or None
        The gate's false-alarm rate, and what chance allows around it.
    limit_reason : str or None
        Why they are None: "uncalibrated" or "rules_only".
    ood_rows : int
    ood_rate : float or None
    """

    rows: int
    flagged: int | None
    rate: float | None
    expected: float | None
    limit: float | None
    limit_reason: str | None
    ood_rows: int
    ood_rate: float | None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What `temperance evaluate` adds to the report."""

    calibration: CalibrationCheck
    selective: SelectiveCheck
    policies: dict[str, PolicyCheck]
    losses: LossCheck
