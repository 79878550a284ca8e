"""OOD scores compared on out-of-distribution rows: how well each separates them, and which becomes the default."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import OodCandidateRecord, OodDataRecord
from service.bundle.sections import misread
from service.core.assessment.metrics import separation_score
from service.core.assessment.ranking import fpr_at_tpr, placements, separation_interval
from service.core.numerics import Array, Indices
from service.core.ood import SCORES, Score
from service.core.ood.nll import Nll
from service.core.pipeline import bounded
from service.errors import FitError
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.ood_detectors import TUNED, fit_score, seen_by
from service.fitting.splits import halves, one_per_group
from service.runtime.model import Raw

TEMPERATURES: Final = 10.0 ** (np.arange(-10, 31) / 10.0)  # beyond them the ranking is that of margin, or centred_max
ERRORS = 2.0  # of chance; the best of so many temperatures flatters itself
FEWEST = 10  # rows of either kind that a score is compared on
CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint rows: scores learn from some and are compared on others. Thresholds rest on neither.

    Attributes
    ----------
    learning, held : ndarray
        Two halves of the calibration rows' learning half.
    ood_learning, ood_held : ndarray
        Two halves of the out-of-distribution rows.
    """

    learning: Indices
    held: Indices
    ood_learning: Indices
    ood_held: Indices


@dataclass(frozen=True, slots=True)
class Tuning:
    """The temperature of `nll`, and the reason for it, in words."""

    temperature: float
    reason: str


Refusal = Callable[[str], str | None]
"""Why a model cannot have a score of that name; None where it can."""


def compare_scores(
    manifest: Manifest,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    ood: Raw,
    *,
    refusal: Refusal,
    digest: str,
    seed: int,
) -> OodDataRecord:
    """Compare every score that the model can have, and choose the default where the manifest names none.

    Parameters
    ----------
    manifest : Manifest
    outputs : LabelledOutputs
        Calibration rows.
    train : LabelledOutputs or None
        Rows that scores with state learn from; without them the learning rows.
    ood : Raw
        Outputs for the out-of-distribution rows.
    refusal : callable
    digest : str
        Of the file of these rows.
    seed : int

    Raises
    ------
    FitError
        If there are too few rows of either kind.
    """
    parts = part(outputs, len(ood.logits), seed)
    tuning = tune(outputs.logits[parts.learning], ood.logits[parts.ood_learning])
    fitted, refused = _fitted_scores(
        manifest, outputs, train, parts.learning, refusal=refusal, temperature=tuning.temperature
    )
    scores = {name: _scored(score, name, outputs.raw, ood, parts) for name, score in fitted.items()}
    found = {name: _candidate(*pair) for name, pair in scores.items()}
    chosen, choice = _choose(manifest, found)
    return OodDataRecord(
        rows=len(ood.logits),
        digest=digest,
        evaluated_rows=len(parts.held),
        evaluated_ood_rows=len(parts.ood_held),
        candidates={name: one.model_copy(update={"chosen": name == chosen}) for name, one in found.items()},
        refused=refused,
        temperature=tuning.temperature,
        tuning=tuning.reason,
        choice=choice,
    )


def part(outputs: LabelledOutputs, ood_rows: int, seed: int) -> Split:
    """Split the learning half, and the out-of-distribution rows, into rows to learn from and rows to compare on.

    Thresholds rest on the other half of the calibration rows, so that no choice made here can bias them.

    Raises
    ------
    FitError
        If fewer than `FEWEST` rows of either kind are left to compare on.
    """
    seen = one_per_group(outputs.data, halves(outputs.data, seed)[0], seed)
    rng = np.random.default_rng(seed)
    own, other = rng.permutation(seen), rng.permutation(ood_rows)
    parts = Split(*(np.sort(rows) for rows in (*np.array_split(own, 2), *np.array_split(other, 2))))
    if min(len(parts.held), len(parts.ood_held)) < FEWEST:
        raise FitError(
            f"--ood-data needs {2 * FEWEST} rows, of {4 * FEWEST} calibration rows (or groups), to learn from some and "
            f"compare by others; there are {ood_rows} and {outputs.data.units}. Nothing was published"
        )
    return parts


