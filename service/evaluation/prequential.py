"""Which calibrator suits a model: prequential code length of labelled rows, calibrators refitted block by block.

The classifier is fixed, and its own description is no part of the length: calibrators alone are compared.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.assessment.coding import code_lengths
from service.core.assessment.prequential import doubling_blocks, prequential_code_lengths
from service.core.calibration import CALIBRATORS
from service.core.losses.sequence import PADDING
from service.core.multilabel import PerLabel, undo
from service.core.numerics import Array, Indices, log_softmax, two_column
from service.core.sampling import mean_and_error
from service.core.sequence import flat, lengths_of
from service.evaluation.classification_problem import LabelledAnswer, finite
from service.evaluation.multiclass import ROWS
from service.evaluation.sequence import POSITIONS
from service.prediction.bulk import Track, untracked

FIXED: Final = "fixed"
"""What the version's own calibrator is called: it is not refitted."""


@dataclass(frozen=True, slots=True)
class CodedLabels:
    """What the labels of these rows cost one calibrator.

    Attributes
    ----------
    parameters : int or None
        Free parameters of each fit; None for the version's own calibrator, which is not refitted.
    bits : float or None
        Bits of all labels; None where infinite.
    bits_per_label : float or None
        Their mean: per row, per label of a multilabel row, or per position of a sequence.
    excess : float or None
        Bits per label beyond those of the shortest code.
    standard_error : float or None
        Standard error of that, from row to row; rows of a group, and positions of a sequence, are one draw.
    """

    parameters: int | None
    bits: float | None
    bits_per_label: float | None
    excess: float | None
    standard_error: float | None


@dataclass(frozen=True, slots=True)
class PrequentialReport:
    """Calibrators compared by prequential code length, the classifier being fixed.

    Attributes
    ----------
    seed : int
        Seed of the order of the rows.
    blocks : tuple of int
        Rows, or positions, of each block; calibrators are refitted after each.
    shortest : str
        Calibrator of the shortest code.
    calibrators : dict of str to CodedLabels
        By registry name, the shortest code first; ``fixed`` is the version's own calibrator.
    left_out : tuple of str
        Calibrators with more free parameters than there are rows.
    parts : dict of str to dict of str to float
        By part of the report and calibrator: bits per label. None where infinite.
    """

    seed: int
    blocks: tuple[int, ...]
    shortest: str
    calibrators: dict[str, CodedLabels]
    left_out: tuple[str, ...]
    parts: dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class CalibratorInputs:
    """Rows of one label each, as a calibrator sees them.

    Attributes
    ----------
    logits : ndarray of shape (N, K)
        Raw logits, or log-probabilities after the inverse of the training loss that the record holds.
    labels : ndarray of shape (N,)
    served : ndarray of shape (N, K) or None
        Log-probabilities by the version's own calibrator; None where it is uncalibrated.
    """

    logits: Array
    labels: Indices
    served: Array | None


def compare_calibrators(labelled: LabelledAnswer, *, seed: int = 0, track: Track = untracked) -> PrequentialReport:
    """Code the labels by every calibrator that fits the task, each refitted on the rows of earlier blocks.

    Rows, not their weights, are coded: a code has no half labels. No declared prevalence is used: calibrators are
    fitted and compared at that of the rows.

    Parameters
    ----------
    labelled : LabelledAnswer
    seed : int
        Of the order of the rows, or of their groups.
    track : callable
        Progress over calibrators.
    """
    parts, groups = INPUTS[labelled.answer.model.task](labelled), _groups(labelled)
    n, k = next(iter(parts.values())).logits.shape
    blocks = doubling_blocks(n, groups=groups, seed=seed)
    fitting = [name for name, method in CALIBRATORS.items() if method.needs == "any" or k == 2]
    methods = [name for name in fitting if CALIBRATORS[name].size(k) <= n]
    lengths = {methods[i]: _refitted(methods[i], parts, blocks, groups) for i in track(range(len(methods)))}
    if labelled.answer.model.status != "uncalibrated":
        lengths[FIXED] = _as_served(parts)
    by_length = sorted(lengths, key=lambda name: float(lengths[name].sum()))
    return PrequentialReport(
        seed=seed,
        blocks=tuple(np.bincount(blocks).tolist()),
        shortest=by_length[0],
        calibrators={name: _coded(name, lengths, by_length[0], k=k, groups=groups) for name in by_length},
        left_out=tuple(name for name in fitting if name not in methods),
        parts={part: _means(lengths, m, by_length) for m, part in enumerate(parts)},
    )


