"""Sequential decisions: how errors compound over a horizon, and a CUSUM monitor with an alarm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from service.core.numerics import Array, Flags

ALLOWANCE = 2.0 * math.log(2.0)  # best against p-values of density 1 / (2 sqrt(p))

FINITE_ROWS = (5, 7, 9, 11, 14, 19, 25, 35, 50, 70, 100)
FINITE_THRESHOLDS = (13.31, 14.7, 16.5, 18.5, 20.0, 22.0, 24.0)
FINITE_RATES = (
    (0.027, 0.023, 0.019, 0.016, 0.015, 0.013, 0.012),
    (0.071, 0.060, 0.051, 0.043, 0.038, 0.034, 0.030),
    (0.087, 0.073, 0.061, 0.051, 0.046, 0.040, 0.035),
    (0.110, 0.091, 0.075, 0.061, 0.053, 0.046, 0.041),
    (0.117, 0.096, 0.076, 0.062, 0.053, 0.046, 0.039),
    (0.128, 0.102, 0.079, 0.063, 0.054, 0.045, 0.038),
    (0.118, 0.092, 0.070, 0.053, 0.044, 0.036, 0.030),
    (0.106, 0.077, 0.055, 0.040, 0.033, 0.025, 0.020),
    (0.099, 0.067, 0.044, 0.030, 0.023, 0.017, 0.013),
    (0.088, 0.057, 0.034, 0.020, 0.015, 0.010, 0.008),
    (0.078, 0.049, 0.026, 0.015, 0.010, 0.006, 0.004),
)
"""False alarms in 1000 steps by calibration rows and threshold, averaged over calibration sets.

