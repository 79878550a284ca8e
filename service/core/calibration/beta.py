"""Beta calibration: three parameters for a binary model, made for scores between zero and one."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.calibration.affine import row_weights
from service.core.calibration.logistic import fit_logistic, platt_targets, threshold_separates
from service.core.numerics import Array, Indices, log_softmax, two_column
from service.core.state_checks import check_number


@dataclass(frozen=True, slots=True)
class Beta:
    r"""The likelihood ratio of two beta distributions.

    .. math:: \operatorname{logit} q = a \ln s - b \ln(1 - s) + c, \qquad s = \operatorname{softmax}(z)_1

    With a = b it is Platt scaling; a and b apart bend the two ends of the scale differently.

    Parameters
    ----------
    a, b : float
        Not negative, so that a higher score never means a lower probability.
    c : float

    References
    ----------
    Kull, Silva Filho and Flach (2017), *Beta Calibration: a Well-Founded and Easily Implemented Improvement on
    Logistic Calibration for Binary Classifiers*, AISTATS.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "binary"

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        for name, value in (("a", self.a), ("b", self.b), ("c", self.c)):
            check_number(name, value)

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
        """Logistic regression on ln s and -ln(1 - s); a negative slope is set to zero and the rest fitted again.

        Rows that a threshold separates without error have no finite optimum: they are fitted to Platt's targets.

        Parameters
        ----------
        logits : ndarray of shape (N, 2)
        labels : ndarray of shape (N,)
        weights : ndarray of shape (N,), optional
        offset : ndarray of shape (2,), optional
            Ignored: the intercept finds the prevalence of these rows by itself.
        units : int, optional
            How many rows, or groups of rows, are independent of each other: what Platt's targets count. Without it,
            all rows.

        Examples
        --------
        >>> logits = np.log([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
        >>> fitted = Beta.fit(np.repeat(logits, 10, axis=0), (np.arange(40) % 10 < np.repeat([1, 4, 6, 9], 10)) * 1)
        >>> round(fitted.a, 4), round(fitted.b, 4), abs(round(fitted.c, 4))  # already calibrated
        (1.0, 1.0, 0.0)
        """
        del offset
        w = row_weights(weights, len(logits))
        kept = w > 0.0
        features, labels, share = _features(logits[kept]), labels[kept], (units or len(w)) / len(w)
        w = w[kept]
        smooth = labels.min() == labels.max() or threshold_separates(features[:, 0], labels)
        targets = platt_targets(labels, share * w) if smooth else labels.astype(np.float64)
        return cls(*_without_negative(features, targets, w, [0, 1]))

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters."""
        del k
        return 3

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether a threshold separates the classes without error, ties at it aside; slopes are never negative."""
        del offset
        kept = row_weights(weights, len(logits)) > 0.0
        return threshold_separates(logits[kept, 1] - logits[kept, 0], labels[kept])

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, 2).

        Examples
        --------
        >>> np.exp(Beta(1.0, 1.0, 0.0).apply(np.log([[0.3, 0.7]]))).round(4)
        array([[0.3, 0.7]])
        """
        return log_softmax(two_column(_features(logits) @ np.array([self.a, self.b]) + self.c))


def _features(logits: Array) -> Array:
    return log_softmax(logits)[:, ::-1] * np.array([1.0, -1.0])


def _without_negative(features: Array, targets: Array, weights: Array, kept: list[int]) -> tuple[float, float, float]:
    found = fit_logistic(features[:, kept], targets, weights)
    slopes = np.zeros(2)
    slopes[kept] = found[:-1]
    if (slopes < 0.0).any():
        lowest = int(slopes.argmin())
        return _without_negative(features, targets, weights, [column for column in kept if column != lowest])
    return float(slopes[0]), float(slopes[1]), float(found[-1])
