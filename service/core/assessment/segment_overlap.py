"""How well predicted segments of a sequence lie over the true ones."""

import numpy as np

from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Indices


def segment_overlap_score(labels: Indices, predicted: Indices) -> float:
    r"""SOV'99, the segment overlap of all sequences together, between 0 and 1.

    .. math:: \mathrm{SOV} = \frac1N \sum_{(s, t)} |s| \, \frac{|s \cap t| + \delta(s, t)}{|s \cup t|}, \qquad
              \delta = \min\left(|s \cup t| - |s \cap t|,\ |s \cap t|,\
              \left\lfloor \tfrac{|s|}{2} \right\rfloor, \left\lfloor \tfrac{|t|}{2} \right\rfloor\right)

    over all pairs of a true segment s and a predicted segment t of the same class that share a position.
    N counts the positions of s once for every such pair, and once where a true segment has no partner: a segment that
    is predicted in pieces costs more than one whose ends are a little off. Accuracy sees no difference.

    Parameters
    ----------
    labels, predicted : ndarray of shape (N, L)
        Classes; -1 in ``labels`` behind the end of a sequence, where ``predicted`` is never read.

    Examples
    --------
    A helix of ten, found in five pieces or in one of five:

    >>> true = np.array([[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]])
    >>> pieces = np.array([[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]])
    >>> shorter = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0]])
    >>> round(segment_overlap_score(true, pieces), 3), round(segment_overlap_score(true, shorter), 3)
    (0.125, 0.632)

    References
    ----------
    Zemla, Venclovas, Fidelis and Rost (1999), *A Modified Definition of Sov, a Segment-Based Measure for Protein
    Secondary Structure Prediction Assessment*, Proteins 34.
    """
    present = labels != PADDING
    begins = np.broadcast_to(np.arange(labels.shape[1]) == 0, labels.shape)[present]
    y, p = labels[present], predicted[present]
    (true, starts, ends), (own, own_starts, own_ends) = _segments(y, begins), _segments(p, begins)
    (i, j), shared = np.unique(np.stack([true, own])[:, y == p], axis=1, return_counts=True)
    size, own_size = (ends - starts)[i], (own_ends - own_starts)[j]
    union = size + own_size - shared
    allowance = np.minimum.reduce([union - shared, shared, size // 2, own_size // 2])
    alone = np.delete(ends - starts, i).sum()
    return float((size * (shared + allowance) / union).sum() / (size.sum() + alone))


def _segments(labels: Indices, begins: Array) -> tuple[Indices, Indices, Indices]:
    """Segment of every position, and where each starts and ends."""
    starts = begins | np.concatenate([[True], labels[1:] != labels[:-1]])
    edges = np.flatnonzero(np.append(starts, True))
    return np.cumsum(starts) - 1, edges[:-1], edges[1:]
