"""A detector: an OOD score with its thresholds, p-values and flags."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.core import conformal, mondrian
from service.core.numerics import Array, Flags, Indices
from service.core.ood import Score
from service.core.ood.sweep import ByProduct, by_product


@dataclass(frozen=True)
class Detector:
    """An OOD score; with its calibration scores it also has a threshold, p-values and flags.

    Attributes
    ----------
    name : str
    score : Score
    calibration : Reference or None
        None in an uncalibrated version.
    threshold : float or None
    gated : bool
        Whether its flag counts for the row.
    by_class : ByClass or None
        References and thresholds within every predicted class, in place of those of all rows.
    tie : float
        With ``by_class``: classes whose logits are within this of the row's largest, in units of 1 + the size of
        the row's logits, are tied for the predicted one. The row is then compared with the most lenient of them.
    """

    name: str
    score: Score
    calibration: conformal.Reference | None
    threshold: float | None
    gated: bool
    by_class: mondrian.ByClass | None = None
    tie: float = 0.0

    @cached_property
    def swept(self) -> ByProduct | None:
        """`by_product` of the score."""
        return by_product(self.score)

    def thresholds(self, logits: Array) -> Array | None:
        """Threshold that applies to every row of logits (N, K), shape (N,); None in an uncalibrated version."""
        if self.threshold is None or self.by_class is None:
            return None if self.threshold is None else np.full(len(logits), self.threshold)
        return np.where(tied_classes(logits, self.tie), self.by_class.thresholds, -np.inf).max(axis=1)

    def p_values(self, scores: Array, logits: Array) -> Array | None:
        """p-value of every row, shape (N,); None in an uncalibrated version."""
        if self.calibration is None or self.by_class is None:
            return None if self.calibration is None else conformal.p_values(self.calibration, scores)
        tied, p = tied_classes(logits, self.tie), np.zeros(len(scores))
        for k in np.flatnonzero(tied.any(axis=0)):
            rows = tied[:, k]
            p[rows] = np.maximum(p[rows], conformal.p_values(self.by_class.references[k], scores[rows]))
        return p


def predicted_class(logits: Array) -> Indices:
    """Class that thresholds go by: the largest raw logit, shape (N,), which no prevalence or calibration moves."""
    return logits.argmax(axis=1)


def logit_gaps(logits: Array) -> Array:
    """How far every logit lies below its row's largest, in units of 1 + the size of its logits, shape (N, K).

    Examples
    --------
    >>> logit_gaps(np.array([[4.0, 3.5]]))
    array([[0. , 0.1]])
    """
    return (logits.max(axis=1, keepdims=True) - logits) / (1.0 + np.abs(logits).max(axis=1, keepdims=True))


def tied_classes(logits: Array, tie: float) -> Flags:
    """Classes that may be the predicted one, shape (N, K): `predicted_class`, and whatever rounding could make it.

    Examples
    --------
    >>> tied_classes(np.array([[4.0, 3.5], [4.0, 0.0]]), 0.2)
    array([[ True,  True],
           [ True, False]])
    """
    gaps = logit_gaps(logits)
    if tie:
        return gaps <= tie
    first = np.zeros(logits.shape, dtype=np.bool_)
    first[np.arange(len(logits)), predicted_class(logits)] = True
    return first
