"""Out-of-distribution scores fitted and given their thresholds."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import BandRecord
from service.bundle.scores import pack_score, state_bytes
from service.bundle.state import State
from service.core import conformal, mondrian
from service.core.detector import Detector, predicted_class
from service.core.numerics import Array, Indices
from service.core.ood import SCORES, Score
from service.core.ood.features import STATE_BYTES
from service.core.ood.knn import Knn
from service.core.ood.nll import Nll
from service.core.pipeline import bounded
from service.core.score_ties import ROUNDING
from service.errors import FitError
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.numerical_noise import Noise, Plain
from service.fitting.splits import halves, one_per_group
from service.runtime.model import Raw

TUNED: Final = "nll"
"""The score with a temperature of its own."""

MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Detectors:
    """OOD scores with thresholds.

    Attributes
    ----------
    detectors : tuple of Detector
    trained_on : dict of str to str
        What each score's state was learned from.
    rows : ndarray of shape (M,)
        Which calibration rows the thresholds rest on.
    learned_rows : int
        How many rows scores with state learned from.
    class_rows : ndarray of shape (K,) or None
        How many of ``rows`` were predicted to be each class, where thresholds go by it.
    bands : dict of str to BandRecord
        Of every score, where the model's noise was measured.
    """

    detectors: tuple[Detector, ...]
    trained_on: dict[str, str]
    rows: Indices
    learned_rows: int
    class_rows: Indices | None
    bands: dict[str, BandRecord] = field(default_factory=dict)

    def kept_rows(self, detector: Detector) -> int | None:
        """How many rows a bank that could not hold all of them holds; None for any other score."""
        score = detector.score
        return len(score.bank) if isinstance(score, Knn) and len(score.bank) < self.learned_rows else None


@dataclass(frozen=True, slots=True)
class Terms:
    """How scores are fitted and thresholds drawn.

    Attributes
    ----------
    seed : int
    confidence : float or None
        Makes every threshold hold its false-alarm rate for these very rows with this probability, not on average.
    temperature : float
        Of `nll`.
    apart : bool
        Whether thresholds rest on the other half even where no score has state, because the temperature or the
        choice of the score was learned on the first half.
    noise : Noise or None
        How much a score may differ between batches; None: rounding of the arithmetic alone.
    """

    seed: int
    confidence: float | None = None
    temperature: float = 1.0
    apart: bool = False
    noise: Noise | None = None


def seen_by(name: str, raw: Raw) -> Array:
    """The input of a score: features, shape (N, D), or logits, shape (N, K)."""
    return raw.features if SCORES[name].needs == "features" else raw.logits


def plain_of(name: str, score: Score) -> Plain:
    """The score of every row as thresholds rest on it: all rows at once, in float64."""
    return lambda raw: bounded(score.score(seen_by(name, raw)))


def _learn_rows(name: str, outputs: LabelledOutputs, rows: Indices) -> Score:
    values = seen_by(name, outputs.raw)
    return SCORES[name].fit(values[rows], outputs.data.labels[rows], logits=outputs.logits[rows])


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a row is for a score.

    Attributes
    ----------
    learn : callable
        The score of a name, learned from some rows.
    plain : callable
        The score of every row, for a fitted one.
    """

    learn: Callable[[str, LabelledOutputs, Indices], Score] = _learn_rows
    plain: Callable[[str, Score], Plain] = plain_of


BY_ROW: Final = Scoring()


def fit_detectors(
    manifest: Manifest,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    terms: Terms,
    *,
    scoring: Scoring = BY_ROW,
) -> Detectors:
    """Learn every configured score, and its threshold from rows it did not learn from.

    Parameters
    ----------
    manifest : Manifest
    outputs : LabelledOutputs
        Calibration rows.
    train : LabelledOutputs or None
        Rows that scores with state learn from; without them a seeded half of the calibration rows.
    terms : Terms

    Raises
    ------
    FitError
        If there are fewer rows than a false-alarm rate or a score needs, or the state of the scores is too large for
        a bundle.
    """
    stateful = any(SCORES[name].stateful for name in manifest.ood.scores) and train is None
    all_rows = np.arange(len(outputs.data))
    learning, held = halves(outputs.data, terms.seed) if stateful or terms.apart else (all_rows, all_rows)
    held = one_per_group(outputs.data, held, terms.seed)
    raw, detectors, bands = outputs.raw.part(held), list[Detector](), dict[str, BandRecord]()
    for name in manifest.ood.scores:
        score = _learned(name, outputs, train, learning, terms, scoring=scoring)
        bare = Detector(name, score, None, None, gated=name in manifest.ood.gate_members)
        detectors.append(with_thresholds(bare, scoring.plain(name, score), raw, manifest, terms, bands=bands))
    refuse_large(tuple(detectors))
    trained_on = {name: _training_source(name, train, terms.temperature) for name in manifest.ood.scores}
    learned_rows = len(learning) if train is None else len(train.data)
    class_rows = _rows_by_class(raw.logits) if manifest.ood.per_class else None
    return Detectors(tuple(detectors), trained_on, held, learned_rows, class_rows, bands)


