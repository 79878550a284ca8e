r"""Updating a calibration with new outcomes: how much of it to change is chosen by a closed test.

.. math:: \log q' = \operatorname{log\,softmax}(β \log q + b)

q are the probabilities in force. Of two classes b is the calibration intercept and β the calibration slope; of more
classes, a bias for each and 1 / T.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from service.core.calibration import Calibrator
from service.core.calibration.affine import fit_affine, row_weights
from service.core.calibration.bcts import PINNED, Bcts
from service.core.calibration.beta import Beta
from service.core.calibration.identity import Identity
from service.core.calibration.matrix import Matrix
from service.core.calibration.platt import Platt
from service.core.calibration.temperature import Temperature
from service.core.calibration.vector import Vector
from service.core.numerics import Array, Indices, log_softmax

Step = Literal["none", "intercept", "slope", "calibrator"]
STEPS: Final[tuple[Step, ...]] = ("none", "intercept", "slope", "calibrator")
"""From the least change to the largest: nothing, intercepts, intercepts and slope, the calibrator fitted anew."""


@dataclass(frozen=True, slots=True)
class Update:
    """A slope and biases on calibrated log-probabilities.

    Attributes
    ----------
    slope : float
        β; below 1 the probabilities in force were over-confident.
    bias : ndarray of shape (K,)
        Sums to zero.
    """

    slope: float
    bias: Array

    def apply(self, log_probs: Array) -> Array:
        """Log-probabilities after the update, shape (N, K).

        Examples
        --------
        >>> np.exp(Update(1.0, np.log([2.0, 0.5])).apply(np.log([[0.5, 0.5]]))).round(4)
        array([[0.8, 0.2]])
        """
        return log_softmax(self.slope * log_probs + self.bias)

    def after(self, earlier: "Update") -> "Update":
        """Both updates as one, the earlier one first."""
        return Update(self.slope * earlier.slope, self.slope * earlier.bias + self.bias)


def unchanged(k: int) -> Update:
    """The update of K classes that changes nothing."""
    return Update(1.0, np.zeros(k))


def fit_update(
    log_probs: Array, labels: Indices, *, step: Step, weights: Array | None = None, units: float | None = None
) -> Update:
    """The update of least log loss, each parameter held by a ridge worth one row.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        In force.
    labels : ndarray of shape (N,)
    step : str
        ``intercept`` leaves the slope at 1; ``slope`` fits both.
    weights : ndarray of shape (N,), optional
    units : float, optional
        How many rows, or groups of rows, are independent of each other; without it, all rows.

    Raises
    ------
    ValueError
        If a class has no row with a weight: nothing is known of its bias.

    Examples
    --------
    >>> log_probs = np.log(np.full((1000, 2), 0.5))
    >>> update = fit_update(log_probs, np.repeat([0, 1], [800, 200]), step="intercept")
    >>> update.slope, np.exp(update.apply(log_probs[:1])).round(2)
    (1.0, array([[0.8, 0.2]]))
    """
    w = row_weights(weights, len(labels))
    if np.bincount(labels, w, log_probs.shape[1]).min() <= 0.0:
        raise ValueError("every class needs a row with a weight")
    one, ridge = np.array(1.0), 1.0 / (units or len(labels))
    hold = PINNED if step == "intercept" else ridge
    slope, bias = fit_affine(log_probs, labels, weights=w, unit=1.0, centre=one, ridge=hold * one, bias_ridge=ridge)
    return Update(1.0 if step == "intercept" else float(slope), bias)


def log_likelihood(log_probs: Array, labels: Indices, *, weights: Array | None = None, units: float) -> float:
    """Log-likelihood of labels, as if of so many independent rows.

    Where rows of a subject weigh one together, the statistic of `closed_test` is at most what independent rows give.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional
    units : float
        Independent rows, or groups of rows.
    """
    own = log_probs[np.arange(len(labels)), labels]
    return units * float(np.average(own, weights=weights))


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of the ladder as fitted.

    Attributes
    ----------
    step : str
    log_likelihood : float
    parameters : int
        That were free.
    """

    step: Step
    log_likelihood: float
    parameters: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a closed test found.

    Attributes
    ----------
    step : str
        The simplest one that is not rejected against the last.
    p_values : dict of str to float
        Of every step that was tested.
    """

    step: Step
    p_values: dict[Step, float]


def closed_test(rungs: Sequence[Rung], *, level: float) -> Chosen:
    r"""The simplest step that the likelihood ratio against the last one does not reject.

    .. math:: 2 (\ell_{\text{last}} - \ell_s) \sim χ^2_{p_{\text{last}} - p_s}

    Steps are tested in order, each at the same level, and the first one that holds ends the test. The chance that
    anything changes although nothing is wrong is then at most the level, as it is for every simpler step that is right.

    Parameters
    ----------
    rungs : sequence of Rung
        From the simplest to the last; each one nests those before it.
    level : float

    Examples
    --------
    >>> ladder = [Rung("none", -520.0, 0), Rung("intercept", -501.0, 1), Rung("slope", -500.0, 2)]
    >>> closed_test(ladder, level=0.05).step
    'intercept'

    References
    ----------
    Vergouwe, Nieboer, Oostenbrink, Debray, Murray, Kattan, Koffijberg, Moons and Steyerberg (2017), *A Closed Testing
    Procedure to Select an Appropriate Method for Updating Prediction Models*, Statistics in Medicine 36.
    Marcus, Peritz and Gabriel (1976), *On Closed Testing Procedures*, Biometrika 63.
    """
    *simpler, last = rungs
    p_values = dict[Step, float]()
    for rung in simpler:
        ratio = max(2.0 * (last.log_likelihood - rung.log_likelihood), 0.0)
        p_values[rung.step] = chi_square_tail(ratio, last.parameters - rung.parameters)
        if p_values[rung.step] > level:
            return Chosen(rung.step, p_values)
    return Chosen(last.step, p_values)


def chi_square_tail(value: float, degrees: int) -> float:
    r"""Chance that a chi-square variable of so many degrees of freedom exceeds a value.

    .. math:: Q_d(x) = Q_{d-2}(x) + \frac{(x/2)^{d/2-1} e^{-x/2}}{\Gamma(d/2)}

    with :math:`Q_2 = e^{-x/2}` and :math:`Q_1 = \operatorname{erfc}\sqrt{x/2}`.

    Parameters
    ----------
    value : float
        Not negative.
    degrees : int
        At least 1.

    Examples
    --------
    >>> [round(chi_square_tail(x, d), 4) for x, d in ((3.841459, 1), (5.991465, 2), (7.814728, 3))]
    [0.05, 0.05, 0.05]

    References
    ----------
    Abramowitz and Stegun (1964), *Handbook of Mathematical Functions*, 26.4.4, 26.4.5 and 26.4.8.
    """
    half = 0.5 * value
    odd = degrees % 2 == 1
    total = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    if half == 0.0:
        return 1.0
    powers = np.arange(1.5 if odd else 2.0, 0.5 * degrees + 0.25)
    terms = [math.exp((power - 1.0) * math.log(half) - half - math.lgamma(power)) for power in powers]
    return min(total + math.fsum(terms), 1.0)


def free_parameters(method: str, k: int) -> int:
    """How many parameters of a calibrator K classes identify: a constant in every logit changes nothing.

    Parameters
    ----------
    method : str
        A key of `IDENTIFIED`.
    k : int

    Examples
    --------
    >>> [free_parameters(method, 3) for method in ("bcts", "vector", "matrix")]
    [3, 5, 8]
    """
    return IDENTIFIED[method](k)


def composed(calibrator: Calibrator, update: Update) -> Calibrator:
    """One calibrator that answers what the update makes of the other's answers.

    Parameters
    ----------
    calibrator : Calibrator
    update : Update
        Of a positive slope.

    Raises
    ------
    ValueError
        If its family does not contain the result: a step function, and a curve, stay what they are.

    Examples
    --------
    >>> composed(Temperature(2.0), Update(0.5, np.zeros(2)))
    Bcts(temperature=4.0, bias=array([0., 0.]))
    """
    compose = _COMPOSED.get(type(calibrator))
    if compose is None:
        raise ValueError("a slope and an intercept leave the family of this calibrator")
    result: Calibrator = compose(calibrator, update)
    return result


def _identity(calibrator: Identity, update: Update) -> Bcts:
    del calibrator
    return Bcts(1.0 / update.slope, update.bias)


def _temperature(calibrator: Temperature, update: Update) -> Bcts:
    return Bcts(calibrator.temperature / update.slope, update.bias)


def _bcts(calibrator: Bcts, update: Update) -> Bcts:
    return Bcts(calibrator.temperature / update.slope, update.slope * calibrator.bias + update.bias)


def _vector(calibrator: Vector, update: Update) -> Vector:
    return Vector(update.slope * calibrator.slope, update.slope * calibrator.bias + update.bias)


def _matrix(calibrator: Matrix, update: Update) -> Matrix:
    return Matrix(update.slope * calibrator.weight, update.slope * calibrator.bias + update.bias)


def _platt(calibrator: Platt, update: Update) -> Platt:
    moved = float(update.bias[1] - update.bias[0])
    return Platt(update.slope * calibrator.slope, update.slope * calibrator.intercept + moved)


def _beta(calibrator: Beta, update: Update) -> Beta:
    moved, slope = float(update.bias[1] - update.bias[0]), update.slope
    return Beta(slope * calibrator.a, slope * calibrator.b, slope * calibrator.c + moved)


IDENTIFIED: Final[dict[str, Callable[[int], int]]] = {
    "identity": lambda _: 0,
    "temperature": lambda _: 1,
    "bcts": lambda k: k,
    "platt": lambda k: k,
    "vector": lambda k: 2 * k - 1,
    "matrix": lambda k: k * k - 1,
    "beta": lambda k: k + 1,
}
"""Parameters that are identified, by method; of a step function none are."""

_COMPOSED: Final[dict[type, Callable[[Any, Update], Calibrator]]] = {
    Identity: _identity,
    Temperature: _temperature,
    Bcts: _bcts,
    Vector: _vector,
    Matrix: _matrix,
    Platt: _platt,
    Beta: _beta,
}
