"""Mahalanobis distance to the nearest class centre, in units of the spread within classes."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.numerics import Array, Indices
from service.core.ood.features import Stored, compact, spread
from service.core.state_checks import check_array


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    r"""Squared Mahalanobis distance to the nearest class mean, one covariance shared by the classes.

    .. math:: s(x) = \min_k (x - \mu_k)^\top \Sigma^{-1} (x - \mu_k)

    Features are standardised first, and the covariance is shrunk (Ledoit–Wolf), so that few rows, correlated
    features and different units do no harm.

    Attributes
    ----------
    center : ndarray of shape (F,)
        Mean of the features.
    whitening : ndarray of shape (F, F)
        ``(x - center) @ whitening`` has identity covariance within classes.
    means : ndarray of shape (K', F)
        Whitened centres of the classes seen in training.

    References
    ----------
    Lee et al. (2018), *A Simple Unified Framework for Detecting Out-of-Distribution Samples*, NeurIPS.
    Ledoit and Wolf (2004), *A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices*, JMVA 88.
    """

    needs: ClassVar[str] = "features"
    stateful: ClassVar[bool] = True

    center: Array
    whitening: Stored
    means: Stored

    def __post_init__(self) -> None:
        check_whitened(self.center, self.whitening, self.means)

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Centres and shared covariance of training rows.

        Parameters
        ----------
        values : ndarray of shape (N, F)
        labels : ndarray of shape (N,)
        logits
            Not used.
        """
        del logits
        center, scale = values.mean(axis=0), spread(values)
        means, within, _ = class_statistics((values - center) / scale, labels)
        whitening = np.linalg.inv(np.linalg.cholesky(within)).T
        return cls(center, compact(whitening / scale[:, None]), compact(means @ whitening))

    def score(self, values: Array) -> Array:
        """Squared distances, shape (N,), of rows of shape (N, F).

        Examples
        --------
        >>> rows = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> fitted = Mahalanobis.fit(rows, np.zeros(4, dtype=np.intp))
        >>> fitted.score(np.array([[0.0, 0.0], [3.0, 0.0]])).round(6)
        array([ 0., 18.])
        """
        return nearest_squared((values - self.center) @ self.whitening, self.means)


def check_whitened(center: Array, whitening: Stored, means: Stored) -> int:
    """Refuse whitening that leaves a direction out, and means of other features; the number of features.

    Raises
    ------
    ValueError
    """
    (features,) = check_array("center", center, None).shape
    if not check_array("whitening", whitening, features, features).any(axis=0).all():
        raise ValueError("whitening must have no column of zeros")
    if not len(check_array("means", means, None, features)):
        raise ValueError("means must hold a class")
    return features


def class_statistics(values: Array, labels: Indices) -> tuple[Array, Array, Array]:
    """Means of the classes present, their shared shrunk covariance, and the covariance between them.

    Parameters
    ----------
    values : ndarray of shape (N, F)
        Standardised.
    labels : ndarray of shape (N,)

    Returns
    -------
    means : ndarray of shape (K', F)
    within : ndarray of shape (F, F)
    between : ndarray of shape (F, F)
        Of the class means, weighted by their rows.

    Raises
    ------
    ValueError
        If no class has two rows: the covariance within classes would be zero, whatever the features.
    """
    classes, of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.max() < 2:
        raise ValueError("no class has two rows, so the spread of rows within a class is unknown")
    means = np.stack([values[of_row == k].mean(axis=0) for k in range(len(classes))])
    between = (means.T * (counts / len(values))) @ means
    return means, shrunk_covariance(values - means[of_row]), between


def nearest_squared(points: Array, means: Stored) -> Array:
    """Squared Euclidean distance of every point, shape (N, F), to the nearest of means, shape (K', F)."""
    nearest = np.full(len(points), np.inf)
    for mean in means:
        gap = points - mean
        np.minimum(nearest, np.einsum("nf,nf->n", gap, gap), out=nearest)
    return nearest


def shrunk_covariance(centered: Array) -> Array:
    r"""Ledoit–Wolf estimate: the sample covariance pulled towards a multiple of the identity.

    .. math:: \hat\Sigma = (1 - \delta) S + \delta\,\tfrac{\operatorname{tr} S}{F} I

    Parameters
    ----------
    centered : ndarray of shape (N, F)
        Rows with their mean (here: their class' mean) taken away.

    Returns
    -------
    ndarray of shape (F, F)
        Positive definite, unless all rows are equal; a relative ridge of 1e-12 guards that case.

    References
    ----------
    Ledoit and Wolf (2004), *A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices*, JMVA 88.
    """
    n, f = centered.shape
    sample = centered.T @ centered / n
    scale = np.trace(sample) / f
    squares = centered**2
    variance = (float(np.sum(squares.T @ squares)) / n - float(np.sum(sample**2))) / n
    distance = float(np.sum((sample - scale * np.eye(f)) ** 2))
    amount = min(1.0, variance / distance) if distance > 0.0 else 1.0
    ridge = 1e-12 * max(scale, 1.0)
    return (1.0 - amount) * sample + (amount * scale + ridge) * np.eye(f)
