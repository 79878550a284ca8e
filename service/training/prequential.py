"""Prequential code length: each block of labels is coded with what was learned from the blocks before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from service.core.assessment.coding import code_lengths, cumulative_prior_code_length
from service.core.numerics import Array, Indices
from service.training.example_sets import Examples, Labels, Values
from service.training.failures import TrainingFailed

Predict = Callable[[Values], Array]
"""From inputs to log-probabilities of shape (N, K)."""

Fit = Callable[[Examples], Mapping[str, Predict]]
"""From the rows so far to what predicts, by name: one training may be read in several ways."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeLength:
    """Bits of labels that were coded block by block, in one order.

    Attributes
    ----------
    bits : ndarray of shape (N,)
        Of every label, in that order.
    ends : ndarray of shape (B,)
        Labels up to the end of each block.
    """

    bits: Array
    ends: Indices

    @property
    def bits_per_label(self) -> float:
        """Mean over all labels, those of the first block among them."""
        return float(self.bits.mean())

    @property
    def bits_by_block(self) -> Array:
        """Bits per label of every block, shape (B,): a learning curve."""
        starts = np.concatenate([[0], self.ends[:-1]])
        return np.asarray(np.add.reduceat(self.bits, starts) / (self.ends - starts))


def prequential_code_length(
    fit: Fit, rows: Examples, *, classes: int, first: int = 64, least: int = 2, seed: int = 0
) -> dict[str, CodeLength]:
    r"""Bits of every label, each block coded with a classifier that was trained on all blocks before it.

    .. math:: L = L_1 - \sum_{b > 1} \sum_{i \in b} \log_2 q_{<b}(y_i \mid x_i)

    It counts what a method has to learn as well as what it leaves unexplained: the description length of the labels by
    the method, not by one fitted model. The first block costs what `cumulative_prior_code_length` says: its coder sees
    no input and learns the frequencies.

    What is coded with must be a posterior. The outputs of a loss that is not proper are none until the loss is undone;
    raw, they are charged for the loss and not for what was learned.

    Parameters
    ----------
    fit : callable
        Trains on the rows so far, and returns predictors by name, the same names each time.
    rows : Examples
        Of one class each.
    classes : int
    first : int
        Rows of the first block; every other block doubles the rows. No group of rows is in two blocks, so a block
        may be longer by a part of a group.
    least : int
        Rows that `fit` needs of every class: the first block grows until it has them.
    seed : int
        Of the order of the groups.

    Returns
    -------
    dict of str to CodeLength
        By the names that `fit` returns.

    Raises
    ------
    TrainingFailed
        If only all rows together have every class often enough.

    References
    ----------
    Rissanen (1984), *Universal Coding, Information, Prediction, and Estimation*, IEEE Trans. Information Theory 30.
    Dawid (1984), *Statistical Theory: The Prequential Approach*, Journal of the Royal Statistical Society A 147.
    Blier & Ollivier (2018), *The Description Length of Deep Learning Models*, NeurIPS, section 3.3.
    """
    order, whole = _grouped_order(rows, seed)
    shuffled = rows.take(order)
    ends = _block_ends(whole, first, shuffled.labels, np.full(classes, least))
    blocks = [_coded(fit, shuffled, start, end) for start, end in pairwise(ends)]
    blind = np.diff(cumulative_prior_code_length(shuffled.labels[: ends[0]], classes=classes), prepend=0.0)
    return {
        name: CodeLength(np.concatenate([blind, *(block[name] for block in blocks)]), np.array(ends))
        for name in blocks[0]
    }


def _grouped_order(rows: Examples, seed: int) -> tuple[Indices, Indices]:
    """A random order in which the rows of a group are neighbours, and where its groups end."""
    names = np.arange(len(rows)) if rows.groups is None else rows.groups
    _, members = np.unique(names, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(members.max() + 1)[members]
    order = np.argsort(rank, kind="stable")
    return order, np.flatnonzero(np.diff(rank[order], append=-1)) + 1


def _block_ends(whole: Indices, first: int, labels: Labels, least: Indices) -> list[int]:
    """Ends of blocks that double the rows, the first of them where every class has occurred often enough."""
    ends = [int(whole[np.searchsorted(whole, min(first, len(labels)))])]
    while ends[-1] < len(labels):
        ends.append(int(whole[np.searchsorted(whole, min(2 * ends[-1], len(labels)))]))
    enough = [end for end in ends if (np.bincount(labels[:end], minlength=len(least)) >= least).all()]
    if len(enough) < 2:
        raise TrainingFailed("no block of rows has every class often enough before it; there is nothing to learn from")
    return enough


def _coded(fit: Fit, rows: Examples, start: int, end: int) -> dict[str, Array]:
    """Bits of one block by name."""
    block = rows.take(np.arange(start, end))
    predictors = fit(rows.take(np.arange(start)))
    return {name: code_lengths(predict(block.inputs), block.labels) for name, predict in predictors.items()}
