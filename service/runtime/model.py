"""A bundle brought to life: checked rows in, the posterior of stages A to C out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.policies import label_policies_of, policies_of
from service.bundle.record import restore_inverse
from service.bundle.repository import Bundle
from service.bundle.scores import restore_by_class, restore_reference, restore_score
from service.bundle.self_test import SelfTest, restore_self_test
from service.core.calibration import Map
from service.core.calibration.identity import Identity
from service.core.detector import Detector
from service.core.multilabel import LabelChain, PerLabel, shares_of
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.core.pipeline import Chain, Policy, Posterior, postprocess
from service.core.sequence import STRENGTH, lengths_of, postprocess_sequences, smooth
from service.core.smoothing import Transitions
from service.errors import BundleDamaged, ManifestInvalid, ModelOutputInvalid
from service.runtime.admission import check_binding, check_output, check_scores, check_space, check_state, restoring
from service.runtime.cpus import available_cpus
from service.runtime.fields import FieldInputs
from service.runtime.independence import check_independence, each_alone
from service.runtime.inputs import Inputs, bind_inputs
from service.runtime.parity import Parity
from service.runtime.providers import Execution
from service.runtime.rows import Fields, Rows
from service.runtime.session import NOT_COMPUTABLE, ON_CPU, Feeds, Session
from service.runtime.stage_answers import Stages
from service.runtime.stage_checks import check_stages, stages_of
from service.runtime.timing import UNKNOWN, RunTime, Tally, measure

SELF_TEST_ROWS = 4
Status = Literal["ok", "separable", "uncalibrated"]


@dataclass(frozen=True, slots=True)
class Raw:
    """What a graph made of N rows, checked and finite.

    Attributes
    ----------
    columns : ndarray of shape (N, F)
        The columns of numbers among the inputs, NaN where a value is missing.
    logits : ndarray of shape (N, K)
        For sequences (N, L, K).
    features : ndarray of shape (N, D)
        What feature scores look at: the columns as the graph takes them, or the tensor that `[ood] space` names.
    lengths : ndarray of shape (N,) or None
        Unpadded positions of every row.
    """

    columns: Array
    logits: Array
    features: Array
    lengths: Indices | None = None

    def part(self, rows: Indices) -> "Raw":
        """Some of the rows."""
        lengths = None if self.lengths is None else self.lengths[rows]
        return Raw(self.columns[rows], self.logits[rows], self.features[rows], lengths)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """One version in memory; equal to itself alone.

    Attributes
    ----------
    bundle : Bundle
    session : Session
    inputs : Inputs
    chain : Chain
    source : ndarray of shape (K,) or None
        Prevalence of the calibrated probabilities; None when it is unknown. Of a multilabel model, shape (M, 2).
    policies : dict of str to Policy
        Empty for a multilabel model.
    label_policies : dict of str to dict of int to Policy
        Of a multilabel model: what each policy costs, by the label's index.
    transitions : Transitions or None
        How classes follow each other, where `fit` could learn it.
    run_time : RunTime
        What its runs take here, measured when it was loaded.
    tally : Tally
        What its runs amount to; the queue counts them.
    parity : Parity or None
        How far the provider that runs it is from the CPU; None on the CPU itself.
    """

    bundle: Bundle
    session: Session
    inputs: Inputs
    chain: Chain
    source: Array | None
    policies: dict[str, Policy]
    label_policies: dict[str, dict[int, Policy]]
    transitions: Transitions | None = None
    run_time: RunTime = UNKNOWN
    tally: Tally = field(default_factory=Tally, repr=False)
    parity: Parity | None = None

    @property
    def name(self) -> str:
        """Name in the repository."""
        return self.bundle.name

    @property
    def version(self) -> str:
        """Version as answers give it; a draft has none."""
        return "draft" if self.bundle.version is None else str(self.bundle.version)

    @property
    def manifest(self) -> Manifest:
        """What people declared."""
        return self.bundle.manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in output order."""
        return self.bundle.manifest.graph.classes

    @property
    def method(self) -> str:
        """Calibrator by its registry name."""
        return "identity" if self.bundle.record is None else self.bundle.record.calibrator.method

    @property
    def status(self) -> Status:
        """How far the calibration goes: `ok`, `separable` or `uncalibrated`."""
        return "uncalibrated" if self.bundle.record is None else self.bundle.record.status

    @property
    def calibration(self) -> dict[str, str | float]:
        """Method, status and, once calibrated, support, as answers state them."""
        record = self.bundle.record
        support = {} if record is None else {"support": record.least_error}
        return {"method": self.method, "status": self.status, **support}

    @property
    def task(self) -> str:
        """What is classified: `multiclass`, `multilabel` or `sequence`."""
        return self.bundle.manifest.graph.task

    @property
    def stages(self) -> Stages:
        """Stages A to E, as the self-test of a version meets them."""
        labelled = (policy for by_label in self.label_policies.values() for policy in by_label.values())
        policies = (*self.policies.values(), *labelled)
        return stages_of(self.bundle, self.chain, self.source, self.transitions, policies)

    def tied(self, policy: Policy) -> Policy:
        """A policy whose actions are tied within what the model's provider may compute otherwise."""
        return policy if self.parity is None else replace(policy, ties=self.parity.ties)

    @property
    def has_chain(self) -> bool:
        """Whether the smoother `hmm` is there: transitions, and the prevalence that the probabilities speak of."""
        return self.transitions is not None and self.source is not None

    @property
    def smoother(self) -> str:
        """The smoother of a request that names none: what `fit` chose, where it is there."""
        record = self.bundle.record
        if record is None or record.sequence is None or not self.has_chain:
            return "none"
        return record.sequence.smoother

    def smoothed(self, posterior: Posterior, name: str, *, strength: float = STRENGTH) -> Array:
        """Log-probabilities of every position, smoothed over its neighbours, shape (N, L, K); as `smooth`."""
        return smooth(
            name,
            posterior.log_probs,
            lengths=lengths_of(posterior),
            prevalence=self.source,
            transitions=self.transitions,
            strength=strength,
        )

    def raw(self, rows: Rows, *, deadline: float | None = None) -> Raw:
        """What the graph makes of rows, by a deadline on the monotonic clock."""
        columns, feeds = self.inputs.admit(rows)
        return self.run(columns, feeds, rows.lengths if isinstance(rows, Fields) else None, deadline=deadline)

    def run(self, columns: Array, feeds: Feeds, lengths: Indices | None, *, deadline: float | None = None) -> Raw:
        """What the graph makes of rows that were admitted."""
        logits, features = self._answers(feeds, lengths, deadline)
        if logits.ndim == 3 and lengths is None:
            lengths = np.full(len(logits), logits.shape[1])
        return Raw(columns, logits, self.inputs.taken(columns) if features is None else features, lengths)

    def _answers(self, feeds: Feeds, lengths: Indices | None, deadline: float | None) -> tuple[Array, Array | None]:
        """Logits, and the tensor that `[ood] space` names, if it does."""
        graph, ood = self.manifest.graph, self.manifest.ood
        if graph.rows == "alone" and lengths is not None and len(lengths) > 1 and isinstance(self.inputs, FieldInputs):
            return each_alone(lambda own, length: self._answers(own, length, deadline), self.inputs, feeds, lengths)
        if ood.looks_at_tensor:
            return self.session.logits_and_features(graph, ood.space, feeds, lengths=lengths, deadline=deadline)
        return self.session.logits(graph, feeds, lengths=lengths, deadline=deadline), None

    def posterior(self, rows: Rows, *, deadline: float | None = None) -> Posterior:
        """Stages A to C."""
        return self.posterior_of(self.raw(rows, deadline=deadline))

    def posterior_of(self, raw: Raw) -> Posterior:
        """Stages A to C of what the graph made of rows."""
        return _POSTPROCESS[self.task](self.chain, raw)