def tune(in_distribution: Array, ood: Array) -> Tuning:
    """Temperature at which `nll` separates out-of-distribution rows best, if chance does not explain the gain.

    Parameters
    ----------
    in_distribution, ood : ndarray of shape (N, K) and (M, K)
        Logits, or log-probabilities.
    """
    if in_distribution.shape[1] == 2:
        return Tuning(1.0, "nll keeps T = 1: of two classes every temperature ranks the rows alike")
    aurocs = np.array([separation_score(*_nll(in_distribution, ood, t)) for t in TEMPERATURES])
    best = np.flatnonzero(aurocs >= aurocs.max() - 1e-12)
    t = float(TEMPERATURES[best[np.abs(np.log(TEMPERATURES[best])).argmin()]])
    gain, noise = _gain(_nll(in_distribution, ood, t), _nll(in_distribution, ood, 1.0))
    if gain <= ERRORS * noise:
        return Tuning(1.0, "nll keeps T = 1: no other temperature is better beyond two standard errors")
    return Tuning(
        t, f"nll has T = {t:.3g}, tuned on {len(in_distribution)} calibration and {len(ood)} out-of-distribution rows"
    )


def _fitted_scores(
    manifest: Manifest,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    learning: Indices,
    *,
    refusal: Refusal,
    temperature: float,
) -> tuple[dict[str, Score], dict[str, str]]:
    """Scores that have learned, and the reason why others cannot. Scores of other tasks are left out."""
    fitted: dict[str, Score] = {}
    refused: dict[str, str] = {}
    for name in (name for name in SCORES if misread(name, manifest.graph.task) is None):
        if (reason := refusal(name)) is not None:
            refused[name] = reason
            continue
        try:
            fitted[name] = fit_score(name, outputs, train, learning, temperature=temperature)
        except ValueError as error:
            refused[name] = f"{name!r} cannot learn from so few rows: {error}"
    return fitted, refused


def _scored(score: Score, name: str, own: Raw, ood: Raw, parts: Split) -> tuple[Array, Array]:
    in_scores = score.score(seen_by(name, own)[parts.held])
    ood_scores = score.score(seen_by(name, ood)[parts.ood_held])
    return bounded(in_scores), bounded(ood_scores)


def _candidate(in_scores: Array, ood_scores: Array) -> OodCandidateRecord:
    low, high = separation_interval(in_scores, ood_scores)
    return OodCandidateRecord(
        auroc=separation_score(in_scores, ood_scores),
        low=low,
        high=high,
        fpr95_ood_positive=fpr_at_tpr(in_scores, ood_scores, positive="out"),
        fpr95_id_positive=fpr_at_tpr(in_scores, ood_scores, positive="in"),
        chosen=False,
    )


def _choose(manifest: Manifest, found: dict[str, OodCandidateRecord]) -> tuple[str | None, str]:
    ood = manifest.ood
    if ood.names_scores:
        return None, "reported only: the manifest names the scores"
    candidates = [name for name in found if not ood.looks_at_tensor or SCORES[name].needs == "features"]
    best = max(candidates, key=lambda name: found[name].auroc)  # of equals the first of the registry
    if found[best].low > CHANCE:
        among = f"the scores that look at {ood.space!r}" if ood.looks_at_tensor else "all"
        return best, f"{best} is the default: it separates these rows best of {among}"
    usual = best if ood.looks_at_tensor else None
    reason = (
        f"{usual or TUNED} is the default, as no score separates these rows from the calibration rows beyond chance"
    )
    return usual, reason


def _nll(in_distribution: Array, ood: Array, temperature: float) -> tuple[Array, Array]:
    score = Nll(np.array(temperature))
    return score.score(in_distribution), score.score(ood)


def _gain(tuned: tuple[Array, Array], usual: tuple[Array, Array]) -> tuple[float, float]:
    """Difference of two AUROCs, and its standard error (DeLong)."""
    in_gain, ood_gain = (a - b for a, b in zip(placements(*tuned), placements(*usual), strict=True))
    variance = in_gain.var() / len(in_gain) + ood_gain.var() / len(ood_gain)
    return float(ood_gain.mean()), float(np.sqrt(variance))
