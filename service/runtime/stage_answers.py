"""What stages A to E of a model answer to given logits, features, scores and probabilities, without its graph.

The functions of `core` are composed here as `service.prediction` composes them for requests.

Tested in `tests/fitting/test_self_test.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.stage_test import TEXTS
from service.bundle.state import State
from service.core import conformal, multilabel
from service.core.label_sets import LabelSets, own_log_probs
from service.core.mondrian import ByClass
from service.core.numerics import Array, Flags, Indices
from service.core.pipeline import Chain, Policy, Posterior, at_prevalence, choose, postprocess, weigh
from service.core.sequence import decide_positions, flat, lengths_of, postprocess_sequences, smooth
from service.core.smoothing import Transitions

COVERAGES = (0.8, 0.95)
MORE_COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
LEAST = -1e200  # a score below every threshold
MOST_SHIFTED = 4_000  # log-probabilities

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Stages:
    """Stages A to E of one version.

    Attributes
    ----------
    chain : Chain
        A to C.
    classes : int
        K, or how many labels.
    source : ndarray of shape (K,), or (M, 2) of a multilabel model, or None
    transitions : Transitions or None
    sets : tuple of LabelSets
        Within classes and of all rows, as far as there are any.
    targets : ndarray of shape (T, K)
        The uniform prevalence, and that of every site; of labels, shares of present.
    policies : tuple of Policy
        All of them; of a multilabel model, of every policy and label.
    texts : tuple of str
        What a manifest declares beside numbers of these stages: names of sites, policies and actions in their order,
        and what features may hold.
    sequential, by_label : bool
        The task.
    """

    chain: Chain
    classes: int
    source: Array | None
    transitions: Transitions | None
    sets: tuple[LabelSets, ...]
    targets: Array
    policies: tuple[Policy, ...]
    texts: tuple[str, ...]
    sequential: bool
    by_label: bool

    def posterior(self, inputs: Arrays) -> Posterior:
        """Stages A to C of stored logits and features."""
        logits = np.asarray(inputs["logits"], dtype=np.float64)
        columns = np.full((len(logits), len(self.chain.low)), np.nan)
        if self.sequential:
            return postprocess_sequences(self.chain, logits, columns, lengths=_lengths(inputs))
        features = inputs.get("features")
        seen = None if features is None else _repeated(features, len(logits))
        return postprocess(self.chain, logits, columns, features=seen)


def learned_answers(stages: Stages, inputs: Arrays) -> State:
    """Stages A to C, label sets and smoothing: what `fit` learned, and no declaration changes.

    Parameters
    ----------
    stages : Stages
    inputs : mapping of str to ndarray
        ``logits`` (V, K), (V, L, K) or (V, M), with ``lengths`` (V,) of sequences; ``features`` (W, D) where a score
        looks at them; ``scores`` (P, S), one column for every detector; ``scores.NAME`` (K, Q) within classes.
    """
    posterior = stages.posterior(inputs)
    found: State = {"log_probs": posterior.log_probs, "scores": posterior.scores}
    found |= _of_thresholds(stages, posterior, inputs)
    for sets in stages.sets:
        found |= _of_sets(sets, posterior)
    if stages.sequential:
        found |= dict(_smoothed(stages, posterior))
    return found


def declared_answers(stages: Stages, inputs: Arrays, *, learned: Arrays) -> State:
    """Ranges, and stages D and E: what a manifest may declare anew without a fit.

    Parameters
    ----------
    stages : Stages
    inputs : mapping of str to ndarray
        ``columns`` (C, F) where there are columns of numbers, and for every policy ``log_probs.INDEX`` (B, K).
    learned : mapping of str to ndarray
        Inputs of `learned_answers`.
    """
    posterior = stages.posterior(learned)
    found: State = {}
    if "columns" in inputs:
        found["outside"], found["flagged"] = _outside(stages, posterior, np.asarray(inputs["columns"]))
    if stages.source is not None and len(stages.targets):
        found["shifted"] = _shifted(stages, posterior)
    for i, policy in enumerate(stages.policies):
        found |= _decided(policy, inputs[f"log_probs.{i}"], name=f"{i}")
        if stages.sequential:
            plan = decide_positions(posterior.log_probs, policy, lengths=lengths_of(posterior))
            found[f"total.{i}"] = plan.total
    found[TEXTS] = _as_numbers(stages.texts)
    return found


def _of_thresholds(stages: Stages, posterior: Posterior, inputs: Arrays) -> State:
    if not stages.chain.calibrated or not stages.chain.detectors:
        return {}
    seen = flat(posterior.logits, lengths_of(posterior)) if stages.sequential else posterior.logits
    found: State = {"thresholds": limits_of(stages.chain, seen)}
    weighed = _weighed(stages, posterior, inputs["scores"])
    parts = {"p_values": weighed.p_values, "flags": weighed.flags, "flagged": weighed.flagged}
    found |= {name: value for name, value in (parts | {"p_value": weighed.p_value}).items() if value is not None}
    for detector in stages.chain.detectors:
        if detector.by_class is not None:
            found |= _of_classes(detector.name, detector.by_class, inputs[f"scores.{detector.name}"])
    return found


def limits_of(chain: Chain, logits: Array) -> Array:
    """Threshold of every score that applies to every row of logits (V, K), shape (V, S)."""
    limits = [detector.thresholds(logits) for detector in chain.detectors]
    return np.stack([limit for limit in limits if limit is not None], axis=1)


def _weighed(stages: Stages, posterior: Posterior, scores: Array) -> Posterior:
    rows = np.arange(len(scores)) % len(posterior.logits)
    logits, log_probs = posterior.logits[rows], posterior.log_probs[rows]
    columns = np.full((len(rows), len(stages.chain.low)), np.nan)
    return weigh(stages.chain, logits, log_probs, list(np.asarray(scores, dtype=np.float64).T), columns)


def _of_classes(name: str, by_class: ByClass, scores: Array) -> State:
    pairs = zip(by_class.references, scores, strict=True)
    p_values = np.stack([conformal.p_values(reference, own) for reference, own in pairs])
    return {f"thresholds.{name}": by_class.thresholds, f"p_values.{name}": p_values}


def members_of(sets: LabelSets, posterior: Posterior) -> Flags:
    """Label sets of every row at `COVERAGES`, shape (V, 2, K)."""
    log_probs, top = own_log_probs(posterior.logits), posterior.log_probs.argmax(axis=1)
    members = [sets.predict(log_probs, coverage=coverage, top=top).members for coverage in COVERAGES]
    return np.stack(members, axis=1)


def _of_sets(sets: LabelSets, posterior: Posterior) -> State:
    limits = [sets.thresholds(coverage) for coverage in MORE_COVERAGES]
    return {f"members.{sets.kind}": members_of(sets, posterior), f"limits.{sets.kind}": np.stack(limits)}


def _smoothed(stages: Stages, posterior: Posterior) -> Iterator[tuple[str, Array]]:
    lengths = lengths_of(posterior)
    yield "smoothed.jsd", smooth("jsd", posterior.log_probs, lengths=lengths)
    if stages.source is not None and stages.transitions is not None:
        yield (
            "smoothed.hmm",
            smooth(
                "hmm",
                posterior.log_probs,
                lengths=lengths,
                prevalence=stages.source,
                transitions=stages.transitions,
            ),
        )


def _outside(stages: Stages, posterior: Posterior, columns: Array) -> tuple[Flags, Flags]:
    rows = np.zeros(len(columns), dtype=np.intp)
    unflagged = [np.full(len(columns), LEAST) for _ in stages.chain.detectors]
    found = weigh(stages.chain, posterior.logits[rows], posterior.log_probs[rows], unflagged, columns)
    return found.outside, np.zeros(len(columns), dtype=np.bool_) if found.flagged is None else found.flagged


def _shifted(stages: Stages, posterior: Posterior) -> Array:
    # A few rows are enough: every one of them holds every class.
    few = max(1, min(len(posterior.logits), MOST_SHIFTED // (len(stages.targets) * stages.classes)))
    log_probs = posterior.log_probs[:few]
    if stages.sequential:
        log_probs = flat(log_probs, lengths_of(posterior)[:few])
    if stages.by_label:
        aims = [multilabel.shares_of(target) for target in stages.targets]
        return np.stack([multilabel.at_prevalence(log_probs, source=stages.source, target=aim) for aim in aims])
    return np.stack([at_prevalence(log_probs, source=stages.source, target=target) for target in stages.targets])


def _decided(policy: Policy, log_probs: Array, *, name: str) -> State:
    # Once unflagged, once flagged: the action that takes flagged rows over, and the one that costs take.
    p, rows = np.asarray(log_probs), np.ones(len(log_probs), dtype=np.bool_)
    plain, handed = choose(p, policy, flagged=~rows), choose(p, policy, flagged=rows)
    return {
        f"risks.{name}": plain.risks,
        f"action.{name}": _narrow(plain.action),
        f"handed_over.{name}": _narrow(handed.action),
    }


def _as_numbers(texts: tuple[str, ...]) -> Array:
    # The self-test holds numbers alone: the bytes of a hash stand for the texts.
    return np.frombuffer(sha256("\0".join(texts).encode()).digest(), dtype=np.uint8).astype(np.float64)


def _narrow(action: Indices) -> npt.NDArray[np.int32]:
    return action.astype(np.int32)


def _lengths(inputs: Arrays) -> Indices:
    return np.asarray(inputs["lengths"], dtype=np.intp)


def _repeated(rows: Array, count: int) -> Array:
    return np.asarray(rows, dtype=np.float64)[np.arange(count) % len(rows)]
