"""What a model takes, answers and costs, and how it was calibrated."""

from typing import Any

from service.bundle.sections import Input
from service.runtime.inputs import ANYTHING
from service.runtime.model import Model
from service.runtime.registry import Served

Json = dict[str, Any]


def description(model: Model, served: Served) -> Json:
    """What a model takes, answers and costs, and how it was calibrated."""
    manifest, record = model.manifest, model.bundle.record
    return {
        "name": model.name,
        "title": manifest.title,
        "ready": True,
        "version": model.version,
        "digest": model.bundle.digest,
        "versions": [str(version) for version in served.published],
        "served": [str(version) for version in served.models],
        "aliases": {label: str(version) for label, version in served.aliases.items()},
        "refusal": served.refusal,
        "task": manifest.graph.task,
        "classes": list(model.classes),
        "inputs": [_input(entry, model) for entry in manifest.inputs],
        "policies": {
            name: section.model_dump(mode="json", exclude_none=True) for name, section in manifest.policies.items()
        },
        "default_policy": manifest.default_policy,
        "sites": {name: section.model_dump(mode="json") for name, section in manifest.sites.items()},
        "ood": {**manifest.ood.model_dump(mode="json"), "gate": list(manifest.ood.gate_members)},
        "calibration": ({} if record is None else record.model_dump(mode="json", exclude={"schema_", "sections"}))
        | model.calibration,
    }


def _input(entry: Input, model: Model) -> Json:
    if entry.is_filled:
        return {"name": entry.name, "filled": "mask" if entry.mask else entry.fill}
    taken = next(taken for taken in model.inputs.entries if taken.name == entry.name)
    said: Json = {"name": entry.name, "type": "string" if taken.is_text else str(taken.dtype)}
    if taken.shape:
        return {**said, "shape": list(taken.shape), "pad": taken.pad}
    features = [
        {"name": name, **model.manifest.features.get(name, ANYTHING).model_dump(mode="json")} for name in entry.columns
    ]
    return {**said, "features": features}
