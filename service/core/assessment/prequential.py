r"""Prequential code length: what labels cost a coder that learns its calibrator from the rows before.

Rows are coded in blocks. A calibrator is fitted to the rows of all earlier blocks and codes the next one, so that no
label helps to code itself. What a calibrator has to learn is in the length: many parameters cost many bits before they
save any.

.. math:: L = \sum_b \sum_{i \in b} -\log_2 q_{< b}(y_i \mid x_i)
"""

from typing import Final

import numpy as np

from service.core.assessment.coding import code_lengths
from service.core.calibration import Calibrator, Map
from service.core.calibration.identity import Identity
from service.core.calibration.mixture import fit_mixed
from service.core.numerics import Array, Indices

FIRST: Final = 16
"""Rows, or groups of rows, of the first block, which nothing is learned for."""


def block_ends(units: int, *, first: int = FIRST) -> tuple[int, ...]:
    """How many units lie in the first block, the first two, and so on: each block doubles what is known.

    Parameters
    ----------
    units : int
        Rows, or groups of rows.
    first : int

    Examples
    --------
    >>> block_ends(100)
    (16, 32, 64, 100)
    """
    ends, end = [], first
    while end < units:
        ends.append(end)
        end *= 2
    return (*ends, units)


def doubling_blocks(n: int, *, groups: Indices | None = None, seed: int = 0, first: int = FIRST) -> Indices:
    """Block of every row in a seeded order, shape (N,); rows of a group share one.

    Parameters
    ----------
    n : int
    groups : ndarray of shape (N,), optional
    seed : int
    first : int
        Rows, or groups, of the first block.

    Examples
    --------
    >>> np.bincount(doubling_blocks(100)).tolist()
    [16, 16, 32, 36]
    """
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(unit.max()) + 1
    place = np.random.default_rng(seed).permutation(units)
    found: Indices = np.searchsorted(block_ends(units, first=first), place, side="right")
    return found[unit]


def prequential_code_lengths(
    method: type[Calibrator], logits: Array, labels: Indices, *, blocks: Indices, groups: Indices | None = None
) -> Array:
    """Bits of every row's label by the fit to all earlier blocks, shape (N,).

    While the rows before show fewer than two classes, nothing can be learned of them and the classifier's own
    probabilities code the block. Fits on separable rows are mixed with the uniform distribution, so that every length
    is finite.

    Parameters
    ----------
    method : Calibrator type
    logits : ndarray of shape (N, K)
        What the calibrator sees: raw, or after the inverse of the training loss.
    labels : ndarray of shape (N,)
    blocks : ndarray of shape (N,)
        0..B-1, as `doubling_blocks`.
    groups : ndarray of shape (N,), optional
        Rows of a group are one unit to ridges and mixtures.

    Examples
    --------
    >>> from service.core.calibration.temperature import Temperature
    >>> logits, labels = np.tile([[8.0, 0.0]], (800, 1)), (np.arange(800) % 4 == 0).astype(np.intp)
    >>> lengths = prequential_code_lengths(Temperature, logits, labels, blocks=np.arange(800) // 400)
    >>> round(float(lengths[:400].mean()), 3), round(float(lengths[400:].mean()), 3)  # before T = 8 / log(3), and after
    (2.886, 0.811)

    References
    ----------
    Dawid (1984), *Statistical Theory: The Prequential Approach*, JRSS A 147.
    Blier & Ollivier (2018), *The Description Length of Deep Learning Models*, NeurIPS.
    """
    lengths = np.empty(len(labels))
    for block in np.unique(blocks):
        own, before = blocks == block, blocks < block
        units = None if groups is None else groups[before]
        learned = _learned(method, logits[before], labels[before], groups=units)
        lengths[own] = code_lengths(learned.apply(logits[own]), labels[own])
    return lengths


def _learned(method: type[Calibrator], logits: Array, labels: Indices, *, groups: Indices | None) -> Map:
    if len(np.unique(labels)) < 2:
        return Identity()
    units = None if groups is None else len(np.unique(groups))
    return fit_mixed(method, logits, labels, units=units).served
