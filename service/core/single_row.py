"""One row in Python's own numbers: every shortcut that a request of one row takes.

A NumPy call costs about a microsecond however few rows it is given, so for one row of few classes the calls are most of
the arithmetic. The functions here answer as the general ones do, to within rounding: `tests/core/test_single_row.py`
compares them row by row. `pipeline.postprocess` and `pipeline.choose` are the only callers.

How much longer a request of one row takes without each (30 features, 2 classes, 3 actions, scores nll and mahalanobis;
115 µs of CPU in process, 2026-11-26, medians of 40 interleaved runs):

====================  =====  ==================================================================
`evidence`            +36 %  then `fused.softmax`, `Detector.p_values` and `Detector.thresholds`
… `squared_distance`   +9 %  then `Mahalanobis.score`
… `p_value`            +3 %  then `conformal.p_values`
`decide`              +14 %  then `decision.decide`
====================  =====  ==================================================================

Others gained less than 3 % and were removed: comparisons with ranges (2 %), finiteness of few logits (1 %), flags
found again instead of made (0 %).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from service.core.conformal import Reference
from service.core.costs import Prices
from service.core.decision import LOWEST_RISK, OOD, OOD_UNAVAILABLE, REASONS, TIE, TIE_TOLERANCE, Decisions, weighed
from service.core.detector import Detector
from service.core.numerics import Array, Flags, read_only
from service.core.ood import Score
from service.core.ood.mahalanobis import Mahalanobis

FEW_CLASSES: Final = 16  # Python's floats beat NumPy's calls up to here
FEW_ACTIONS: Final = 16

FARTHEST: Final = float(np.finfo(np.float64).max)  # the score of a distance that overflows, or that NaN leaves unknown


class Evidence(NamedTuple):
    """Stages A and C of one row, as `pipeline.Posterior` holds them.

    Attributes
    ----------
    log_probs, probabilities : ndarray of shape (1, K)
    scores, p_values : ndarray of shape (1, S)
        A p-value is 1 where the version is uncalibrated.
    flags : ndarray of shape (1, S)
    p_value : ndarray of shape (1,)
        Of the gate.
    flagged : bool
        By a score of the gate.
    """

    log_probs: Array
    probabilities: Array
    scores: Array
    p_values: Array
    flags: Flags
    p_value: Array
    flagged: bool


def evidence(detectors: Sequence[Detector], logits: Array, features: Array, *, temperature: float) -> Evidence:
    """OOD scores of one row with their p-values and flags, and its probabilities at a temperature.

    Parameters
    ----------
    detectors : sequence of Detector
        With one threshold each, whatever the predicted class.
    logits : ndarray of shape (1, K)
        K at most `FEW_CLASSES`.
    features : ndarray of shape (1, D)
        What feature scores look at.
    temperature : float
    """
    top, nll, log_probs, probabilities = softmax(logits[0].tolist(), temperature=temperature)
    scores = [d.swept(top, nll) if d.swept else _score(d.score, logits, features) for d in detectors]
    p_values, flags, joint, flagged = _significance(detectors, scores)
    packed = np.array([log_probs + probabilities + scores + p_values + [joint]])  # one array, seen in parts
    k, s = len(log_probs), len(scores)
    return Evidence(
        packed[:, :k],
        packed[:, k : 2 * k],
        packed[:, 2 * k : 2 * k + s],
        packed[:, 2 * k + s : -1],
        np.array([flags]),
        packed[0, -1:],
        flagged,
    )


def softmax(logits: list[float], *, temperature: float) -> tuple[float, float, list[float], list[float]]:
    """`fused.softmax` of one row: largest logit, nll, log-probabilities, probabilities.

    Parameters
    ----------
    logits : list of K floats
    temperature : float

    Examples
    --------
    >>> top, nll, log_probs, probabilities = softmax([0.0, 2.0], temperature=2.0)
    >>> round(nll, 4), [round(p, 4) for p in probabilities]
    (0.1269, [0.2689, 0.7311])
    """
    top = max(logits)
    at = logits.index(top)
    shifted = [z - top for z in logits]
    nll = math.log1p(_rest(shifted, at)[0])
    scaled = [d / temperature for d in shifted]
    rest, terms = _rest(scaled, at)
    log_total, total = math.log1p(rest), 1.0 + rest
    return top, nll, [d - log_total for d in scaled], [e / total for e in terms]


def p_value(calibration: Reference, score: float) -> float:
    """`conformal.p_values` of one score.

    Parameters
    ----------
    calibration : Reference
    score : float

    Examples
    --------
    >>> from service.core.conformal import reference
    >>> p_value(reference(np.array([1.0, 2.0, 3.0])), 2.0)
    0.75
    """
    smaller = int(calibration.caps.searchsorted(score))
    if smaller and len(calibration.ranks) < calibration.n:
        smaller = int(calibration.ranks[smaller - 1])
    return (calibration.n + 1 - smaller) / (calibration.n + 1)


def squared_distance(score: Mahalanobis, features: Array) -> float:
    """`Mahalanobis.score` of one row, shape (1, F): all class means at once."""
    gaps = score.means - (features[0] - score.center).dot(score.whitening)
    nearest: float = min(np.einsum("kf,kf->k", gaps, gaps).tolist())
    return nearest


def decide(
    probabilities: Array, log_probs: Array, prices: Prices, *, on_ood: int | None, flagged: Flags | None
) -> Decisions:
    """`decision.decide` of one row.

    Parameters
    ----------
    probabilities, log_probs : ndarray of shape (1, K)
    prices : Prices
        At most `FEW_ACTIONS` actions.
    on_ood : int or None
    flagged : ndarray of shape (1,), or None when uncalibrated
    """
    risks, regrets, stakes = weighed(probabilities, log_probs, prices)
    values, over = risks[0].tolist(), regrets[:, 0].tolist()
    least, runner_up = sorted(values)[:2]
    saved, band = min(over), TIE_TOLERANCE * stakes.item()
    near = [a for a, more in enumerate(over) if more - saved <= band]
    best, reason = near[0], TIE if len(near) > 1 else LOWEST_RISK
    saved, margin = max(saved, 0.0), runner_up - least
    least_cost = _ACTIONS[best : best + 1]
    if on_ood is None:
        found = np.array([margin, saved])
        return Decisions(least_cost, risks, found[:1], _REASONS[reason : reason + 1], least_cost, found[1:], None)
    taken = least_cost
    if flagged is None or flagged[0]:
        taken, reason = _ACTIONS[on_ood : on_ood + 1], OOD_UNAVAILABLE if flagged is None else OOD
    at = values[on_ood]
    deferral = (runner_up if at == least else least) - at
    found = np.array([deferral if reason >= OOD else margin, saved, deferral])
    return Decisions(taken, risks, found[:1], _REASONS[reason : reason + 1], least_cost, found[1:2], found[2:])


def _rest(shifted: list[float], at: int) -> tuple[float, list[float]]:
    # The largest term is left out of the sum, as in `top_and_rest`: beside its one, small ones would be lost.
    terms = list(map(math.exp, shifted))
    terms[at] = 0.0
    rest = sum(terms)
    terms[at] = 1.0
    return rest, terms


def _score(score: Score, logits: Array, features: Array) -> float:
    given = features if score.needs == "features" else logits
    short = _SCORES.get(type(score))
    value: float = short(score, given) if short else score.score(given).item()
    return value if math.isfinite(value) else float(np.nan_to_num(value, nan=FARTHEST))


def _significance(detectors: Sequence[Detector], scores: list[float]) -> tuple[list[float], list[bool], float, bool]:
    # Of every score, then of the gate: p-value and flag.
    p_values, flags, gated, flagged = [], [], [], False
    for detector, score in zip(detectors, scores, strict=True):
        p, flag = 1.0, False
        if detector.calibration is not None and detector.threshold is not None:
            p, flag = p_value(detector.calibration, score), score > detector.threshold
        if detector.gated:
            gated.append(p)
            flagged = flagged or flag
        p_values.append(p)
        flags.append(flag)
    return p_values, flags, min(1.0, len(gated) * min(gated, default=1.0)), flagged


# The whole numbers of a decision about one row are slices of these: a slice is quicker than an array.
_ACTIONS: Final = read_only(np.arange(FEW_ACTIONS))
_REASONS: Final = read_only(np.arange(len(REASONS), dtype=np.int8))

_SCORES: Final[dict[type[Score], Callable[[Any, Array], float]]] = {Mahalanobis: squared_distance}
