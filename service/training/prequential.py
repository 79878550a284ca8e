"""Prequential code length: each block of labels is coded with what was learned from the blocks before it.

`core.assessment.prequential` compares calibrators behind one classifier; here the classifier itself is trained anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from service.core.assessment.coding import code_lengths, cumulative_prior_code_length
from service.core.assessment.prequential import doubling_blocks
from service.core.numerics import Array, Indices
from service.training.example_sets import Examples, Values
from service.training.failures import TrainingFailed

Predict = Callable[[Values], Array]
"""From inputs to log-probabilities of shape (N, K)."""

Fit = Callable[[Examples], Mapping[str, Predict]]
"""From the rows so far to what predicts, by name: one training may be read in several ways."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeLength:
    """Bits of labels that were coded block by block.

    Attributes
    ----------
    bits : ndarray of shape (N,)
        Of every row's label.
    blocks : ndarray of shape (N,)
        Block of every row, from 0.
    """

    bits: Array
    blocks: Indices

    @property
    def bits_per_label(self) -> float:
        """Mean over all labels, those of the first block among them."""
        return float(self.bits.mean())

    @property
    def bits_by_block(self) -> Array:
        """Bits per label of every block, shape (B,): a learning curve."""
        return np.asarray(np.bincount(self.blocks, self.bits) / np.bincount(self.blocks))


def prequential_code_length(
    fit: Fit, rows: Examples, *, classes: int, first: int = 64, least: int = 2, seed: int = 0
) -> dict[str, CodeLength]:
    r"""Bits of every label, each block coded with a classifier that was trained on all blocks before it.

    .. math:: L = L_0 - \sum_{b > 0} \sum_{i \in b} \log_2 q_{<b}(y_i \mid x_i)

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
        Rows, or groups of rows, of the first block; every other block doubles what is known. No group is in two blocks.
    least : int
        Rows that `fit` needs of every class: the first block grows until it has them.
    seed : int
        Of the order of the rows, or groups.

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
    drawn = doubling_blocks(len(rows), groups=rows.groups, seed=seed, first=first)
    blocks = _with_learnable_first(drawn, rows.labels, np.full(classes, least))
    blind = np.diff(cumulative_prior_code_length(rows.labels[blocks == 0], classes=classes), prepend=0.0)
    later = [_coded(fit, rows, blocks, block) for block in range(1, blocks.max() + 1)]
    return {name: CodeLength(_placed(blocks, [blind, *(own[name] for own in later)]), blocks) for name in later[0]}


def _with_learnable_first(blocks: Indices, labels: Indices, least: Indices) -> Indices:
    """The blocks, as many of them joined to the first as it takes to see every class often enough."""
    for last in range(blocks.max()):
        if (np.bincount(labels[blocks <= last], minlength=len(least)) >= least).all():
            return np.maximum(blocks - last, 0)
    raise TrainingFailed("no block of rows has every class often enough before it; there is nothing to learn from")


def _coded(fit: Fit, rows: Examples, blocks: Indices, block: int) -> dict[str, Array]:
    """Bits of one block by name."""
    own, predictors = rows.take(blocks == block), fit(rows.take(blocks < block))
    return {name: code_lengths(predict(own.inputs), own.labels) for name, predict in predictors.items()}


def _placed(blocks: Indices, parts: list[Array]) -> Array:
    """Bits of each block, at the places of its rows."""
    bits = np.empty(len(blocks))
    for block, part in enumerate(parts):
        bits[blocks == block] = part
    return bits