Ranks of new rows among n calibration rows are independent given the gaps between those, which are uniform on the
simplex. Means of 12 000 simulated sets, most of them drawn where alarms come from and weighted, and two standard
errors. At rates above 0.15 uniform p-values alarm more often than conformal ones of any n.
"""
LARGEST_FINITE_RATE = 0.15
SMALLEST_FINITE_RATE = 0.05

CELLS = 100  # of the statistic's range: mean run lengths within 0.3 % up to one alarm in 20 000 steps


@dataclass(frozen=True, slots=True)
class Monitor:
    """What the alarm is set to.

    Attributes
    ----------
    threshold : float
        Alarm above it; see `alarm_threshold`.
    allowance : float
        Evidence, in nats, that every step forgives; above 1.
    alpha : float
        A step is back inside when its p-value is above this.
    """

    threshold: float
    allowance: float = ALLOWANCE
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class State:
    """What a session carries from one step to the next.

    Attributes
    ----------
    statistic : float
        Evidence gathered since it was last zero.
    steps : int
        Steps seen.
    since_inside : int
        Steps since the last one inside; 0 when that was the last step, ``steps`` when there was none.
    alarm : bool
        Whether the last step raised the alarm. The statistic then starts again from zero.
    standing : bool
        Whether an alarm was raised, and no step has been inside since.
    """

    statistic: float = 0.0
    steps: int = 0
    since_inside: int = 0
    alarm: bool = False
    standing: bool = False


def off_course(error: float, horizon: int, *, recovery: float = 0.0) -> Array:
    """Probability of being off course after each of ``horizon`` steps; their sum is `horizon_risk`.

    Parameters
    ----------
    error : float
    horizon : int
    recovery : float

    Examples
    --------
    >>> off_course(0.5, 3).tolist()
    [0.5, 0.75, 0.875]
    """
    if error == 0.0:
        return np.zeros(horizon)
    total = error + recovery
    t = np.arange(1, horizon + 1)
    if total < 1.0:
        return error / total * -np.expm1(t * math.log1p(-total))
    return error / total * (1.0 - np.float64(1.0 - total) ** t)


def horizon_risk(error: float, horizon: int, *, recovery: float = 0.0) -> float:
    r"""Expected number of steps spent off course, out of ``horizon``.

    Every step on course errs with probability :math:`\varepsilon`; every step off course finds back with
    probability :math:`\rho`. With :math:`s = \varepsilon + \rho`

    .. math:: J = \sum_{t=1}^{T} \frac{\varepsilon}{s} \bigl(1 - (1 - s)^t\bigr),

    which for :math:`\rho = 0` is :math:`T - (1-\varepsilon)(1-(1-\varepsilon)^T)/\varepsilon`, growing with
    :math:`T^2`, and for large :math:`\rho` grows with :math:`T`.

    Parameters
    ----------
    error : float
        Probability of an error per step on the expert's own course.
    horizon : int
        Steps.
    recovery : float
        Probability per step of returning to that course.

    Examples
    --------
    >>> round(horizon_risk(0.01, 100), 4), round(horizon_risk(0.01, 100, recovery=0.5), 4)
    (37.2372, 1.9419)

    References
    ----------
    Ross & Bagnell (2010), *Efficient Reductions for Imitation Learning*, AISTATS.
    """
    return math.fsum(off_course(error, horizon, recovery=recovery))


def quadratic_bound(error: float, horizon: int) -> float:
    r"""Largest excess cost that imitation can have, costs lying in [0, 1]: :math:`\min(T, T^2 \varepsilon)`.

    Parameters
    ----------
    error : float
    horizon : int

    Examples
    --------
    >>> quadratic_bound(0.001, 100)
    10.0

    References
    ----------
    Ross & Bagnell (2010), *Efficient Reductions for Imitation Learning*, AISTATS, theorem 2.1.
    """
    return min(float(horizon), horizon**2 * error)


def error_bound(log_loss: float, *, sampled: bool = False) -> float:
    r"""Largest error rate per step that a mean log loss leaves room for.

    :math:`\min(1, \ell / \ln 2)` when the most probable action is taken, :math:`1 - e^{-\ell}` when one is sampled.

    Parameters
    ----------
    log_loss : float
        In nats, on the expert's own states.
    sampled : bool

    Examples
    --------
    >>> round(error_bound(0.01), 5), round(error_bound(0.01, sampled=True), 5)
    (0.01443, 0.00995)
    """
    return -math.expm1(-log_loss) if sampled else min(1.0, log_loss / math.log(2.0))


def observe(state: State, p_value: float, *, monitor: Monitor, flagged: bool = False) -> State:
    r"""One step of the CUSUM on OOD p-values.

    .. math:: S_t = \max(0,\; S_{t-1} - \ln p_t - k)

    Parameters
    ----------
    state : State
        As the last step left it.
    p_value : float
        Of this step's row; uniform, or larger than that, while the session is on known ground.
    monitor : Monitor
    flagged : bool
        Whether a rule without a p-value flags the row.

    Examples
    --------
    >>> monitor = Monitor(threshold=4.0)
    >>> state = observe(State(), 0.01, monitor=monitor)
    >>> round(state.statistic, 4), state.since_inside, state.alarm
    (3.2189, 1, False)
    >>> observe(state, 0.01, monitor=monitor)
    State(statistic=0.0, steps=2, since_inside=2, alarm=True, standing=True)

    References
    ----------
    Page (1954), *Continuous Inspection Schemes*, Biometrika 41.
    """
    evidence = -math.log(max(p_value, math.ulp(0.0)))
    statistic = max(0.0, state.statistic + evidence - monitor.allowance)
    alarm = statistic > monitor.threshold
    since = 0 if p_value > monitor.alpha and not flagged else state.since_inside + 1
    standing = alarm or (state.standing and since > 0)
    return State(0.0 if alarm else statistic, state.steps + 1, since, alarm, standing)


def observe_all(
    state: State, p_values: Sequence[float] | Array, *, monitor: Monitor, flagged: Sequence[bool] | Flags | None = None
) -> list[State]:
    """States after each of several steps, in order; the last is the session's.

    Parameters
    ----------
    state : State
    p_values : sequence of float
    monitor : Monitor
    flagged : sequence of bool, optional
        One per p-value, as in `observe`.

    Examples
    --------
    >>> [s.since_inside for s in observe_all(State(), [0.5, 0.01, 0.02, 0.4], monitor=Monitor(10.0))]
    [0, 1, 2, 0]
    """
    states = []
    rules = [False] * len(p_values) if flagged is None else flagged
    for p_value, outside in zip(p_values, rules, strict=True):
        state = observe(state, float(p_value), monitor=monitor, flagged=bool(outside))
        states.append(state)
    return states


def run_length(threshold: float, *, allowance: float = ALLOWANCE, cells: int = CELLS) -> float:
    r"""Mean number of steps to a false alarm, p-values being uniform and independent.

    Solves :math:`L(s) = 1 + \int L(s')\,P(ds' \mid s)` on a grid of the statistic, :math:`-\ln p` being exponential.

    Parameters
    ----------
    threshold : float
    allowance : float
    cells : int

    Examples
    --------
    >>> round(run_length(0.0), 6)  # alarm whenever p < 1/4
    4.0

    References
    ----------
    Brook & Evans (1972), *An Approach to the Probability Distribution of CUSUM Run Length*, Biometrika 59.
    """
    edges = np.linspace(0.0, threshold, cells + 1)
    start = np.concatenate([[0.0], (edges[1:] + edges[:-1]) / 2.0])  # zero itself, then the middle of every cell
    below = -np.expm1(-np.maximum(edges[None, :] - start[:, None] + allowance, 0.0))
    moves = np.diff(below, axis=1, prepend=0.0)
    return float(np.linalg.solve(np.eye(cells + 1) - moves, np.ones(cells + 1))[0])


@lru_cache(maxsize=64)
def alarm_threshold(per_thousand: float, *, allowance: float = ALLOWANCE, rows: int | None = None) -> float:
    """Threshold at which known ground raises that many false alarms per 1000 steps, at most.

    Uniform p-values raise just as many, in the long run. Conformal ones of ``rows`` calibration rows are coarser, which
    lowers the rate, but share one calibration set: where few rows happen to leave a wide gap above all of them, every
    session is odd. At low rates that outweighs the rest, and the threshold rises to keep the rate on average over
    calibration sets. Rows of one trajectory that resemble each other raise the rate.

    Parameters
    ----------
    per_thousand : float
        Above 0, below 1000 times the share of p-values below ``exp(-allowance)``.
    allowance : float
    rows : int, optional
        Calibration rows behind the p-values; without them the p-values are taken as uniform.

    Raises
    ------
    ValueError
        When no threshold gives that rate.

    Examples
    --------
    >>> round(1000.0 / run_length(alarm_threshold(1.0)), 6)
    1.0
    >>> alarm_threshold(0.05, rows=25) > alarm_threshold(0.05, rows=500) == alarm_threshold(0.05)
    True

    References
    ----------
    Lorden (1971), *Procedures for Reacting to a Change in Distribution*, Annals of Mathematical Statistics 42.
    """
    most = 1000.0 * math.exp(-allowance)
    if allowance <= 1.0 or not 0.001 <= per_thousand <= most:
        raise ValueError(
            f"false alarms per 1000 steps must lie between 0.001 and {most:g} and the allowance be above 1;"
            f" got {per_thousand:g} and {allowance:g}"
        )
    usual = _uniform_threshold(per_thousand, allowance)
    if rows is None or rows > FINITE_ROWS[-1] or per_thousand > LARGEST_FINITE_RATE:
        return usual
    if per_thousand < SMALLEST_FINITE_RATE or allowance != ALLOWANCE:
        raise ValueError(
            f"a rate of {per_thousand:g} per 1000 steps is not reached with {rows} calibration rows: it needs more "
            f"than {FINITE_ROWS[-1]}, and with fewer the lowest rate is {SMALLEST_FINITE_RATE:g} at the usual allowance"
        )
    return max(usual, _finite_threshold(per_thousand, rows))


def _uniform_threshold(per_thousand: float, allowance: float) -> float:
    low, high = 0.0, 1.0
    while run_length(high, allowance=allowance) < 1000.0 / per_thousand:
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = (low + high) / 2.0
        short = run_length(middle, allowance=allowance) < 1000.0 / per_thousand
        low, high = (middle, high) if short else (low, middle)
    return high


def _finite_threshold(per_thousand: float, rows: int) -> float:
    # The rate is largest near 19 rows: between two numbers of rows the larger rate holds for both.
    first = int(np.searchsorted(FINITE_ROWS, rows, side="right")) - 1
    last = int(np.searchsorted(FINITE_ROWS, rows, side="left"))
    rates = np.max(FINITE_RATES[max(first, 0) : last + 1], axis=0)
    return float(np.interp(-math.log(per_thousand), -np.log(rates), FINITE_THRESHOLDS))
