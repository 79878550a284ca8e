"""Chains of a loss inverse and a calibrator that compete on held-out rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.declared_inverse import inverse_record
from service.bundle.manifest import Manifest
from service.bundle.record import InverseRecord, PrevalenceRecord, restore_inverse
from service.core import prior
from service.core.calibration import CALIBRATORS, Calibrator, Map
from service.core.calibration.auto import Choice, elect, out_of_fold
from service.core.calibration.mixture import support
from service.core.calibration.score_test import says_something
from service.core.calibration.shrinkage import SHRUNK, effective_units
from service.core.calibration.temperature import problem_of
from service.core.numerics import Array, log_softmax
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.calibration_warnings import no_signal
from service.fitting.source_prevalence import declared_prevalence, frequencies, log_ratio
from service.fitting.splits import folds_of, independent_units

AUTO: Final = ("identity", "temperature", "bcts", "vector")
SHRINKING: Final = ("temperature", "bcts")
DEFAULT: Final = "shrinkage"
METHODS: Final = ("auto", *CALIBRATORS, DEFAULT)
"""What `fit --calibrator` takes: every method of the registry, and the two that let several compete."""


@dataclass(frozen=True, slots=True)
class CandidateChain:
    """A loss inverse and a calibrator, one after the other.

    Attributes
    ----------
    inverse : InverseRecord or None
    method : str
        In `CALIBRATORS`.
    logits : ndarray of shape (N, K)
        What the calibrator sees: raw logits, or the log-probabilities that the inverse makes of them.
    declared : ndarray of shape (K,) or None
        Prevalence behind those logits, if it is declared.
    offset : ndarray of shape (K,) or None
        Log ratio of the rows' prevalence to that.
    shrunk : bool
        Whether it is fitted with a prior.
    """

    inverse: InverseRecord | None
    method: str
    logits: Array
    declared: Array | None
    offset: Array | None
    shrunk: bool = False

    @property
    def kind(self) -> type[Calibrator]:
        """What fits it."""
        return SHRUNK[self.method] if self.shrunk else CALIBRATORS[self.method]

    def effective_units(self, data: Dataset) -> int:
        """How many independent rows its prior is weighed against: all, or with groups what rows of a group add."""
        units = independent_units(data)
        if not self.shrunk or data.groups is None:
            return units
        return effective_units(
            self.logits, data.labels, groups=data.groups, units=units, weights=data.weights, offset=self.offset
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of what is applied, in order."""
        return (self.method,) if self.inverse is None else (f"inverse of {self.inverse.loss}", self.method)

    @property
    def name(self) -> str:
        """What the record calls it."""
        return " + ".join(self.steps)

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return CALIBRATORS[self.method].size(self.logits.shape[1])


def candidate_chains(manifest: Manifest, logits: Array, data: Dataset, method: str) -> Iterator[CandidateChain]:
    """Every chain that the manifest and a method admit, in order of preference.

    Raises
    ------
    FitError
        If the method does not fit the model.
    """
    methods = {"auto": AUTO, DEFAULT: SHRINKING}.get(method, (method,))
    unfit = [name for name in methods if CALIBRATORS[name].needs == "binary" and len(manifest.graph.classes) != 2]
    if unfit:
        raise FitError(f"--calibrator {unfit[0]} is for two classes; this model has {len(manifest.graph.classes)}")
    observed = frequencies(data, len(manifest.graph.classes))
    inverse = inverse_record(manifest)
    # Where declared weights only shift the prevalence, both ways fit alike: the one of the real prevalence comes first.
    for undone in (None,) if inverse is None else (inverse, None):
        seen = logits if undone is None else restore_inverse(undone).apply(log_softmax(logits))
        declared = declared_prevalence(manifest, weighted=undone is None)
        offset = None if declared is None else log_ratio(observed, declared)
        for name in methods:
            yield CandidateChain(undone, name, seen, declared, offset, shrunk=method == DEFAULT)


def with_signal(chains: Sequence[CandidateChain], data: Dataset) -> list[CandidateChain]:
    """The chains whose logits have signal about the labels.

    Raises
    ------
    NoSignal
        If there is none.
    """
    informed = len(np.unique(data.labels)) < 2 or says_something(
        chains[0].logits, data.labels, weights=data.weights, groups=data.groups, units=independent_units(data)
    )
    found = [c for c in chains if informed and _finds_signal(c, data)]
    if found:
        return found
    raise no_signal(needs_bias=informed)


def _finds_signal(chain: CandidateChain, data: Dataset) -> bool:
    if chain.kind.free_intercepts and len(np.unique(data.labels)) > 1:
        return True
    problem = problem_of(chain.logits, data.labels, weights=data.weights, offset=chain.offset)
    return problem.status() != "no_signal"


def compete(chains: dict[str, CandidateChain], data: Dataset, seed: int) -> Choice:
    """Fit every chain without each fold, and choose by the log loss of the rows that were left out."""
    folds, share = folds_of(data, seed), support(independent_units(data))
    outputs = {
        name: out_of_fold(
            c.kind,
            c.logits,
            data.labels,
            folds=folds,
            weights=data.weights,
            offset=c.offset,
            units=c.effective_units(data),
            share=share,
        )
        for name, c in chains.items()
    }
    sizes = {name: c.size for name, c in chains.items()}
    return elect(outputs, data.labels, sizes=sizes, weights=data.weights, groups=data.groups)


def source_record(classes: tuple[str, ...], calibrator: Map, winner: CandidateChain, data: Dataset) -> PrevalenceRecord:
    """The prevalence of the winner's calibrated probabilities, as far as the rows show it."""
    observed, free = frequencies(data, len(classes)), CALIBRATORS[winner.method].free_intercepts
    if winner.declared is not None and not free:
        return PrevalenceRecord(basis="declared", prevalence=dict(zip(classes, winner.declared.tolist(), strict=True)))
    agrees = free or prior.mean_agrees(
        calibrator.apply(winner.logits), observed, weights=data.weights, groups=data.groups
    )
    if observed.min() > 0.0 and agrees:
        return PrevalenceRecord(basis="calibration_rows", prevalence=dict(zip(classes, observed.tolist(), strict=True)))
    return PrevalenceRecord(basis="unknown", prevalence=None)
