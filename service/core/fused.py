"""Stages A and C of the commonest chain in one sweep: nll of raw logits, then softmax at a temperature.

The formulas are those of `Nll.score` and `Temperature.apply`, which the tests compare with. What is shared here is the
work: the rows' largest logits are found and taken away once, every pass is in place, and probabilities come from the
exponentials that their normaliser needed anyway.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.numerics import Array, Flags, Indices

FEW_CLASSES: Final = 16  # one row: Python's floats beat NumPy's calls up to here
SHORT_ROWS: Final = 32  # NumPy reduces short rows one call each; classes first, it reduces all rows at once
BLOCK_CELLS: Final = 1 << 16  # so that a block's temporaries stay in the cache between passes


@dataclass(frozen=True, slots=True)
class Softmax:
    """What `softmax` makes of N rows.

    Attributes
    ----------
    nll : ndarray of shape (N,)
        Negative log-likelihood of the predicted class, of the raw logits.
    log_probs, probabilities : ndarray of shape (N, K)
        Of the logits divided by the temperature.
    """

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
    if n == 1 and k <= FEW_CLASSES:
        nll, log_probs, probabilities = softmax_of_one(logits[0].tolist(), temperature=temperature)
        return Softmax(np.array([nll]), np.array([log_probs]), np.array([probabilities]))
    short = k <= SHORT_ROWS
    shape, order = ((k, n), np.transpose) if short else ((n, k), np.asarray)
    found = Softmax(np.empty(n, logits.dtype), np.empty(shape, logits.dtype), np.empty(shape, logits.dtype))
    sweep = _classes_first if short else _rows_first
    for start in range(0, n, step := max(1, BLOCK_CELLS // k)):
        sweep(logits, found, slice(start, start + step), logits.dtype.type(temperature))
    return Softmax(found.nll, order(found.log_probs), order(found.probabilities))


def softmax_of_one(logits: list[float], *, temperature: float) -> tuple[float, list[float], list[float]]:
    """`softmax` of one row of few classes: nll, log-probabilities, probabilities."""
    exp, top = math.exp, max(logits)
    shifted = [z - top for z in logits]
    at = shifted.index(0.0)
    # The largest term is left out of the sum, as in `top_and_rest`: beside its one, small ones would be lost.
    others = [exp(d) for d in shifted]
    others[at] = 0.0
    nll = math.log1p(sum(others))
    scaled = [d / temperature for d in shifted]
    terms = [exp(d) for d in scaled]
    terms[at] = 0.0
    rest = sum(terms)
    terms[at] = 1.0
    log_total, total = math.log1p(rest), 1.0 + rest
    return nll, [d - log_total for d in scaled], [e / total for e in terms]


def _classes_first(logits: Array, out: Softmax, rows: slice, temperature: float) -> None:
    log_probs, terms = out.log_probs[:, rows], out.probabilities[:, rows]
    np.copyto(log_probs, logits[rows].T)
    log_probs -= np.maximum.reduce(log_probs, axis=0)
    top = log_probs == 0.0
    rest = _rest_of_columns(log_probs, terms, top)
    np.log1p(rest, out=out.nll[rows])
    log_probs /= temperature
    rest = _rest_of_columns(log_probs, terms, top)
    log_probs -= np.log1p(rest)
    np.copyto(terms, 1.0, where=top)
    terms *= 1.0 / (1.0 + rest)


def _rest_of_columns(shifted: Array, terms: Array, top: Flags) -> Array:
    np.exp(shifted, out=terms)
    np.copyto(terms, 0.0, where=top)
    rest: Array = np.add.reduce(terms, axis=0)
    if np.count_nonzero(top) > len(rest):  # where several classes are largest, all but one belong to the rest
        rest += np.add.reduce(top, axis=0) - 1
    return rest


def _rows_first(logits: Array, out: Softmax, rows: slice, temperature: float) -> None:
    block, log_probs, terms = logits[rows], out.log_probs[rows], out.probabilities[rows]
    top = np.arange(len(block)), block.argmax(axis=1)
    np.subtract(block, block[top][:, None], out=log_probs)
    rest = _rest_of_rows(log_probs, terms, top)
    np.log1p(rest, out=out.nll[rows])
    log_probs /= temperature
    rest = _rest_of_rows(log_probs, terms, top)
    log_probs -= np.log1p(rest)[:, None]
    terms[top] = 1.0
    terms *= (1.0 / (1.0 + rest))[:, None]


def _rest_of_rows(shifted: Array, terms: Array, top: tuple[Indices, Indices]) -> Array:
    np.exp(shifted, out=terms)
    terms[top] = 0.0
    return np.add.reduce(terms, axis=1)
