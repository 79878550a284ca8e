"""Log loss as code length: how many bits the labels cost once the model is known.

A model that assigns probability q to the outcome lets an arithmetic coder write it in -log2 q bits. The length counts
the labels alone; what the model itself costs to write down is no part of it.
"""

import math

import numpy as np

from service.core.numerics import Array, Indices


def code_lengths(log_probs: Array, labels: Indices) -> Array:
    r"""Bits of every row's label, :math:`-\log_2 p_{i y_i}`, shape (N,).

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)

    Examples
    --------
    >>> code_lengths(np.log([[0.5, 0.5], [0.25, 0.75]]), np.array([1, 0]))
    array([1., 2.])
    """
    return -log_probs[np.arange(len(labels)), labels] / math.log(2.0)


def cumulative_prior_code_length(labels: Indices, *, classes: int) -> Array:
    r"""The line to stay under: bits of the first i labels for a coder that sees no input and learns as it goes.

    .. math:: L_i = \sum_{j \le i} -\log_2 \frac{n_{y_j}(j) + 1/2}{j - 1 + K/2}

    where :math:`n_k(j)` counts class k before row j. What it learns costs it about
    :math:`\frac{K-1}{2} \log_2 n` bits.

    Parameters
    ----------
    labels : ndarray of shape (N,)
    classes : int

    Examples
    --------
    >>> cumulative_prior_code_length(np.array([0, 0, 1]), classes=2).round(4)  # 1/2, 3/4, 1/6
    array([1.   , 1.415, 4.   ])

    References
    ----------
    Krichevsky & Trofimov (1981), *The Performance of Universal Encoding*, IEEE Transactions on Information Theory 27.
    """
    rows = np.arange(len(labels))
    seen = _earlier_occurrences(labels)
    return np.cumsum(np.log2((rows + 0.5 * classes) / (seen + 0.5)))


def bits_by_part(log_probs: Array, labels: Indices, *, parts: int = 10) -> Array:
    """Bits per label in consecutive parts of the rows, of as equal numbers as can be: where it rises, the model drifts.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
        In the order in which the rows came.
    labels : ndarray of shape (N,)
    parts : int
        At most N of them are made.

    Returns
    -------
    ndarray of shape (parts,)

    Examples
    --------
    >>> bits_by_part(np.log([[0.5, 0.5], [0.25, 0.75]]), np.array([1, 0]))
    array([1., 2.])
    """
    pieces = np.array_split(code_lengths(log_probs, labels), min(parts, len(labels)))
    return np.array([lengths.mean() for lengths in pieces])


def bits_per_label(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    """Mean code length: log loss in bits, log2 K for a model that knows nothing.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> bits_per_label(np.log(np.full((3, 8), 0.125)), np.array([0, 3, 7]))
    3.0
    """
    return float(np.average(code_lengths(log_probs, labels), weights=weights))


def perplexity(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    r"""Size of the set one might as well draw the label from, :math:`2^{\text{bits per label}}`.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> round(perplexity(np.log(np.full((3, 8), 0.125)), np.array([0, 3, 7])), 12)
    8.0
    """
    with np.errstate(over="ignore"):  # beyond 1024 bits it is infinite, which is the answer
        return float(np.exp2(np.float64(bits_per_label(log_probs, labels, weights=weights))))


def prior_bits(labels: Indices, *, weights: Array | None = None) -> float:
    r"""Entropy of the class frequencies, :math:`-\sum_k \hat\pi_k \log_2 \hat\pi_k`: what a constant must pay.

    Parameters
    ----------
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Examples
    --------
    >>> prior_bits(np.array([0, 0, 1, 2]))
    1.5
    """
    counts = np.bincount(labels, weights)
    shares = counts[counts > 0] / counts.sum()
    return float(shares @ -np.log2(shares))


def compression_score(log_probs: Array, labels: Indices, *, weights: Array | None = None) -> float:
    r"""Share of the labels' bits that the model saves against the class frequencies alone.

    .. math:: 1 - \frac{\text{bits per label}}{H(\hat\pi)}

    1 for a model that knows every label, 0 for the frequencies of these very labels, negative below that.

    Parameters
    ----------
    log_probs : ndarray of shape (N, K)
    labels : ndarray of shape (N,)
    weights : ndarray of shape (N,), optional

    Returns
    -------
    float
        ``nan`` when all labels are of one class: there is nothing to save.

    Examples
    --------
    >>> compression_score(np.log([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1]))
    0.0

    References
    ----------
    McFadden (1974), *Conditional Logit Analysis of Qualitative Choice Behavior*: his likelihood-ratio index.
    """
    baseline = prior_bits(labels, weights=weights)
    return 1.0 - bits_per_label(log_probs, labels, weights=weights) / baseline if baseline else math.nan


def _earlier_occurrences(labels: Indices) -> Indices:
    """How often a row's class occurred before it: its rank in a stable sort, less where its class begins there."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = counts.cumsum() - counts
    seen = np.empty(len(labels), dtype=np.intp)
    seen[order] = np.arange(len(labels))
    return seen - starts[labels]
