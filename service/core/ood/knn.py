"""k nearest neighbours: distance to the k-th nearest training row."""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from service.core.numerics import Array, Indices
from service.core.ood.features import spread
from service.core.state_checks import check_array, check_positive

BANK_BYTES: Final = 12 * 2**20
"""What the bank of training rows may take: `features.STATE_BYTES` less the most that all other scores need with 768
features and 1000 classes."""

NEIGHBOURS: Final = 50

_CHUNK: Final = 2**21  # distances held at a time, 16 MiB


@dataclass(frozen=True, slots=True)
class Knn:
    r"""Distance to the k-th nearest training row, among directions.

    .. math:: s(x) = \lVert u(x) - u(x_{(k)}) \rVert_2, \quad
        u(x) = \tilde x / \lVert \tilde x \rVert_2, \quad \tilde x = (x - \mu) / \sigma

    It assumes no shape of the classes. Of the paper's recipe it differs in the standardisation, without which the
    feature with the largest unit would be the only direction. Only direction counts: a row twice as far out looks
    the same, so pair it with `mahalanobis`. k is 50, and a tenth of the bank when there are fewer than 500 rows.

    Attributes
    ----------
    center, scale : ndarray of shape (F,)
        Mean and standard deviation of the features.
    bank : ndarray of shape (B, F)
        Directions of training rows in float32; drawn from all n, with a fixed seed, when these exceed `BANK_BYTES`.
    k : ndarray of shape ()

    References
    ----------
    Sun et al. (2022), *Out-of-Distribution Detection with Deep Nearest Neighbors*, ICML.
    """

    needs: ClassVar[str] = "features"
    stateful: ClassVar[bool] = True

    center: Array
    scale: Array
    bank: npt.NDArray[np.float32]
    k: Indices

    def __post_init__(self) -> None:
        (features,) = check_array("center", self.center, None).shape
        check_positive("scale", self.scale, features)
        rows = len(check_array("bank", self.bank, None, features))
        if int(check_array("k", self.k)) != self.k or not 1 <= self.k <= rows:
            raise ValueError(f"k must be a whole number from 1 to the {rows} rows of the bank")

    @classmethod
    def fit(cls, values: Array, labels: Indices, *, logits: Array | None = None) -> Self:
        """Directions of training rows.

        Parameters
        ----------
        values : ndarray of shape (N, F)
        labels, logits
            Not used.
        """
        del labels, logits
        center, scale = values.mean(axis=0), spread(values)
        size = min(len(values), max(1, BANK_BYTES // (4 * values.shape[1])))
        # Drawn: every second row could be all of one class.
        kept = np.sort(np.random.default_rng(0).permutation(len(values))[:size])
        bank = directions((values[kept] - center) / scale).astype(np.float32)
        return cls(center, scale, bank, np.array(min(NEIGHBOURS, -(-size // 10))))

    def score(self, values: Array) -> Array:
        """Distances, shape (N,), of rows of shape (N, F); brute force, a chunk of rows at a time.

        Examples
        --------
        >>> rows = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> fitted = Knn.fit(rows, np.zeros(6, dtype=np.intp))
        >>> fitted.score(np.array([[9.0, 0.0], [5.0**0.5, 1.0]])).round(6)
        array([0.      , 0.765367])
        """
        points, bank = directions((values - self.center) / self.scale), self.bank.astype(np.float64)
        rows = max(1, _CHUNK // len(bank))
        chunks = [_kth_distance(points[i : i + rows], bank, int(self.k)) for i in range(0, len(points), rows)]
        return np.concatenate(chunks) if chunks else np.empty(0)


def directions(points: Array) -> Array:
    """Points of shape (N, F) on the unit sphere; the origin stays where it is."""
    norm = np.sqrt(np.einsum("nf,nf->n", points, points))
    return points / np.where(norm > 0.0, norm, 1.0)[:, None]


def _kth_distance(points: Array, bank: Array, k: int) -> Array:
    squared = np.einsum("bf,bf->b", bank, bank) - 2.0 * points @ bank.T  # less |point|^2, which no rank needs
    kth = np.argpartition(squared, k - 1, axis=1)[:, k - 1]
    # Differences, not the squares above: those lose half the digits of a small distance.
    gap = points - bank[kth]
    return np.sqrt(np.einsum("nf,nf->n", gap, gap))
