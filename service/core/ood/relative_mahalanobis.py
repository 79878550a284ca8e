"""Mahalanobis distance to the nearest class centre, less that to the centre of all rows."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.numerics import Array, Indices
from service.core.ood.features import Stored, compact, spread
from service.core.ood.mahalanobis import check_whitened, class_statistics, nearest_squared
from service.core.state_checks import SUM_TOLERANCE, check_positive


@dataclass(frozen=True, slots=True)
class RelativeMahalanobis:
    r"""Squared Mahalanobis distance to the nearest class, minus that to all classes taken as one.

    .. math:: s(x) = \min_k (x - \mu_k)^\top \Sigma^{-1} (x - \mu_k) - (x - \mu)^\top \Sigma_0^{-1} (x - \mu)

    What all classes share cancels, so it hears rows near to, but not of, the classes better than `mahalanobis`;
    directions that do not separate classes count for nothing, however far the row. One class alone scores 0.

    :math:`\Sigma_0 = \Sigma + B`, the shrunk covariance within classes plus the sample covariance between them
    (law of total covariance): shrunk on its own it could be tighter than a class, and the score would fall without
    bound far from the data. One matrix diagonalises both, so the state is as small as that of `mahalanobis`.

    Attributes
    ----------
    center : ndarray of shape (F,)
        Mean of the features.
    whitening : ndarray of shape (F, F)
        ``(x - center) @ whitening`` has identity covariance within classes and a diagonal one overall.
    means : ndarray of shape (K', F)
        Whitened centres of the classes seen in training.
    precision : ndarray of shape (F,)
        Inverse of the whitened overall variances, at most 1.

    References
    ----------
    Ren et al. (2021), *A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection*, ICML UDL workshop.
    """

    needs: ClassVar[str] = "features"
    stateful: ClassVar[bool] = True

    center: Array
    whitening: Stored
    means: Stored
    precision: Array

    def __post_init__(self) -> None:
        features = check_whitened(self.center, self.whitening, self.means)
        if check_positive("precision", self.precision, features).max(initial=0.0) > 1.0 + SUM_TOLERANCE:
            raise ValueError("precision must be at most 1")

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Centres, shared covariance and overall covariance of training rows.

        Parameters
        ----------
        values : ndarray of shape (N, F)
        labels : ndarray of shape (N,)
        logits
            Not used.
        """
        del logits
        center, scale = values.mean(axis=0), spread(values)
        means, within, between = class_statistics((values - center) / scale, labels)
        whitening = np.linalg.inv(np.linalg.cholesky(within)).T
        surplus, axes = np.linalg.eigh(whitening.T @ between @ whitening)
        whitening = whitening @ axes
        precision = 1.0 / (1.0 + np.maximum(surplus, 0.0))
        return cls(center, compact(whitening / scale[:, None]), compact(means @ whitening), precision)

    def score(self, values: Array) -> Array:
        """Differences of squared distances, shape (N,), of rows of shape (N, F).

        Examples
        --------
        >>> rows = np.array([[-3.0, 1.0], [-3.0, -1.0], [-4.0, 0.0], [-2.0, 0.0]])
        >>> fitted = RelativeMahalanobis.fit(np.concatenate([rows, -rows]), np.repeat([0, 1], 4))
        >>> fitted.score(np.array([[-3.0, 0.0], [-3.0, 9.0], [0.0, 0.0]])).round(6)
        array([-0.836669, -0.836669,  5.12253 ])
        """
        y = (values - self.center) @ self.whitening
        return nearest_squared(y, self.means) - y**2 @ self.precision
