"""How far one execution provider's answers lie from another's, and the bands that cover as much.

A version's ties were fitted on the CPU. Under another provider a calibration row may be computed to another last digit,
or to another third digit. So the same rows are run on both, the difference is stated, and the bands within which a
score or a cost is a tie are widened to cover it.
"""

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.conformal import Reference
from service.core.decision import TIE_TOLERANCE
from service.core.detector import Detector
from service.core.label_sets import Conformity, LabelSets
from service.core.numerics import Array
from service.core.pipeline import Chain, Posterior
from service.core.score_ties import caps

SAFETY: Final = 8.0
"""Times the largest difference that was seen; `fit` takes as many for batches and processors."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest differences between two answers for the same N rows.

    Attributes
    ----------
    logits : float
        Of a logit, relative to 1 + the largest of its row.
    probabilities : float
        Of a probability, relative to itself.
    scores : tuple of float
        Of every OOD score, relative to 1 + its size.
    features : float
        Of the tensor that OOD scores look at, relative to 1 + the largest of its row; 0 where they look at none.
    """

    logits: float
    probabilities: float
    scores: tuple[float, ...]
    features: float = 0.0

    @classmethod
    def between(cls, one: Posterior, other: Posterior, features: tuple[Array, Array] | None = None) -> "Difference":
        """Of two posteriors of the same rows, and of the tensors (N, D) that their scores look at."""
        return cls(
            _of_rows(one.logits, other.logits),
            _largest(np.abs(np.expm1(_apart(one.log_probs, other.log_probs)))),
            tuple(_relative(a, b, np.abs(a)) for a, b in zip(one.scores.T, other.scores.T, strict=True)),
            0.0 if features is None else _of_rows(*features),
        )

    def joined(self, other: "Difference") -> "Difference":
        """The larger of each."""
        scores = tuple(map(max, self.scores, other.scores))
        return Difference(
            max(self.logits, other.logits),
            max(self.probabilities, other.probabilities),
            scores,
            max(self.features, other.features),
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """What a version's provider was measured at when it was loaded.

    Attributes
    ----------
    rows : int
        Of the self-test and synthetic, that ran on it and on the CPU.
    tolerance : float
        Largest difference that is allowed.
    from_cpu : Difference
        Between the provider and the CPU.
    alone : float
        Of a logit, between a row alone and the same row among others, on the provider.
    """

    rows: int
    tolerance: float
    from_cpu: Difference
    alone: float

    @property
    def is_within(self) -> bool:
        """Whether all differences are allowed."""
        return max(self.from_cpu.logits, self.from_cpu.features, self.alone) <= self.tolerance

    @property
    def ties(self) -> float:
        """How much wider a tie of costs is than on the CPU, at least 1."""
        return max(1.0, SAFETY * self.from_cpu.probabilities / TIE_TOLERANCE)

    def widened(self, chain: Chain) -> Chain:
        """Stages whose scores are ties within what the provider may compute otherwise."""
        pairs = zip(chain.detectors, self.from_cpu.scores, strict=True)
        tie = 2.0 * SAFETY * self.from_cpu.logits  # of a gap between two logits
        return dataclasses.replace(chain, detectors=tuple(_wider(one, SAFETY * own, tie) for one, own in pairs))

    def sets(self, sets: LabelSets) -> LabelSets:
        """Label sets that hold a label which the provider may compute otherwise."""
        relative = SAFETY * self.from_cpu.probabilities
        wider = tuple(_wider_conformity(own, relative) for own in sets.conformities)
        return dataclasses.replace(sets, conformities=wider, tie=max(sets.tie, 2.0 * relative))


def _wider(detector: Detector, relative: float, tie: float) -> Detector:
    if detector.calibration is None:
        return detector
    reference, by_class = _wider_reference(detector.calibration, relative), detector.by_class
    threshold = None if detector.threshold is None else _edge(detector.calibration, reference, detector.threshold)
    if by_class is not None:
        wider = tuple(_wider_reference(own, relative) for own in by_class.references)
        pairs = zip(by_class.references, wider, by_class.thresholds.tolist(), strict=True)
        by_class = dataclasses.replace(
            by_class, references=wider, thresholds=np.array([_edge(*pair) for pair in pairs], dtype=np.float64)
        )
        tie = max(tie, detector.tie)
    return dataclasses.replace(detector, calibration=reference, threshold=threshold, by_class=by_class, tie=tie)


def _wider_reference(reference: Reference, relative: float) -> Reference:
    return dataclasses.replace(reference, caps=_wider_caps(reference.scores, reference.caps, relative))


def _wider_conformity(conformity: Conformity, relative: float) -> Conformity:
    reach = np.maximum(conformity.reach, relative * (1.0 + np.abs(conformity.scores)))
    edges = _wider_caps(conformity.scores, conformity.caps, relative)
    return dataclasses.replace(conformity, caps=edges, reach=reach)


def _wider_caps(scores: Array, edges: Array, relative: float) -> Array:
    reach = np.maximum(edges - scores, relative * (1.0 + np.abs(scores)))
    return np.maximum(edges, caps(scores, reach))


def _edge(before: Reference, after: Reference, threshold: float) -> float:
    """Where a threshold lies once the tie that it is the edge of is wider."""
    at = int(before.caps.searchsorted(threshold, side="right")) - 1  # the farthest row of the tie
    return float(after.caps[at]) if at >= 0 and before.caps[at] == threshold else threshold


def _of_rows(one: Array, other: Array) -> float:
    return _relative(one, other, np.abs(one).max(axis=-1, keepdims=True, initial=0.0))


def _relative(one: Array, other: Array, size: Array) -> float:
    return _largest(_apart(one, other) / (1.0 + size))


def _apart(one: Array, other: Array) -> Array:
    """Absolute differences; what is equal, infinite numbers too, is not apart."""
    same = one == other
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(same, 0.0, np.abs(np.where(same, 0.0, one) - np.where(same, 0.0, other))))


def _largest(differences: Array) -> float:
    return float(np.max(differences, initial=0.0))