def load_model(bundle: Bundle, *, threads: int = 1, execution: Execution = ON_CPU) -> Model:
    """Bring a bundle to life, and prove that it answers: one synthetic row is run before any request.

    A version also proves that it answers what it answered when it was fitted.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        Within one operator, where the manifest names no number; 0 is all processors that the process may use.
    execution : Execution
        Provider that the graph runs on; `provider_parity.load_on` compares its answers with the CPU's.

    Raises
    ------
    BundleDamaged
        If the calibration was fitted on another graph, lacks the state it needs, or the answers have changed.
    ManifestInvalid
        If the manifest contradicts the graph.
    GraphError
        If ONNX Runtime refuses the file.
    """
    runtime = bundle.manifest.runtime
    requested = threads if runtime.threads is None else runtime.threads
    alone = bundle.manifest.graph.rows == "alone"
    session = Session(
        bundle.graph_path,
        threads=_threads(requested),
        shared=runtime.share_weights,
        alone=alone,
        execution=execution,
    )
    check_output(bundle.manifest.graph.output, session)
    inputs = bind_inputs(bundle.manifest, session)
    check_space(bundle.manifest, session)
    check_scores(bundle.manifest, session, inputs)
    if bundle.record is not None:
        check_binding(bundle, bundle.record)
    with restoring(bundle):
        model = _restored(bundle, session, inputs)
        check_stages(bundle, model.stages)
        model = replace(model, run_time=_proven(model))
        _check_self_test(model)
    read = (model.manifest.graph.output, *([model.manifest.ood.space] if model.manifest.ood.looks_at_tensor else []))
    check_independence(session, read, inputs.admit(inputs.synthetic(SELF_TEST_ROWS))[1])
    return model


