"""Synthetic vectors for the self-test of a version's stages, on both sides of whatever decides.

No row of any data set is among them. Of features they know means and spread alone.

Tested in `tests/fitting/test_self_test.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.bundle.stage_test import StageTest
from service.bundle.state import State
from service.core.calibration import Map
from service.core.calibration.histogram import Histogram
from service.core.calibration.isotonic import Isotonic
from service.core.conformal import Reference
from service.core.decision import LOWEST_RISK, TIE_TOLERANCE
from service.core.detector import Detector
from service.core.multilabel import PerLabel
from service.core.numerics import MANY_CLASSES, Array, Flags, width
from service.core.pipeline import Policy, Posterior, choose
from service.core.sequence import flat, lengths_of
from service.runtime.stage_answers import Stages, declared_answers, learned_answers, limits_of, members_of

CELLS: Final = 4096
"""Logits, features or probabilities of one kind: what is stored stays some 10 KB, and is bounded for many classes."""
FEWEST, MOST = 8, 48
POSITIONS: Final = 6
BUMPS: Final = np.geomspace(1e-3, 3e5, 49)
"""Heights of one logit above the others: some of them leave its probability between 0 and 1 at any temperature."""
SHARES: Final = (0.3, 0.5, 0.75, 0.93)
GAP: Final = 1e-6
"""From an edge, relative to 1 + its size: more than any tie band of a cost, and more than rounding of a score."""
ROUNDING: Final = 1e-13
COARSE: Final = 1e-7
KNOTS: Final = 12
MOST_COLUMNS: Final = 4096


@dataclass(frozen=True, slots=True)
class Spread:
    """Where features lie.

    Attributes
    ----------
    center, scale : ndarray of shape (D,)
        Mean and standard deviation of each; one that does not vary has 1.
    classes : ndarray of shape (C, D)
        Means of the classes that have rows; none where a row is not of one class.
    """

    center: Array
    scale: Array
    classes: Array

    @classmethod
    def of(cls, features: Array, labels: npt.NDArray[Any]) -> "Spread":
        """That of N rows, shape (N, D), with their labels."""
        center, scale = np.nan_to_num(features.mean(axis=0)), np.nan_to_num(features.std(axis=0))
        present = np.unique(labels) if labels.ndim == 1 else ()
        means = [np.nan_to_num(features[labels == k].mean(axis=0)) for k in present]
        return cls(center, np.where(scale > 0.0, scale, 1.0), np.array(means).reshape(-1, len(center)))

    @classmethod
    def behind(cls, vectors: Array) -> "Spread":
        """About that which feature vectors of another self-test were drawn by, shape (V, D): no rows are at hand."""
        count = _feature_count(vectors.shape[1])
        around, near = vectors[:count], vectors[count:]
        center = np.median(around, axis=0)
        scale = np.median(np.abs(around - center), axis=0)
        return cls(center, np.where(scale > 0.0, scale, 1.0), near)


@dataclass(frozen=True, slots=True)
class Trial:
    """Stages, and features that go with any logits."""

    stages: Stages
    spread: Spread | None

    def posterior(self, rows: Array) -> Posterior:
        """Stages A to C of logits (N, K) or (N, M); of sequences every row is a position alone."""
        if self.stages.sequential:
            return self.stages.posterior({"logits": rows[:, None], "lengths": np.ones(len(rows), dtype=np.intp)})
        seen = {} if self.spread is None else {"features": self.spread.center[None]}
        return self.stages.posterior({"logits": rows} | seen)


def learned_test(stages: Stages, spread: Spread | None) -> StageTest:
    """Vectors for stages A to C, label sets and smoothing, and what is answered to them now.

    Parameters
    ----------
    stages : Stages
        As fitted.
    spread : Spread or None
        Where features lie, where a score looks at them.
    """
    rng, trial = np.random.default_rng(0), Trial(stages, spread)
    rows = _label_logits(trial, rng) if stages.by_label else _class_logits(trial, rng)
    stored = rows.astype(np.float32)
    inputs: State = _sequences(stored) if stages.sequential else {"logits": stored}
    if spread is not None:
        inputs["features"] = _features(spread, rng)
    if stages.chain.calibrated and stages.chain.detectors:
        inputs |= _scores(stages.chain.detectors)
    near = [_shaken(inputs, step) for step in _steps(stages)]
    answers = [learned_answers(stages, given) for given in (inputs, *near)]
    return StageTest(inputs, _settled(answers, classes=stages.classes))


def declared_test(stages: Stages, learned: StageTest) -> StageTest:
    """Vectors for ranges, shifts and decisions, and what is answered to them now.

    Parameters
    ----------
    stages : Stages
        With the ranges, sites and policies of the manifest.
    learned : StageTest
    """
    rng = np.random.default_rng(0)
    inputs: State = {}
    low, high = stages.chain.low, stages.chain.high
    if 0 < len(low) <= MOST_COLUMNS and (np.isfinite(low) | np.isfinite(high)).any():
        inputs["columns"] = _columns(low, high)
    for i, policy in enumerate(stages.policies):
        inputs[f"log_probs.{i}"] = _probabilities(policy, rng)
    near = [_shaken(learned.inputs, step) for step in _steps(stages)]
    answers = [declared_answers(stages, inputs, learned=given) for given in (learned.inputs, *near)]
    return StageTest(inputs, _settled(answers, classes=stages.classes))


def _class_logits(trial: Trial, rng: np.random.Generator) -> Array:
    k, calibrator = trial.stages.classes, trial.stages.chain.calibrator
    count = int(np.clip(CELLS // k, FEWEST, MOST))
    chosen = np.linspace(0, k, count, endpoint=False).astype(np.intp) if count < k else np.arange(count) % k
    found = [_nearest(trial, int(c), SHARES[i // k % len(SHARES)], rng) for i, c in enumerate(chosen)]
    rows = _single(np.stack([*found, *list(_knot_logits(calibrator, k))[: CELLS // k]]))
    steady = _steady(trial, rows)
    return rows[steady] if steady.any() else rows[:1]


def _nearest(trial: Trial, at: int, share: float, rng: np.random.Generator) -> Array:
    # One class above the others, by as much as gives it about that share.
    k = trial.stages.classes
    bank = BUMPS[:, None] * (0.3 * rng.normal(size=(2, 1, k))).repeat(len(BUMPS), axis=1)
    bank[:, :, at] += BUMPS
    rows = bank.reshape(-1, k)
    log_probs = trial.posterior(rows).log_probs.reshape(len(rows), -1)
    off = np.abs(np.exp(log_probs[:, at]) - share) + ~_steady(trial, _single(rows))
    return np.asarray(rows[int(off.argmin())])


def _label_logits(trial: Trial, rng: np.random.Generator) -> Array:
    # Every label has one logit of its own, and the others do not matter: one grid serves all.
    grid, labels = np.concatenate([-BUMPS[::-1], [0.0], BUMPS]), trial.stages.classes
    log_probs = trial.posterior(np.repeat(grid[:, None], labels, axis=1)).log_probs
    shares = np.linspace(0.03, 0.97, int(np.clip(CELLS // labels, FEWEST, MOST)))
    off = np.abs(np.exp(log_probs[None, :, :, 1]) - shares[:, None, None])
    rows = np.concatenate([rng.permuted(grid[off.argmin(axis=1)], axis=0), _label_knots(trial.stages.chain.calibrator)])
    rows = _single(rows)
    steady = _steady(trial, rows)
    return rows[steady] if steady.any() else rows[:1]


def _label_knots(calibrator: Map) -> Array:
    # Beside each other: a row holds a side of a knot of every label, as far as the label has knots.
    sides = [_sides(chain.calibrator)[-1] for chain in calibrator.chains] if isinstance(calibrator, PerLabel) else []
    most = max(map(len, sides), default=0)
    columns = [np.resize(own, most) if len(own) else np.zeros(most) for own in sides]
    return np.stack(columns, axis=1) if columns else np.empty((0, 0))


def _knot_logits(calibrator: Map, k: int) -> Iterator[Array]:
    """Rows of which one class has log-odds on either side of a knot or an edge of its curve."""
    for column in zip(*_sides(calibrator), strict=True):
        for at, odds in enumerate(column):
            row = np.zeros(k)
            row[at] = odds + np.log(k - 1)
            yield row


def _single(rows: Array) -> Array:
    # As they are stored.
    return np.asarray(rows.astype(np.float32), dtype=np.float64)


def _sides(calibrator: Map) -> list[Array]:
    # Of every class; a map without knots has none.
    if isinstance(calibrator, Isotonic):
        knots = calibrator.knots
    elif isinstance(calibrator, Histogram):
        knots = calibrator.edges
    else:
        return [np.empty(0), np.empty(0)]
    some = knots[:, np.unique(np.linspace(0, knots.shape[1] - 1, KNOTS).astype(np.intp))]
    gap = 1e-3 * (1.0 + np.abs(some))
    return list(np.concatenate([some - gap, some + gap], axis=1))


def _steady(trial: Trial, rows: Array) -> Flags:
    """Rows to which noise of the size of float32 makes no difference: their sets, thresholds and probabilities."""
    with np.errstate(all="ignore"):
        here, *near = (_decisive(trial, rows * (1.0 + step)) for step in (0.0, GAP, -GAP))
    alike = [np.abs(other - here).max(axis=1, initial=0.0) <= 1e-3 for other in near]
    return np.asarray(np.logical_and.reduce(alike))


def _decisive(trial: Trial, rows: Array) -> Array:
    stages, posterior = trial.stages, trial.posterior(rows)
    parts = [np.exp(posterior.log_probs)]
    if stages.chain.calibrated and stages.chain.detectors:
        seen = flat(posterior.logits, lengths_of(posterior)) if stages.sequential else posterior.logits
        limits = limits_of(stages.chain, seen)
        parts.append(limits / (1.0 + np.abs(limits)))
    parts += [members_of(sets, posterior).astype(np.float64) for sets in stages.sets]
    return np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=1)


def _sequences(rows: npt.NDArray[Any]) -> State:
    count = max(1, len(rows) // POSITIONS)
    whole = np.resize(rows, (count, POSITIONS, rows.shape[1])).copy()
    lengths = POSITIONS - np.arange(count) % POSITIONS
    whole[np.arange(POSITIONS) >= lengths[:, None]] = 0.0
    return {"logits": whole, "lengths": lengths}


def _features(spread: Spread, rng: np.random.Generator) -> Array:
    # Around the mean of all, and near that of each class: a score may look at the class that is nearest alone.
    d = len(spread.center)
    count = _feature_count(d)
    radii = np.geomspace(0.1, 100.0, count)[:, None]
    around = spread.center + spread.scale * radii * rng.normal(size=(count, d))
    near = spread.classes[:count]
    return np.concatenate([around, near + 0.1 * spread.scale * rng.normal(size=near.shape)])


def _feature_count(d: int) -> int:
    return int(np.clip(CELLS // (2 * d), 4, MOST // 2))


def _scores(detectors: tuple[Detector, ...]) -> State:
    columns, found = [], dict[str, npt.NDArray[Any]]()
    for i, detector in enumerate(detectors):
        if detector.calibration is None or detector.threshold is None:
            continue
        columns.append(np.roll(_around(detector.calibration, detector.threshold), i))
        if detector.by_class is not None:
            pairs = zip(detector.by_class.references, detector.by_class.thresholds.tolist(), strict=True)
            sides = np.stack([_around(own, limit) for own, limit in pairs])
            # Of many classes the threshold and one more score, each from both sides.
            found[f"scores.{detector.name}"] = sides if len(sides) <= MANY_CLASSES else sides[:, ::4]
    scores = np.stack(columns, axis=1)
    alone = np.where(np.eye(len(columns), dtype=np.bool_), scores.max(axis=0), scores.min(axis=0))
    return found | {"scores": np.concatenate([scores, alone])}


def _around(reference: Reference, threshold: float) -> Array:
    # Both sides of the threshold, of the ends and of some scores between.
    some = np.unique(np.linspace(0, len(reference.caps) - 1, 7).astype(np.intp))
    edges = np.resize(np.concatenate([[threshold], reference.caps[some]]), 8)
    gap = GAP * (1.0 + np.abs(edges))
    with np.errstate(over="ignore"):
        return np.asarray(np.nan_to_num(np.concatenate([edges - gap, edges + gap])))


def _columns(low: Array, high: Array) -> Array:
    edges = [np.where(np.isfinite(edge), edge, 0.0) for edge in (low, high)]
    sides = [edge + sign * GAP * (1.0 + np.abs(edge)) for edge in edges for sign in (-1.0, 1.0)]
    return np.stack([*sides, 0.5 * edges[0] + 0.5 * edges[1], np.full(len(low), np.nan)])


def _probabilities(policy: Policy, rng: np.random.Generator) -> Array:
    actions, k = policy.cost.shape
    count = int(np.clip(CELLS // (k + actions), 2, MOST // 2))
    bank = np.concatenate([0.98 * np.eye(k)[rng.permutation(k)[:MOST]] + 0.02 / k, rng.dirichlet(np.ones(k), MOST)])
    rows = np.concatenate([rng.dirichlet(np.full(k, 2.0), 2), _boundaries(policy, bank, rng)])
    log_probs: Array = np.log(np.maximum(rows, np.finfo(np.float32).tiny)).astype(width(k))
    clear = _is_clear(policy, log_probs)
    clear[:1] |= not clear.any()
    return log_probs[clear][:count]


def _boundaries(policy: Policy, bank: Array, rng: np.random.Generator) -> Array:
    """Probabilities a little before and behind where the cheapest action changes, shape (B, K)."""
    start, end = bank[rng.permutation(len(bank))], bank[rng.permutation(len(bank))]
    first, last = _cheapest(policy, start), _cheapest(policy, end)
    start, end, first = start[first != last], end[first != last], first[first != last]
    low, high = np.zeros(len(start)), np.ones(len(start))
    for _ in range(40):
        middle = 0.5 * (low + high)
        same = _cheapest(policy, _between(start, end, middle)) == first
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    sides = [_between(start, end, np.clip(at, 0.0, 1.0)) for at in (low - 1e-3, high + 1e-3)]
    return np.asarray(np.stack(sides, axis=1).reshape(-1, bank.shape[1]))


def _between(start: Array, end: Array, at: Array) -> Array:
    return start + at[:, None] * (end - start)


def _cheapest(policy: Policy, rows: Array) -> npt.NDArray[np.intp]:
    return choose(np.log(np.maximum(rows, np.finfo(np.float32).tiny)), policy, flagged=None).least_cost


def _is_clear(policy: Policy, log_probs: Array) -> Flags:
    taken = choose(log_probs, policy, flagged=np.zeros(len(log_probs), dtype=np.bool_))
    stakes = np.exp(log_probs) @ policy.prices.scale
    best = np.partition(taken.risks, 1, axis=1)[:, :2]
    return np.asarray((taken.reason == LOWEST_RISK) & (best[:, 1] - best[:, 0] > 10.0 * TIE_TOLERANCE * stakes))


def _steps(stages: Stages) -> tuple[float, float]:
    size = ROUNDING if width(stages.classes) == np.float64 else COARSE
    return size, -size


def _shaken(inputs: State, step: float) -> State:
    given = {name: np.asarray(inputs[name], dtype=np.float64) for name in ("logits", "features") if name in inputs}
    return inputs | {name: array * (1.0 + step) for name, array in given.items()}


def _settled(answers: list[State], *, classes: int) -> State:
    """Those answers that rounding does not change."""
    here, *near = answers
    return {name: array for name, array in here.items() if all(_is_settled(name, array, n, classes) for n in near)}


def _is_settled(name: str, array: npt.NDArray[Any], near: State, classes: int) -> bool:
    return StageTest({}, {name: array}).departure(near, classes=classes) is None
