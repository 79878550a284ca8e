"""Out-of-distribution scores fitted and given their thresholds."""

from dataclasses import dataclass

import numpy as np

from service.bundle.manifest import Manifest
from service.core import conformal
from service.core.numerics import Array, Indices
from service.core.ood import SCORES, Score
from service.core.pipeline import Detector
from service.errors import FitError
from service.evaluation.dataset import Dataset
from service.runtime.model import Raw


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows with what the graph makes of them."""

    data: Dataset
    raw: Raw

    @property
    def logits(self) -> Array:
        """Raw logits, shape (N, K)."""
        return self.raw.logits

    @property
    def columns(self) -> Array:
        """Inputs with a plausible range, shape (N, F)."""
        return self.raw.columns

    @property
    def features(self) -> Array:
        """What feature scores look at, shape (N, D)."""
        return self.raw.features


@dataclass(frozen=True, slots=True)
class Detectors:
    """Scores with thresholds.

    Attributes
    ----------
    detectors : tuple of Detector
    trained_on : dict of str to str
        What each score's state was learned from.
    rows : ndarray of shape (M,)
        Which calibration rows the thresholds rest on.
    """

    detectors: tuple[Detector, ...]
    trained_on: dict[str, str]
    rows: Indices


def fit_detectors(
    manifest: Manifest, judged: Judged, train: Judged | None, *, seed: int, confidence: float | None = None
) -> Detectors:
    """Learn every configured score, and its threshold from rows it did not learn from.

    Parameters
    ----------
    manifest : Manifest
    judged : Judged
        Calibration rows.
    train : Judged or None
        Rows that scores with state learn from; without them a seeded half of the calibration rows.
    seed : int
    confidence : float, optional
        Makes every threshold hold its false-alarm rate for these very rows with this probability, not on average.

    Raises
    ------
    FitError
        If there are fewer rows than a false-alarm rate needs.
    """
    stateful = any(SCORES[name].stateful for name in manifest.ood.scores)
    learning, held = _halves(judged.data, seed) if stateful and train is None else (None, np.arange(len(judged.data)))
    held = _one_per_group(judged.data, held, seed)
    detectors: list[Detector] = []
    trained_on: dict[str, str] = {}
    for name in manifest.ood.scores:
        score = _fit_score(name, judged, train, learning)
        values = judged.features if score.needs == "features" else judged.logits
        calibration = conformal.reference(score.score(values[held]))
        gated = name in manifest.ood.gate_members
        detectors.append(Detector(name, score, calibration, _threshold(name, calibration, manifest, confidence), gated))
        trained_on[name] = _training_source(score, train)
    return Detectors(tuple(detectors), trained_on, held)


def _fit_score(name: str, judged: Judged, train: Judged | None, learning: Indices | None) -> Score:
    kind = SCORES[name]
    rows = train or judged
    chosen = np.arange(len(rows.data)) if learning is None else learning
    values = rows.features if kind.needs == "features" else rows.logits
    return kind.fit(values[chosen], rows.data.labels[chosen], logits=rows.logits[chosen])


def _threshold(name: str, calibration: conformal.Reference, manifest: Manifest, confidence: float | None) -> float:
    try:
        return conformal.threshold(calibration, alpha=manifest.ood.alpha(name), confidence=confidence)
    except ValueError as error:
        raise FitError(f"the threshold of {name!r}: {error}. Nothing was published") from None


def _halves(data: Dataset, seed: int) -> tuple[Indices, Indices]:
    units = data.units
    chosen = np.random.default_rng(seed).permutation(units) < units // 2
    learning = chosen if data.groups is None else chosen[data.groups]
    return np.flatnonzero(learning), np.flatnonzero(~learning)


def _one_per_group(data: Dataset, rows: Indices, seed: int) -> Indices:
    if data.groups is None:
        return rows
    # Rows of one patient are not exchangeable with those of another; one drawn from each is.
    shuffled = np.random.default_rng(seed).permutation(rows)
    return np.sort(shuffled[np.unique(data.groups[shuffled], return_index=True)[1]])


def _training_source(score: Score, train: Judged | None) -> str:
    if not score.stateful:
        return "nothing"
    return "half_of_calibration_rows" if train is None else "train_data"
