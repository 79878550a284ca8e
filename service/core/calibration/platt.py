"""Platt scaling: a sigmoid over the one logit of a binary model."""

from dataclasses import dataclass
from typing import ClassVar, Self

from service.core.calibration.affine import row_weights
from service.core.calibration.logistic import fit_logistic, platt_targets, threshold_separates
from service.core.numerics import Array, Indices, log_softmax, two_column
from service.core.state_checks import check_number


@dataclass(frozen=True, slots=True)
class Platt:
    r"""A line through the logit of the second class.

    .. math:: \operatorname{logit} q = a (z_1 - z_0) + b

    Parameters
    ----------
    slope : float
        a; negative only if the model ranks backwards.
    intercept : float
        b.

    References
    ----------
    Platt (2000), *Probabilistic Outputs for Support Vector Machines*, Advances in Large Margin Classifiers.
    Lin, Lin and Weng (2007), *A Note on Platt's Probabilistic Outputs for Support Vector Machines*, Machine
    Learning 68.
    """

    free_intercepts: ClassVar[bool] = True
    needs: ClassVar[str] = "binary"

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        check_number("slope", self.slope)
        check_number("intercept", self.intercept)

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
        """Logistic regression on Platt's targets, which keep separable rows finite.

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
        >>> import numpy as np
        >>> logits = np.array([[0.0, -1.0], [0.0, 1.0]])
        >>> round(Platt.fit(logits, np.array([0, 1])).slope, 6)  # targets 1/3 and 2/3
        0.693147
        """
        del offset
        w = row_weights(weights, len(logits))
        evidence = logits[:, 1:] - logits[:, :1]
        targets = platt_targets(labels, w * ((units or len(w)) / len(w)))
        slope, intercept = fit_logistic(evidence, targets, w)
        return cls(float(slope), float(intercept))

    @staticmethod
    def size(k: int) -> int:
        """Number of free parameters."""
        del k
        return 2

    def separable(
        self, logits: Array, labels: Indices, *, weights: Array | None = None, offset: Array | None = None
    ) -> bool:
        """Whether a threshold separates the classes without error, ties at it aside."""
        del offset
        evidence, kept = logits[:, 1] - logits[:, 0], row_weights(weights, len(logits)) > 0.0
        x, y = evidence[kept], labels[kept]
        return threshold_separates(x, y) or threshold_separates(-x, y)

    def apply(self, logits: Array) -> Array:
        """Calibrated log-probabilities, shape (N, 2).

        Examples
        --------
        >>> import numpy as np
        >>> np.exp(Platt(1.0, np.log(3.0)).apply(np.zeros((1, 2)))).round(4)
        array([[0.25, 0.75]])
        """
        return log_softmax(two_column(self.slope * (logits[:, 1] - logits[:, 0]) + self.intercept))