def fit_score(
    name: str,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    learning: Indices,
    *,
    temperature: float = 1.0,
    scoring: Scoring = BY_ROW,
) -> Score:
    """A score that has learned from ``train``, or else from some of the calibration rows.

    Raises
    ------
    ValueError
        If the rows are too few for it.
    """
    if name == TUNED:
        return Nll(np.array(temperature))
    if train is not None:
        return scoring.learn(name, train, np.arange(len(train.data)))
    return scoring.learn(name, outputs, learning)


def _learned(
    name: str,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    learning: Indices,
    terms: Terms,
    *,
    scoring: Scoring,
) -> Score:
    try:
        return fit_score(name, outputs, train, learning, temperature=terms.temperature, scoring=scoring)
    except ValueError as error:
        source = "half of --data" if train is None else "--train-data"
        raise FitError(
            f"{name!r} cannot learn from {source}: {error}. Give more rows, or list other [ood] scores. "
            "Nothing was published"
        ) from None


def refuse_large(detectors: tuple[Detector, ...]) -> None:
    """Raise FitError if the scores' state is more than a bundle may hold."""
    sizes = state_bytes(packed(detectors), [d.name for d in detectors])
    if sum(sizes.values()) <= STATE_BYTES:
        return
    parts = ", ".join(f"{name} {size / MEBIBYTE:.1f}" for name, size in sizes.items())
    raise FitError(
        f"what the scores learned takes {sum(sizes.values()) / MEBIBYTE:.1f} MiB ({parts}), and a bundle holds at most "
        f"{STATE_BYTES / MEBIBYTE:g}: list fewer [ood] scores, or look at a narrower space. Nothing was published"
    )


def packed(detectors: tuple[Detector, ...]) -> State:
    """Arrays of `state.npz` for all scores."""
    parts = [pack_score(d.name, d.score, d.calibration, d.by_class) for d in detectors if d.calibration is not None]
    return {key: array for part in parts for key, array in part.items()}


def with_thresholds(
    bare: Detector, plain: Plain, raw: Raw, manifest: Manifest, terms: Terms, *, bands: dict[str, BandRecord]
) -> Detector:
    """A score with its threshold at its share of the false-alarm rate.

    The band of rounding around the threshold is added to ``bands``, where the model's noise was measured.

    Raises
    ------
    FitError
        If the rows are too few for it.
    """
    alpha, scores = manifest.ood.alpha(bare.name), plain(raw)
    reach = ROUNDING.widths(scores) if terms.noise is None else terms.noise.reach(bare, plain, raw)
    among = conformal.reference(scores, band=reach)
    try:
        usual = conformal.threshold(among, alpha=alpha, confidence=terms.confidence)
    except ValueError as error:
        raise FitError(f"the threshold of {bare.name!r}: {error}. Nothing was published") from None
    tie = terms.noise.tie(raw.logits) if terms.noise is not None and manifest.ood.per_class else 0.0
    if terms.noise is not None:
        at = np.argmax(np.where(scores <= usual, scores, -np.inf))
        bands[bare.name] = terms.noise.record(bare, float(reach[at]), tie)
    if not manifest.ood.per_class:
        return dataclasses.replace(bare, calibration=among, threshold=usual)
    groups = mondrian.references_by_class(
        scores, predicted_class(raw.logits), classes=len(manifest.graph.classes), band=reach
    )
    thresholds = mondrian.thresholds_by_class(groups, alpha=alpha, confidence=terms.confidence)
    by_class = mondrian.with_fallback(groups, thresholds, among=among, usual=usual)
    return dataclasses.replace(bare, calibration=among, threshold=usual, by_class=by_class, tie=tie)


def _rows_by_class(logits: Array) -> Indices:
    return np.bincount(predicted_class(logits), minlength=logits.shape[1])


def _training_source(name: str, train: LabelledOutputs | None, temperature: float) -> str:
    """What a score learned from, as the record names it."""
    if name == TUNED and temperature != 1.0:
        return "ood_data"
    if not SCORES[name].stateful:
        return "nothing"
    return "half_of_calibration_rows" if train is None else "train_data"
