"""ViM: a virtual class for feature directions without training variance, compared with the model's own classes."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from service.core.numerics import Array, Indices, logsumexp
from service.core.ood.features import Stored, compact, spread
from service.core.state_checks import check_array, check_positive


@dataclass(frozen=True, slots=True)
class Vim:
    r"""Virtual-logit matching: length of the residual as the logit of one more class, against the others' energy.

    .. math:: s(x) = \alpha \lVert R^\top (\tilde x - u) \rVert_2 - \log \sum_k e^{z_k(x)},
        \quad z(x) = W^\top \tilde x + b

    :math:`R` spans the F - ⌊F/2⌋ directions in which training features vary least, :math:`u = -W^{+\top} b` is
    where all logits are equal, :math:`\alpha` makes the virtual logit as large as the largest logit on average.

    Of the paper's recipe it differs in three things. The last layer needs not be known: ``W`` and ``b`` are the
    least-squares fit of the logits on the features, exact for the tensor that feeds the last layer (for any other,
    the model's best linear account); scoring then needs features alone. Logits are centred per row, so it has
    the same meaning for a model that emits probabilities. Features are standardised, as units demand.

    A row far out along a main direction of the features has no residual and much energy: it is not flagged.

    Attributes
    ----------
    center, scale : ndarray of shape (F,)
        Mean and standard deviation of the features.
    head : ndarray of shape (F, K)
        ``W``.
    bias : ndarray of shape (K,)
        ``b``.
    residual : ndarray of shape (F, F - ⌊F/2⌋)
        ``alpha * R``.
    offset : ndarray of shape (F - ⌊F/2⌋,)
        ``alpha * u @ R``.

    References
    ----------
    Wang et al. (2022), *ViM: Out-of-Distribution with Virtual-Logit Matching*, CVPR.
    """

    needs: ClassVar[str] = "features"
    stateful: ClassVar[bool] = True

    center: Array
    scale: Array
    head: Stored
    bias: Array
    residual: Stored
    offset: Array

    def __post_init__(self) -> None:
        (features,) = check_array("center", self.center, None).shape
        check_positive("scale", self.scale, features)
        check_array("bias", self.bias, check_array("head", self.head, features, None).shape[1])
        check_array("offset", self.offset, check_array("residual", self.residual, features, None).shape[1])

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Last layer, residual directions and weight from training rows.

        Parameters
        ----------
        values : ndarray of shape (N, F)
        labels : ndarray of shape (N,)
            Used only without ``logits``: the indicators of the classes then stand in for them.
        logits : ndarray of shape (N, K), optional
            The model's logits or log-probabilities of the same rows.
        """
        center, scale = values.mean(axis=0), spread(values)
        points = (values - center) / scale
        targets = _indicators(labels) if logits is None else logits
        head, bias = last_layer(points, targets - targets.mean(axis=1, keepdims=True))
        # Centred logits leave the head one rank short; the cut-off keeps what rounding puts there from being inverted.
        origin = -bias @ head.T @ np.linalg.pinv(head @ head.T, rcond=1e-10, hermitian=True)
        residual = residual_directions(points - origin)
        residual *= _weight(points @ head + bias, points - origin, residual)
        return cls(center, scale, compact(head), bias, compact(residual), origin @ residual)

    def score(self, values: Array) -> Array:
        """Scores, shape (N,), of rows of shape (N, F).

        Examples
        --------
        >>> rows = np.array([[-2.0, -1.0], [-1.0, -2.0], [1.0, 2.0], [2.0, 1.0]])
        >>> fitted = Vim.fit(rows, np.array([0, 0, 1, 1]), logits=rows[:, :1] * np.array([-1.0, 1.0]))
        >>> fitted.score(np.array([[2.0, 1.0], [2.0, -2.0]])).round(6)
        array([-0.51815,  3.98185])
        """
        points = (values - self.center) / self.scale
        beyond = points @ self.residual - self.offset
        return np.sqrt(np.einsum("nr,nr->n", beyond, beyond)) - logsumexp(points @ self.head + self.bias)


def last_layer(points: Array, logits: Array) -> tuple[Array, Array]:
    r"""Least-squares weights, shape (F, K), and bias, shape (K,), of logits on centred points.

    .. math:: \min_{W, b} \lVert X W + b - Z \rVert^2

    Parameters
    ----------
    points : ndarray of shape (N, F)
        With column means zero. Directions with less than 1e-5 of the largest spread get no weight: float32 features
        hold only noise there.
    logits : ndarray of shape (N, K)

    Examples
    --------
    >>> last_layer(np.array([[-1.0], [0.0], [1.0]]), np.array([[-1.0], [1.0], [3.0]]))
    (array([[2.]]), array([1.]))
    """
    bias = logits.mean(axis=0)
    # Normal equations: with a thousand logits they take a tenth of the time of a decomposition of the points.
    variances, axes = np.linalg.eigh(points.T @ points)
    kept = variances > 1e-10 * variances[-1]
    projected = axes[:, kept].T @ (points.T @ (logits - bias))
    return axes[:, kept] @ (projected / variances[kept][:, None]), bias


def residual_directions(points: Array) -> Array:
    """Orthonormal directions of least second moment, shape (F, F - F // 2), of points of shape (N, F)."""
    f = points.shape[1]
    _, axes = np.linalg.eigh(points.T @ points / len(points))
    return axes[:, : f - f // 2]


def _weight(logits: Array, points: Array, residual: Array) -> float:
    largest = float(logits.max(axis=1).mean())
    lengths = np.linalg.norm(points @ residual, axis=1).mean()
    # Features of low rank have no residual in training but rounding noise, which must not be blown up to a logit.
    floor = 1e-6 * np.linalg.norm(points, axis=1).mean()
    return (largest if largest > 0.0 else 1.0) / max(float(lengths), float(floor), 1e-12)


def _indicators(labels: Indices) -> Array:
    return (labels[:, None] == np.unique(labels)).astype(np.float64)
