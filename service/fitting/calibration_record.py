"""Parts of a version's calibration record: OOD scores, and where the calibration comes from."""

import numpy as np

from service.bundle.manifest import Manifest
from service.bundle.record import ClassThreshold, Provenance, ScoreRecord
from service.core.detector import Detector
from service.core.ood.range import outside
from service.fitting.calibrate import Calibration
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.ood_detectors import Detectors
from service.fitting.splits import FOLDS
from service.runtime.model import Model


def score_records(fitted: Detectors, manifest: Manifest, confidence: float | None) -> dict[str, ScoreRecord]:
    """Every OOD score's threshold and what it rests on."""
    return {d.name: _score_record(d, manifest, fitted, confidence) for d in fitted.detectors}


def provenance(
    model: Model,
    outputs: LabelledOutputs,
    train: LabelledOutputs | None,
    calibration: Calibration,
    *,
    seed: int,
    class_counts: dict[str, int],
    flag_rate: float,
) -> Provenance:
    """Where a calibration comes from: counts, digests, metrics before and out of fold after, warnings."""
    data = outputs.data
    cells = outside(outputs.columns, low=model.chain.low, high=model.chain.high)
    return Provenance(
        rows=len(data),
        class_counts=class_counts,
        groups=None if data.groups is None else data.units,
        weighted=data.weights is not None,
        data_digest=data.digest,
        train_rows=None if train is None else len(train.data),
        train_digest=None if train is None else train.data.digest,
        seed=seed,
        folds=FOLDS,
        before=calibration.before,
        after_out_of_fold=calibration.after,
        range_rate=float(np.any(cells, axis=1).mean()),
        flag_rate=flag_rate,
        warnings=calibration.warnings,
    )


def _score_record(detector: Detector, manifest: Manifest, fitted: Detectors, confidence: float | None) -> ScoreRecord:
    rows = 0 if detector.calibration is None else detector.calibration.n
    return ScoreRecord.model_validate(
        {
            "threshold": detector.threshold,
            "false_alarm": manifest.ood.alpha(detector.name),
            "confidence": confidence,
            "rows": rows,
            "trained_on": fitted.trained_on[detector.name],
            "kept_rows": fitted.kept_rows(detector),
            "band": fitted.bands.get(detector.name),
            "by_class": _class_records(detector, manifest.graph.classes, fitted),
        }
    )


def _class_records(detector: Detector, classes: tuple[str, ...], fitted: Detectors) -> dict[str, ClassThreshold] | None:
    if detector.by_class is None or fitted.class_rows is None:
        return None
    thresholds = zip(
        detector.by_class.thresholds.tolist(), detector.by_class.own, fitted.class_rows.tolist(), strict=True
    )
    found = [ClassThreshold(rows=rows, threshold=value if own else None) for value, own, rows in thresholds]
    return dict(zip(classes, found, strict=True))