def _restored(bundle: Bundle, session: Session, inputs: Inputs) -> Model:
    if bundle.record is not None:
        check_state(bundle, bundle.record)
    return Model(
        bundle,
        session,
        inputs,
        _chain(bundle, inputs),
        _source(bundle),
        policies_of(bundle.manifest),
        label_policies_of(bundle.manifest),
        _transitions(bundle),
    )


def _proven(model: Model) -> RunTime:
    try:
        return measure(model.posterior, model.inputs.synthetic())
    except ModelOutputInvalid as error:
        if all(fault.code != NOT_COMPUTABLE for fault in error.faults):
            raise
        raise ManifestInvalid(
            f"{model.bundle.path}: the graph fails on a row that the manifest allows; declare which it takes: a "
            "tensor's shape under [[inputs]], a feature's categories, plausible or allowed under [features]"
        ) from None


def self_test_of(model: Model, rows: Rows | None = None) -> SelfTest:
    """Synthetic rows, or others, and what a model answers to them now."""
    try:
        return _self_test(model, model.inputs.synthetic(SELF_TEST_ROWS) if rows is None else rows)
    except ModelOutputInvalid:  # not every row within the declared ranges need be one that the graph knows
        return _self_test(model, model.inputs.synthetic())


def _self_test(model: Model, rows: Rows) -> SelfTest:
    columns, feeds = model.inputs.admit(rows)
    lengths = rows.lengths if isinstance(rows, Fields) else None
    raw = model.run(columns, feeds, lengths)
    return SelfTest(columns, feeds, lengths, raw.logits, model.posterior_of(raw).log_probs)


def _check_self_test(model: Model) -> None:
    test = restore_self_test(model.bundle.state)
    if test is None or model.bundle.version is None:
        return
    try:
        raw = model.run(test.columns, test.feeds, test.lengths)
    except ModelOutputInvalid as error:
        raise BundleDamaged(f"{model.bundle.path} fails its self-test: {error}; fit again") from None
    departure = test.departure(raw.logits, model.posterior_of(raw).log_probs)
    if departure is not None:
        raise BundleDamaged(
            f"{model.bundle.path} fails its self-test, {departure}: it does not answer here as it did when it was "
            "fitted; use the ONNX Runtime and the kind of processor of that time, or fit again here"
        )


def _threads(requested: int) -> int:
    cpus = available_cpus()
    return min(requested or cpus, cpus)


def _chain(bundle: Bundle, inputs: Inputs) -> Chain:
    ood, record = bundle.manifest.ood, bundle.record
    calibrator = _uncalibrated(bundle.manifest) if record is None else record.restored_calibrator()
    names = [name for name in ood.scores if record is None or name in record.scores]
    detectors = [_detector(name, bundle) for name in names if record is not None or not SCORES[name].stateful]
    range_gated = "range" in ood.gate_members
    low, high = inputs.plausible_low, inputs.plausible_high
    inverse = None if record is None or record.inverse is None else restore_inverse(record.inverse)
    return Chain(tuple(detectors), low, high, range_gated, calibrator, record is not None, inverse)


def _detector(name: str, bundle: Bundle) -> Detector:
    gated = name in bundle.manifest.ood.gate_members
    if bundle.record is None:
        return Detector(name, SCORES[name](), None, None, gated)
    score, calibration = restore_score(name, bundle.state), restore_reference(name, bundle.state)
    record = bundle.record.scores[name]
    by_class = restore_by_class(name, bundle.state, record, bundle.manifest.graph.classes)
    threshold, tie = calibration.covering(record.threshold), 0.0 if record.band is None else record.band.tie
    return Detector(name, score, calibration, threshold, gated, by_class, tie)


def _uncalibrated(manifest: Manifest) -> Map:
    if manifest.graph.rules.by_label:
        return PerLabel((LabelChain(None, Identity()),) * len(manifest.graph.classes))
    return Identity()


def _source(bundle: Bundle) -> Array | None:
    if bundle.record is None or bundle.record.source.prevalence is None:
        return None
    shares = np.array([bundle.record.source.prevalence[c] for c in bundle.manifest.graph.classes])
    return shares_of(shares) if bundle.manifest.graph.rules.by_label else shares


def _transitions(bundle: Bundle) -> Transitions | None:
    return None if bundle.record is None or bundle.record.sequence is None else bundle.record.sequence.restored()


def _of_rows(chain: Chain, raw: Raw) -> Posterior:
    return postprocess(chain, raw.logits, raw.columns, features=raw.features)


def _of_sequences(chain: Chain, raw: Raw) -> Posterior:
    lengths = np.full(len(raw.logits), raw.logits.shape[1]) if raw.lengths is None else raw.lengths
    return postprocess_sequences(chain, raw.logits, raw.columns, lengths=lengths)


_POSTPROCESS: Final[dict[str, Callable[[Chain, Raw], Posterior]]] = {
    "multiclass": _of_rows,
    "multilabel": _of_rows,
    "sequence": _of_sequences,
}
