"""OOD scores compete on rows from elsewhere: how well each tells them apart, and which becomes a model's default."""

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
from service.fitting.ood_detectors import TUNED, Judged, fit_score, halves, one_per_group, seen_by
from service.runtime.model import Raw

TEMPERATURES: Final = 10.0 ** (np.arange(-10, 31) / 10.0)  # beyond them the ranking is that of margin, or centred_max
ERRORS = 2.0  # of chance; the best of so many temperatures flatters itself
FEWEST = 10  # rows of either kind that a score is judged on
CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Parts:
    """Disjoint rows: what learns never judges, and neither is what thresholds rest on.

    Attributes
    ----------
    learning, judging : ndarray
        Two halves of the calibration rows' learning half.
    ood_learning, ood_judging : ndarray
        Two halves of the rows from elsewhere.
    """

    learning: Indices
    judging: Indices
    ood_learning: Indices
    ood_judging: Indices


@dataclass(frozen=True, slots=True)
class Tuning:
    """The temperature of `nll`, and how it came about, in words."""

    temperature: float
    reason: str


Refusal = Callable[[str], str | None]
"""Why a model cannot have a score of that name; None where it can."""


def compare_scores(
    manifest: Manifest,
    judged: Judged,
    train: Judged | None,
    strangers: Raw,
    *,
    refusal: Refusal,
    digest: str,
    seed: int,
) -> OodDataRecord:
    """Judge every score that the model can have, and choose the default where the manifest leaves it open.

    Parameters
    ----------
    manifest : Manifest
    judged : Judged
        Calibration rows.
    train : Judged or None
        Rows that scores with state learn from; without them the learning rows.
    strangers : Raw
        Rows of another population.
    refusal : callable
    digest : str
        Of the file that holds them.
    seed : int

    Raises
    ------
    FitError
        If there are too few rows of either kind.
    """
    parts = part(judged, len(strangers.logits), seed)
    tuning = tune(judged.logits[parts.learning], strangers.logits[parts.ood_learning])
    fitted, refused = _rivals(manifest, judged, train, parts.learning, refusal=refusal, temperature=tuning.temperature)
    scores = {name: _scored(score, name, judged.raw, strangers, parts) for name, score in fitted.items()}
    found = {name: _candidate(*pair) for name, pair in scores.items()}
    chosen, choice = _choose(manifest, found)
    return OodDataRecord(
        rows=len(strangers.logits),
        digest=digest,
        judged_rows=len(parts.judging),
        judged_ood_rows=len(parts.ood_judging),
        candidates={name: one.model_copy(update={"chosen": name == chosen}) for name, one in found.items()},
        refused=refused,
        temperature=tuning.temperature,
        tuning=tuning.reason,
        choice=choice,
    )


def part(judged: Judged, strangers: int, seed: int) -> Parts:
    """Split the learning half, and the rows from elsewhere, into rows that learn and rows that judge.

    Thresholds rest on the other half of the calibration rows, so that no choice made here can bend them.

    Raises
    ------
    FitError
        If fewer than `FEWEST` rows of either kind are left to judge.
    """
    seen = one_per_group(judged.data, halves(judged.data, seed)[0], seed)
    rng = np.random.default_rng(seed)
    own, other = rng.permutation(seen), rng.permutation(strangers)
    parts = Parts(*(np.sort(rows) for rows in (*np.array_split(own, 2), *np.array_split(other, 2))))
    if min(len(parts.judging), len(parts.ood_judging)) < FEWEST:
        raise FitError(
            f"--ood-data needs {2 * FEWEST} rows, of {4 * FEWEST} calibration rows (or groups), to learn from some and "
            f"judge by others; there are {strangers} and {judged.data.units}. Nothing was published"
        )
    return parts


def tune(inside: Array, outside: Array) -> Tuning:
    """Temperature at which `nll` tells rows from elsewhere apart best, if chance does not explain what it gains.

    Parameters
    ----------
    inside, outside : ndarray of shape (N, K) and (M, K)
        Logits, or log-probabilities.
    """
    if inside.shape[1] == 2:
        return Tuning(1.0, "nll keeps T = 1: of two classes every temperature ranks the rows alike")
    aurocs = np.array([separation_score(*_nll(inside, outside, t)) for t in TEMPERATURES])
    best = np.flatnonzero(aurocs >= aurocs.max() - 1e-12)
    t = float(TEMPERATURES[best[np.abs(np.log(TEMPERATURES[best])).argmin()]])
    gain, noise = _gain(_nll(inside, outside, t), _nll(inside, outside, 1.0))
    if gain <= ERRORS * noise:
        return Tuning(1.0, "nll keeps T = 1: no other temperature is better beyond two standard errors")
    return Tuning(t, f"nll has T = {t:.3g}, tuned on {len(inside)} calibration rows and {len(outside)} from elsewhere")


def _rivals(
    manifest: Manifest,
    judged: Judged,
    train: Judged | None,
    learning: Indices,
    *,
    refusal: Refusal,
    temperature: float,
) -> tuple[dict[str, Score], dict[str, str]]:
    """Scores that have learned, and why others cannot be had; those for other tasks are no rivals at all."""
    fitted: dict[str, Score] = {}
    refused: dict[str, str] = {}
    for name in (name for name in SCORES if misread(name, manifest.graph.task) is None):
        if (reason := refusal(name)) is not None:
            refused[name] = reason
            continue
        try:
            fitted[name] = fit_score(name, judged, train, learning, temperature=temperature)
        except ValueError as error:
            refused[name] = f"{name!r} cannot learn from so few rows: {error}"
    return fitted, refused


def _scored(score: Score, name: str, own: Raw, strangers: Raw, parts: Parts) -> tuple[Array, Array]:
    inside = score.score(seen_by(name, own)[parts.judging])
    outside = score.score(seen_by(name, strangers)[parts.ood_judging])
    return bounded(inside), bounded(outside)


def _candidate(inside: Array, outside: Array) -> OodCandidateRecord:
    low, high = separation_interval(inside, outside)
    return OodCandidateRecord(
        auroc=separation_score(inside, outside),
        low=low,
        high=high,
        fpr95_ood_positive=fpr_at_tpr(inside, outside, positive="out"),
        fpr95_id_positive=fpr_at_tpr(inside, outside, positive="in"),
        chosen=False,
    )


def _choose(manifest: Manifest, found: dict[str, OodCandidateRecord]) -> tuple[str | None, str]:
    ood = manifest.ood
    if ood.names_scores:
        return None, "reported only: the manifest names the scores"
    rivals = [name for name in found if not ood.looks_at_tensor or SCORES[name].needs == "features"]
    best = max(rivals, key=lambda name: found[name].auroc)  # of equals the first of the registry
    if found[best].low > CHANCE:
        among = f"the scores that look at {ood.space!r}" if ood.looks_at_tensor else "all"
        return best, f"{best} is the default: it tells these rows apart best of {among}"
    usual = best if ood.looks_at_tensor else None
    said = f"{usual or TUNED} is the default, as no score tells these rows from the calibration rows beyond chance"
    return usual, said


def _nll(inside: Array, outside: Array, temperature: float) -> tuple[Array, Array]:
    score = Nll(np.array(temperature))
    return score.score(inside), score.score(outside)


def _gain(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[float, float]:
    """By how much the first pair's AUROC is larger, and the standard error of that (DeLong)."""
    of_inside, of_outside = (a - b for a, b in zip(placements(*one), placements(*other), strict=True))
    variance = of_inside.var() / len(of_inside) + of_outside.var() / len(of_outside)
    return float(of_outside.mean()), float(np.sqrt(variance))
