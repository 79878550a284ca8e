"""What bcts, vector and matrix scaling share: a regularised multinomial regression on log-probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.core.calibration.descent import minimise
from service.core.calibration.temperature import CHUNK_CELLS, fit_temperature
from service.core.numerics import Array, Flags, Indices, logsumexp


def affine(log_probs: Array, slope: Array, bias: Array) -> Array:
    r"""Logits after scaling, shape (N, K).

    .. math:: s_{nk} = (A \log p_n)_k + b_k

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    slope : ndarray of shape (), (K,) or (K, K)
        One factor, one for each class, or the matrix A.
    bias : ndarray of shape (K,)

    Examples
    --------
    >>> affine(np.array([[1.0, 2.0]]), np.array([3.0, 4.0]), np.array([0.5, 0.0]))
    array([[3.5, 8. ]])
    """
    return (log_probs @ slope.T if slope.ndim == 2 else log_probs * slope) + bias


def row_weights(weights: Array | None, n: int) -> Array:
    """Weights with mean one, so that rows count as rows whatever the unit of their weights.

    A bootstrap replicate given by counts is then the replicate given by repeated rows, in regularised fits too.

    Parameters
    ----------
    weights : ndarray of shape (N,), optional
    n : int

    Examples
    --------
    >>> row_weights(np.array([10.0, 30.0]), 2)
    array([0.5, 1.5])
    """
    return np.ones(n) if weights is None else weights * (n / weights.sum())


def typical_slope(logits: Array, labels: Indices, weights: Array, *, units: int | None = None) -> float:
    """Size that slopes have in the unit of these logits: 1/T, or one standard deviation where no T is best.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,)
    units : int, optional
        How many rows, or groups of rows, are independent of each other; without it, all rows.
    """
    fit = fit_temperature(logits, labels, weights=weights, units=units)
    if fit.status != "no_signal":
        return 1.0 / fit.calibrator.temperature
    return one_deviation(logits, weights)


def one_deviation(logits: Array, weights: Array) -> float:
    """Slope that makes the logits (N, K) of weighted rows spread by one around the mean of their row.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    weights : ndarray of shape (N,)

    Examples
    --------
    >>> one_deviation(np.array([[2.0, -2.0], [4.0, 0.0]]), np.ones(2))
    0.5
    """
    largest = float(np.abs(logits).max())  # divided out, so that the largest floats have a square
    centred = logits / (largest or 1.0)
    centred -= centred.mean(axis=1, keepdims=True)
    spread = largest * float(np.sqrt(np.average(np.mean(centred**2, axis=1), weights=weights)))
    return 1.0 / spread if spread > 1e-12 * largest else 1.0


def fit_affine(
    logits: Array,
    labels: Indices,
    *,
    weights: Array,
    unit: float,
    centre: Array,
    ridge: Array,
    bias_ridge: float | None = None,
) -> tuple[Array, Array]:
    """Slope and bias of least regularised log loss; see `AffineLoss`.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,)
        With mean one.
    unit : float
        Slope, in the unit of the logits, that ``centre`` is measured in.
    centre, ridge : ndarray of shape (), (K,) or (K, K)
        What the slopes are pulled to, and how strongly.
    bias_ridge : float, optional
        How strongly biases are pulled to zero; by default 1 / n, which is worth one row: a strength that grew with K
        would forbid many classes to correct their prevalence.

    Returns
    -------
    slope : ndarray of the shape of ``centre``
    bias : ndarray of shape (K,)
    """
    n, held = len(logits), normaliser(logits, centre)
    loss = AffineLoss(logits, labels, weights / n, held, unit, centre, ridge, bias_ridge or 1.0 / n)
    slope, bias = loss.split(minimise(loss.evaluate, loss.start(), loss.curvature()))
    return unit * slope, bias


def normaliser(logits: Array, slope: Array) -> Array:
    """What `AffineLoss` takes off every row of (N, K) logits, shape (N,), where slopes have this shape."""
    return logits.max(axis=1) if slope.ndim == 0 else _log_totals(logits)


@dataclass(frozen=True, slots=True)
class AffineLoss:
    r"""Mean log loss after scaling, plus ridge penalties.

    .. math:: L(A, b) = \sum_n w_n [\operatorname{lse}(s_n) - s_{n y_n}]
              + \tfrac12 \sum ρ (A/u - C)^2 + \tfrac{λ}{2} \sum_k b_k^2

    Slopes are measured in the unit u, so that the penalties mean the same for logits of any size. Biases are taken
    less their mean, since a constant changes nothing. A class without rows keeps bias zero and its slope at C: the
    rows hold no information about it, and the likelihood alone would push it to infinity.

    Attributes
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,)
        Sum to one.
    normaliser : ndarray of shape (N,)
        Taken off every row: the log of its sum of exponentials, kept since it would cost every pass a second
        exponential; for one slope the largest logit, which is as good and loses no digits of tiny logits.
    unit : float
        u.
    centre, ridge : ndarray of shape (), (K,) or (K, K)
        C and ρ.
    bias_ridge : float
        λ.
    occurring : bool
        Whether classes without rows are left out of the sum over classes, as if they were impossible.
    """

    logits: Array
    labels: Indices
    weights: Array
    normaliser: Array
    unit: float
    centre: Array
    ridge: Array
    bias_ridge: float
    occurring: bool = False

    def split(self, point: Array) -> tuple[Array, Array]:
        """Slope, and bias less its mean, that one vector of parameters stands for."""
        size = self.centre.size
        return point[:size].reshape(self.centre.shape), self.centred(point[size:])

    def centred(self, bias: Array) -> Array:
        """Biases that sum to zero, that of an absent class being zero; its own transpose."""
        present = self.present()
        return np.where(present, bias - bias[present].mean(), 0.0)

    def present(self) -> Flags:
        """Classes that have rows."""
        return np.bincount(self.labels, self.weights, self.logits.shape[1]) > 0.0

    def scores(self, rows: slice, point: Array) -> tuple[Array, Array]:
        """Log-probabilities times u of some rows, and their logits after scaling."""
        before = self.unit * (self.logits[rows] - self.normaliser[rows, None])
        after = affine(before, *self.split(point))
        if self.occurring:
            after[:, ~self.present()] = -np.inf
        return before, after

    def chunks(self, point: Array) -> Iterator[tuple[slice, Array, Array, Array]]:
        """Slices of the rows with their log-probabilities times u, their probabilities after scaling, their loss."""
        for rows in chunks_of(self.logits):
            before, p = self.scores(rows, point)
            p -= p.max(axis=1, keepdims=True)
            own = p[np.arange(len(p)), self.labels[rows]]
            np.exp(p, out=p)
            total = p.sum(axis=1)
            p /= total[:, None]
            yield rows, before, p, np.log(total) - own

    def evaluate(self, point: Array) -> tuple[float, Array]:
        """Loss and gradient."""
        by_slope, by_bias = np.zeros(self.centre.shape), np.zeros(self.logits.shape[1])
        away = point - self.start()
        pull = self.penalty() * away
        value = 0.5 * float(pull @ away)
        for rows, before, p, loss in self.chunks(point):
            value += float(self.weights[rows] @ loss)
            p[np.arange(len(p)), self.labels[rows]] -= 1.0
            error = self.weights[rows, None] * p
            by_slope = by_slope + _contract(error, before, self.centre.ndim)
            by_bias = by_bias + error.sum(axis=0)
        return value, pull + np.concatenate([self.informed(by_slope).ravel(), self.centred(by_bias)])

    def start(self) -> Array:
        """Where the penalties pull."""
        return np.concatenate([self.centre.ravel(), np.zeros(self.logits.shape[1])])

    def penalty(self) -> Array:
        """Strength with which they pull."""
        return np.concatenate([self.ridge.ravel(), np.full(self.logits.shape[1], self.bias_ridge)])

    def informed(self, by_slope: Array) -> Array:
        """Gradient in the slopes without those of absent classes."""
        return by_slope if by_slope.ndim == 0 else (by_slope.T * self.present()).T

    def curvature(self, point: Array | None = None) -> Array:
        """Diagonal of the Hessian at a point, or at the start, or a little more."""
        by_slope, by_bias = np.zeros(self.centre.shape), np.zeros(self.logits.shape[1])
        for rows, before, p, _ in self.chunks(self.start() if point is None else point):
            spread = self.weights[rows, None] * p * (1.0 - p)
            by_slope = by_slope + _contract(spread, before**2, self.centre.ndim)
            by_bias = by_bias + spread.sum(axis=0)
        return self.penalty() + np.concatenate([by_slope.ravel(), by_bias])


def _log_totals(logits: Array) -> Array:
    return np.concatenate([logsumexp(logits[rows]) for rows in chunks_of(logits)])


def chunks_of(logits: Array) -> Iterator[slice]:
    """Slices of the rows whose temporaries stay in the cache."""
    step = max(1, CHUNK_CELLS // logits.shape[1])
    yield from (slice(start, start + step) for start in range(0, len(logits), step))


def _contract(left: Array, right: Array, ndim: int) -> Array:
    if ndim == 2:
        return left.T @ right
    by_class = np.einsum("nk,nk->k", left, right)
    return by_class if ndim else by_class.sum()