def _refitted(name: str, parts: dict[str, CalibratorInputs], blocks: Indices, groups: Indices | None) -> Array:
    """Bits of every row in every part, shape (N, M)."""
    coded = (
        prequential_code_lengths(CALIBRATORS[name], own.logits, own.labels, blocks=blocks, groups=groups)
        for own in parts.values()
    )
    return np.stack(list(coded), axis=1)


def _as_served(parts: dict[str, CalibratorInputs]) -> Array:
    served = ((own.served, own.labels) for own in parts.values())
    return np.stack([code_lengths(log_probs, labels) for log_probs, labels in served if log_probs is not None], axis=1)


def _coded(name: str, lengths: dict[str, Array], shortest: str, *, k: int, groups: Indices | None) -> CodedLabels:
    own = lengths[name]
    excess, error = mean_and_error((own - lengths[shortest]).mean(axis=1), groups=groups)
    return CodedLabels(
        parameters=None if name == FIXED else CALIBRATORS[name].size(k),
        bits=finite(own.sum()),
        bits_per_label=finite(own.mean()),
        excess=finite(excess),
        standard_error=finite(error),
    )


def _means(lengths: dict[str, Array], m: int, names: Iterable[str]) -> dict[str, float | None]:
    return {name: finite(lengths[name][:, m].mean()) for name in names}


def _groups(labelled: LabelledAnswer) -> Indices | None:
    """Groups 0..G-1 of what is coded: those of rows, or sequences as groups of their positions."""
    posterior, groups = labelled.answer.posterior, labelled.groups
    if posterior.lengths is not None:
        units = np.arange(len(posterior.lengths)) if groups is None else groups
        groups = np.repeat(units, posterior.lengths)
    return None if groups is None else np.unique(groups, return_inverse=True)[1]


def _of_rows(labelled: LabelledAnswer) -> dict[str, CalibratorInputs]:
    posterior = labelled.answer.posterior
    return {ROWS: _inputs(labelled, posterior.logits, labelled.labels, posterior.log_probs)}


def _of_positions(labelled: LabelledAnswer) -> dict[str, CalibratorInputs]:
    posterior, lengths = labelled.answer.posterior, lengths_of(labelled.answer.posterior)
    labels = labelled.labels[labelled.labels != PADDING]
    return {POSITIONS: _inputs(labelled, flat(posterior.logits, lengths), labels, flat(posterior.log_probs, lengths))}


def _inputs(labelled: LabelledAnswer, logits: Array, labels: Indices, served: Array) -> CalibratorInputs:
    model, exact = labelled.answer.model, logits.astype(np.float64, copy=False)  # what is fitted is exact
    undone = exact if model.chain.inverse is None else model.chain.inverse.apply(log_softmax(exact))
    return CalibratorInputs(undone, labels, None if model.status == "uncalibrated" else served)


def _of_labels(labelled: LabelledAnswer) -> dict[str, CalibratorInputs]:
    return dict(zip(labelled.answer.model.classes, _each_label(labelled), strict=True))


def _each_label(labelled: LabelledAnswer) -> Iterator[CalibratorInputs]:
    posterior, model = labelled.answer.posterior, labelled.answer.model
    calibrated, chains = model.status != "uncalibrated", model.chain.calibrator
    for m, log_odds in enumerate(posterior.logits.T.astype(np.float64, copy=False)):
        inverse = chains.chains[m].inverse if isinstance(chains, PerLabel) else None
        served = posterior.log_probs[:, m] if calibrated else None
        yield CalibratorInputs(two_column(undo(inverse, log_odds)), labelled.labels[:, m], served)


INPUTS: Final[dict[str, Callable[[LabelledAnswer], dict[str, CalibratorInputs]]]] = {
    "multiclass": _of_rows,
    "multilabel": _of_labels,
    "sequence": _of_positions,
}
