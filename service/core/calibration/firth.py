"""Platt scaling of rare labels: slopes with Firth's penalty, and an intercept that keeps the observed frequency."""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from service.core.calibration.affine import row_weights
from service.core.calibration.logistic import LogisticLoss, minimise_logistic
from service.core.calibration.platt import Platt
from service.core.numerics import Array, Indices

FIRTH: Final = 0.5
"""Power of the information's determinant in Jeffreys' prior."""


@dataclass(frozen=True, slots=True)
class FirthPlatt(Platt):
    r"""A `Platt` fitted with Jeffreys' prior on slope and intercept, its intercept then moved to the frequency.

    .. math:: \sum_i w_i \log q_i + \tfrac12 \log \det I(a, b), \qquad \text{then } b: \;
              \sum_i w_i q_i = \sum_i w_i y_i

    The penalty takes the bias of few events out of the slope and keeps it finite where a threshold separates the rows.
    It draws probabilities towards one half; the second step undoes that, so no label is made more frequent than it is.

    References
    ----------
    Firth (1993), *Bias Reduction of Maximum Likelihood Estimates*, Biometrika 80.
    Puhr et al. (2017), *Firth's Logistic Regression with Rare Events: Accurate Effect Estimates and Predictions?*,
    Statistics in Medicine 36 (there FLIC).
    """

    @classmethod
    def fit(
        cls,
        logits: Array,
        labels: Indices,
        *,
        weights: Array | None = None,
        offset: Array | None = None,
        units: int | None = None,
    ) -> Self:
        """Parameters are those of `Platt.fit`, which also fits rows of one state only.

        Examples
        --------
        >>> logits, labels = np.array([[0.0, -1.0], [0.0, 1.0], [0.0, 0.0]]), np.array([0, 1, 0])
        >>> fitted = FirthPlatt.fit(logits, labels)
        >>> np.exp(fitted.apply(logits)).mean(axis=0).round(6)
        array([0.666667, 0.333333])
        """
        w = row_weights(weights, len(logits)) / len(logits)
        frequency = float(w @ labels)
        evidence = logits[:, 1] - logits[:, 0]
        scale = float(np.abs(evidence).max())
        if not 0.0 < frequency < 1.0 or np.ptp(evidence[w > 0.0]) <= 1e-12 * scale:
            plain = Platt.fit(logits, labels, weights=weights, offset=offset, units=units)
            return cls(plain.slope, plain.intercept)
        design = np.column_stack([evidence / scale, np.ones(len(labels))])
        rows = LogisticLoss(design, labels.astype(np.float64), w)
        slope = float(minimise_logistic(_Penalised(rows, 1.0 / (units or len(labels))), parameters=2)[0])
        return cls(slope / scale, _intercept(slope * design[:, 0], w, frequency))


@dataclass(frozen=True, slots=True)
class _Penalised:
    """Mean log loss less ``share`` times half the log-determinant of the information."""

    rows: LogisticLoss
    share: float

    def evaluate(self, point: Array) -> tuple[float, Array]:
        value, gradient = self.rows.evaluate(point)
        information, p = self.rows.hessian(point), self.rows.probabilities(point)
        determinant = float(np.linalg.det(information))
        if determinant <= 0.0:
            return math.inf, gradient
        design, w = self.rows.design, self.rows.weights
        leverage = w * p * (1.0 - p) * np.einsum("np,pq,nq->n", design, np.linalg.inv(information), design)
        pull = design.T @ (leverage * (1.0 - 2.0 * p))
        return value - self.share * FIRTH * math.log(determinant), gradient - self.share * FIRTH * pull

    def hessian(self, point: Array) -> Array:
        return self.rows.hessian(point)


def _intercept(scores: Array, weights: Array, frequency: float) -> float:
    """Where the mean probability is the frequency: a bisection between bounds that no score can exceed."""
    middle = math.log(frequency) - math.log1p(-frequency)
    low, high = middle - float(scores.max()), middle - float(scores.min())
    design = np.column_stack([scores, np.ones(len(scores))])
    rows = LogisticLoss(design, weights, weights)
    while high - low > 1e-12 * (1.0 + abs(low) + abs(high)):
        b = 0.5 * (low + high)
        low, high = (low, b) if float(weights @ rows.probabilities(np.array([1.0, b]))) > frequency else (b, high)
    return 0.5 * (low + high)
