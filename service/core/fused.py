"""Stages A and C of the commonest chain in one sweep: nll of raw logits, then softmax at a temperature.

The formulas are those of `Nll.score` and `Temperature.apply`, which the tests compare with. What is shared here is the
work: the rows' largest logits are found and taken away once, every pass is in place, and probabilities come from the
exponentials that their normaliser needed anyway. Two passes of exponentials remain, and are most of the time: NumPy
takes 5 ns for one in float64 where the processor has no AVX-512, 1.3 ns in float32.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Indices

SHORT_ROWS: Final = 32  # NumPy reduces short rows one call each; classes first, it reduces all rows at once
BLOCK_CELLS: Final = 1 << 17  # so that a block's temporaries stay in the cache between passes
SHORT_BLOCK_CELLS: Final = 1 << 15  # classes first there are more of them, and wider


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax of N rows, with the parts that OOD scores share.

    Attributes
    ----------
    top : ndarray of shape (N,)
        Largest raw logit.
    nll : ndarray of shape (N,)
        Negative log-likelihood of the predicted class, of the raw logits; their log-sum-exp is ``top + nll``.
    log_probs, probabilities : ndarray of shape (N, K)
        Of the logits divided by the temperature.
    """

    top: Array
    nll: Array
    log_probs: Array
    probabilities: Array


def softmax(logits: Array, *, temperature: float) -> Softmax:
    r"""Predicted class' nll at T = 1, and log-probabilities and probabilities at T.

    .. math:: \log p_k = z_k / T - \log \sum_l e^{z_l / T}

    Parameters
    ----------
    logits : ndarray of shape (N, K)
        Finite; of the type that `width` names.
    temperature : float

    Examples
    --------
    >>> found = softmax(np.array([[0.0, 2.0], [0.0, 0.0]]), temperature=2.0)
    >>> found.nll.round(4), found.probabilities.round(4)
    (array([0.1269, 0.6931]), array([[0.2689, 0.7311],
           [0.5   , 0.5   ]]))
    """
    n, k = logits.shape
    short = k <= SHORT_ROWS
    shape, order = ((k, n), np.transpose) if short else ((n, k), np.asarray)
    top, nll = np.empty((2, n), logits.dtype)
    log_probs, probabilities = np.empty((2, *shape), logits.dtype)
    found = Softmax(top, nll, log_probs, probabilities)
    sweep, cells = (_classes_first, SHORT_BLOCK_CELLS) if short else (_rows_first, BLOCK_CELLS)
    for start in range(0, n, step := max(1, cells // k)):
        sweep(logits, found, slice(start, start + step), logits.dtype.type(temperature))
    return Softmax(top, nll, order(log_probs), order(probabilities))


def _classes_first(logits: Array, out: Softmax, rows: slice, temperature: float) -> None:
    log_probs, terms, top = out.log_probs[:, rows], out.probabilities[:, rows], out.top[rows]
    np.copyto(log_probs, logits[rows].T)
    np.maximum.reduce(log_probs, axis=0, out=top)
    log_probs -= top
    others = _others(log_probs)
    rest = _rest_of_columns(log_probs, terms, others)
    np.log1p(rest, out=out.nll[rows])
    log_probs /= temperature
    rest = _rest_of_columns(log_probs, terms, others)
    log_probs -= np.log1p(rest)
    terms *= 1.0 / (1.0 + rest)


def _others(shifted: Array) -> Array:
    # Ones but for one largest class of every row: a product is quicker than assigning by a mask.
    k, n = shifted.shape
    others = shifted != 0.0
    if np.count_nonzero(others) < (k - 1) * n:  # where several classes are largest, all but one belong to the rest
        others = np.arange(k)[:, None] != others.argmin(axis=0)
    return others.astype(shifted.dtype)


def _rest_of_columns(shifted: Array, terms: Array, others: Array) -> Array:
    np.exp(shifted, out=terms)
    return np.add.reduce(terms * others, axis=0)


def _rows_first(logits: Array, out: Softmax, rows: slice, temperature: float) -> None:
    block, log_probs, terms = logits[rows], out.log_probs[rows], out.probabilities[rows]
    at = np.arange(len(block)), block.argmax(axis=1)
    top = out.top[rows] = block[at]
    np.subtract(block, top[:, None], out=log_probs)
    rest = _rest_of_rows(log_probs, terms, at)
    np.log1p(rest, out=out.nll[rows])
    log_probs /= temperature
    rest = _rest_of_rows(log_probs, terms, at)
    log_probs -= np.log1p(rest)[:, None]
    terms[at] = 1.0
    terms *= (1.0 / (1.0 + rest))[:, None]


def _rest_of_rows(shifted: Array, terms: Array, top: tuple[Indices, Indices]) -> Array:
    np.exp(shifted, out=terms)
    terms[top] = 0.0
    return np.add.reduce(terms, axis=1)
