"""What answers rest on besides rows and logits, as JSON: enough to compute them again when their version is retired.

What is too large to be written out, sorted scores above all, is there as its SHA-256.

Tested in tests/prediction/test_record_basis.py.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from service.core.detector import Detector
from service.core.numerics import Array
from service.core.pipeline import Policy
from service.prediction.answer_member import Json, ranged
from service.prediction.query import Query
from service.runtime.model import Model
from service.runtime.provider_packages import releases_of

FORMAT: Final = 1
CANONICAL: Final = orjson.OPT_SORT_KEYS


def basis_json(query: Query) -> bytes:
    """The basis of a query's answers, as canonical JSON: sorted keys, no spaces, doubles in their shortest form."""
    model = query.model
    return orjson.dumps(
        {
            "format": FORMAT,
            "title": model.manifest.title,
            "task": model.task,
            "classes": model.classes,
            "output": _output(model),
            "inputs": _inputs(model),
            "calibration": _calibration(model),
            "prevalence": _prevalence(query),
            "ood": _ood(model),
            "policies": _policies(query),
            "label_sets": _label_sets(query),
            "smoother": _smoother(query),
            **_provider(model),
        },
        option=CANONICAL,
    )


def content_digest(arrays: Sequence[Array]) -> str:
    """SHA-256 of arrays, each as little-endian doubles."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return f"sha256:{found.hexdigest()}"


def _output(model: Model) -> Json:
    graph = model.manifest.graph
    return {"name": graph.output, "kind": graph.output_kind, "probability_floor": graph.probability_floor}


def _inputs(model: Model) -> list[Json]:
    features = model.manifest.features
    units = {name: feature.unit for name, feature in features.items() if feature.unit is not None}
    return [
        {"name": entry.name, "columns": entry.cells, "units": {c: units[c] for c in entry.cells if c in units}}
        for entry in model.inputs.entries
    ]


def _calibration(model: Model) -> Json | None:
    record = model.bundle.record
    if record is None:
        return None
    named = {"status", "support", "chain", "inverse", "calibrator", "labels", "sequence", "source"}
    return record.model_dump(mode="json", include=named)


def _prevalence(query: Query) -> Json:
    target = query.target
    varies = target is not None and target.ndim > 1 and query.model.task == "multiclass"
    source = query.model.source
    return {
        "source": None if source is None else source.tolist(),
        "target": None if target is None or varies else target.tolist(),
        "moved": query.stages.target is not None,
    }


def _ood(model: Model) -> Json:
    chain, places = model.chain, ranged(model)
    columns = model.inputs.columns
    return {
        "false_alarm": model.manifest.ood.false_alarm,
        "space": model.manifest.ood.space,
        "gate": [chain.detectors[place].name for place in chain.gate],
        "range_gated": chain.range_gated,
        "plausible": {columns[place]: _bounds(chain.low[place], chain.high[place]) for place in places},
        "scores": {detector.name: _score(detector) for detector in chain.detectors},
    }


def _bounds(low: float, high: float) -> list[float | None]:
    return [float(end) if np.isfinite(end) else None for end in (low, high)]


def _score(detector: Detector) -> Json:
    by_class, calibration = detector.by_class, detector.calibration
    references = [] if calibration is None else [calibration]
    references += [] if by_class is None else list(by_class.references)
    return {
        "threshold": detector.threshold,
        "class_thresholds": None if by_class is None else by_class.thresholds.tolist(),
        "tie": detector.tie,
        "calibration_scores": content_digest([reference.scores for reference in references]) if references else None,
    }


def _policies(query: Query) -> list[Json]:
    labels = query.stages.labels or (None,) * len(query.stages.chosen)
    return [_policy(policy, label) for policy, label in zip(query.stages.chosen, labels, strict=True)]


def _policy(policy: Policy, label: str | None) -> Json:
    return {
        "name": policy.name,
        "source": policy.source,
        "label": label,
        "actions": policy.actions,
        "costs": None if policy.cost.ndim > 2 else policy.cost.tolist(),
        "on_ood": None if policy.on_ood is None else policy.actions[policy.on_ood],
        "switch": policy.switch,
        **({} if policy.ties == 1.0 else {"ties": policy.ties}),
    }


def _provider(model: Model) -> Json:
    """What ran the graph, where it was not the CPU, and how far it was from it when it was loaded."""
    if model.parity is None:
        return {}
    placement, apart = model.session.placement, model.parity.from_cpu
    return {
        "provider": {
            "name": placement.provider,
            "device": placement.device,
            "releases": releases_of(placement.provider),
            "from_cpu": {"logits": apart.logits, "probabilities": apart.probabilities},
        }
    }


def _label_sets(query: Query) -> Json | None:
    sets = query.sets
    if sets is None or query.options.coverage is None:
        return None
    thresholds = np.atleast_1d(sets.thresholds(query.options.coverage)).tolist()
    finite = [value if np.isfinite(value) else None for value in thresholds]
    return {"method": sets.method, "kind": sets.kind, "coverage": query.options.coverage, "thresholds": finite}


def _smoother(query: Query) -> Json | None:
    name = query.stages.smoother
    return None if name is None else {"name": name, "strength": query.options.strength}


def json_values(values: Any) -> str:
    """A value as canonical JSON text."""
    return orjson.dumps(values, option=CANONICAL).decode()
