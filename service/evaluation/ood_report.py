"""OOD scores and flags of labelled rows, and of out-of-distribution data where there is some."""

import math
from dataclasses import dataclass

import numpy as np

from service.core.assessment.metrics import separation_score
from service.core.assessment.ranking import area_under_precision_recall, detection_error, fpr_at_tpr
from service.core.detector import Detector
from service.core.intervals import highest_share
from service.core.numerics import Array
from service.core.pipeline import Posterior
from service.core.sampling import effective_rows
from service.evaluation.classification_problem import LabelledAnswer, SampleDesign
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """One OOD score; None where there is no threshold or no OOD data.

    Attributes
    ----------
    threshold : float or None
        That of all rows.
    flag_rate, ood_flag_rate : float or None
        Share of the labelled rows, and of the OOD data, above it.
    auroc : float or None
        Probability that a row of the OOD data scores above a labelled one.
    fpr95_ood_positive, fpr95_id_positive : float or None
        FPR@95 by both conventions: labelled rows flagged when 95 % of the OOD data are, and OOD data accepted when 95 %
        of the labelled rows are.
    aupr_out, aupr_in : float or None
        Area under precision and recall with the OOD data, and with the labelled rows, as the positive class; it depends
        on the mix.
    detection_error : float or None
        Least error of any threshold, were both kinds equally frequent.
    class_thresholds : dict of str to float, or None
        What applies in place of ``threshold``, by predicted class.
    """

    threshold: float | None
    flag_rate: float | None
    ood_flag_rate: float | None = None
    auroc: float | None = None
    fpr95_ood_positive: float | None = None
    fpr95_id_positive: float | None = None
    aupr_out: float | None = None
    aupr_in: float | None = None
    detection_error: float | None = None
    class_thresholds: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class OodReport:
    """Flags of rows (of sequences as a whole), and the scores behind them.

    Attributes
    ----------
    rows : int
        Rows that were evaluated.
    flagged : int or None
        Labelled rows that the gate flags; None without a calibration.
    flag_rate : float or None
        Their share, by weight.
    expected_flag_rate, flag_rate_limit : float or None
        The false-alarm rate of the gate's scores, and the highest share that chance allows at that rate.
    limit_reason : str or None
        Why they are None: "uncalibrated" or "rules_only".
    range_rate : float
        Share of the labelled rows with a value outside its plausible range.
    ood_rows : int
        Rows of the OOD data.
    ood_flag_rate : float or None
        Share of them that the gate flags.
    gate : list of str
        Scores and rules that flag a row.
    scores : dict of str to ScoreReport
        Every score, by name.
    """

    rows: int
    flagged: int | None
    flag_rate: float | None
    expected_flag_rate: float | None
    flag_rate_limit: float | None
    limit_reason: str | None
    range_rate: float
    ood_rows: int
    ood_flag_rate: float | None
    gate: list[str]
    scores: dict[str, ScoreReport]


def ood_report(labelled: LabelledAnswer) -> OodReport:
    """How often rows are flagged, and how well scores separate OOD data from the labelled rows.

    Parameters
    ----------
    labelled : LabelledAnswer
    """
    model, posterior, ood = labelled.answer.model, labelled.answer.posterior, labelled.ood_posterior
    sample = SampleDesign.of(labelled.weights, labelled.groups)
    flags = posterior.flagged
    expected, limit, reason = flag_limits(model, posterior, sample)
    return OodReport(
        rows=len(posterior.logits),
        flagged=None if flags is None else int(flags.sum()),
        flag_rate=rate(flags, weights=sample.weights),
        expected_flag_rate=expected,
        flag_rate_limit=limit,
        limit_reason=reason,
        range_rate=float(np.average(np.any(posterior.outside, axis=1), weights=sample.weights)),
        ood_rows=0 if ood is None else len(ood.logits),
        ood_flag_rate=None if ood is None else rate(ood.flagged),
        gate=list(model.manifest.ood.gate_members),
        scores={d.name: _score(i, d, labelled, sample) for i, d in enumerate(model.chain.detectors)},
    )


def flag_limits(
    model: Model, posterior: Posterior, sample: SampleDesign
) -> tuple[float | None, float | None, str | None]:
    """False-alarm rate of the gate's scores, the highest share that chance allows, and why there is none.

    Parameters
    ----------
    model : Model
    posterior : Posterior
    sample : SampleDesign
    """
    ood = model.manifest.ood
    if not ood.gate_scores:
        return None, None, "uncalibrated" if posterior.flagged is None else "rules_only"
    if posterior.flagged is None:
        return ood.false_alarm, None, "uncalibrated"
    references = [d.calibration.n for d in model.chain.detectors if d.gated and d.calibration is not None]
    limit = highest_flag_rate(
        len(posterior.logits), ood.false_alarm, calibrated_on=min(references, default=0), sample=sample
    )
    return ood.false_alarm, limit, None


def highest_flag_rate(rows: int, expected: float, *, calibrated_on: int, sample: SampleDesign) -> float:
    """The highest share of flagged rows that chance allows.

    Parameters
    ----------
    rows : int
    expected : float
        False-alarm rate.
    calibrated_on : int
        Rows that the threshold rests on: it is noisy too.
    sample : SampleDesign
    """
    effective = effective_rows(rows, weights=sample.weights, groups=sample.groups)
    return highest_share(max(1, math.floor(effective + 1e-9)), expected, calibrated_on=max(calibrated_on, 1))


def rate(flags: np.ndarray | None, *, weights: Array | None = None) -> float | None:
    """Share that is set, by the rows' weights; None where nothing is flagged for want of a calibration."""
    return None if flags is None else float(np.average(flags, weights=weights))


def _score(i: int, detector: Detector, labelled: LabelledAnswer, sample: SampleDesign) -> ScoreReport:
    posterior, ood, weights = labelled.answer.posterior, labelled.ood_posterior, sample.weights
    by_class = detector.by_class
    classes = labelled.answer.model.classes
    thresholds = None if by_class is None else dict(zip(classes, by_class.thresholds.tolist(), strict=True))
    flag_rate = rate(None if posterior.flags is None else posterior.flags[:, i], weights=weights)
    if ood is None:
        return ScoreReport(detector.threshold, flag_rate, class_thresholds=thresholds)
    ood_flag_rate = rate(None if ood.flags is None else ood.flags[:, i])
    known, unknown = posterior.scores[:, i], ood.scores[:, i]
    return ScoreReport(
        detector.threshold,
        flag_rate,
        ood_flag_rate,
        separation_score(known, unknown, weights=weights),
        fpr_at_tpr(known, unknown, positive="out", weights=weights),
        fpr_at_tpr(known, unknown, positive="in", weights=weights),
        area_under_precision_recall(known, unknown, positive="out", weights=weights),
        area_under_precision_recall(known, unknown, positive="in", weights=weights),
        detection_error(known, unknown, weights=weights),
        thresholds,
    )
