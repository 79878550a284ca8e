"""Prequential code length: each block of labels is coded with what was learned from the blocks before it."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from service.core.assessment.coding import code_lengths
from service.core.numerics import Array
from service.training.example_sets import Examples, Values

Predict = Callable[[Values], Array]
"""From inputs to log-probabilities of shape (N, K)."""


def prequential_code_length(
    fit: Callable[[Examples], Predict], rows: Examples, *, classes: int, first: int = 64, seed: int = 0
) -> Array:
    r"""Bits of every row's label when each block is coded with a classifier that was trained on all blocks before it.

    .. math:: L = n_1 \log_2 K - \sum_{b > 1} \sum_{i \in b} \log_2 q_{<b}(y_i \mid x_i)

    It counts what the model costs to learn as well as what it leaves over: the description length of the labels by
    the method, not by one fitted model.

    Parameters
    ----------
    fit : callable
        Trains on the rows so far, and returns what predicts.
    rows : Examples
    classes : int
    first : int
        Rows of the first block, which are coded with all classes alike; every block ends at twice the rows of the
        one before.
    seed : int
        Of the order of the rows.

    Returns
    -------
    ndarray of shape (N,)
        In that order.

    References
    ----------
    Dawid (1984), *Present Position and Potential Developments: The Prequential Approach*, JRSS A 147.
    Blier & Ollivier (2018), *The Description Length of Deep Learning Models*, NeurIPS.
    """
    shuffled = rows.take(np.random.default_rng(seed).permutation(len(rows)))
    bits = [np.full(min(first, len(rows)), math.log2(classes))]
    for start, end in _blocks(len(rows), first):
        block = shuffled.take(np.arange(start, end))
        bits.append(code_lengths(fit(shuffled.take(np.arange(start)))(block.inputs), block.labels))
    return np.concatenate(bits)


def _blocks(rows: int, first: int) -> Iterator[Sequence[int]]:
    start = first
    while start < rows:
        yield start, min(2 * start, rows)
        start *= 2
