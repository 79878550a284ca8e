"""Metadata of the server and of its models, and what the models have done since they were loaded."""

from typing import Final

import orjson

from service.api.v2.expected_tensors import Expected, expected_tensors, optional_tensors
from service.api.v2.output_tensors import VERB, OutputTensors
from service.api.v2.tensors import Json
from service.prediction.options import Options
from service.prediction.query import Query
from service.runtime.model import Model
from service.runtime.registry import Registry

EXTENSIONS: Final = ("binary_tensor_data", "classification", "parameters", "schedule_policy", "statistics")
REPOSITORY_EXTENSION: Final = "model_repository"
PLATFORM: Final = "onnx_onnxv1"
NANOSECONDS: Final = 10**9


def server_metadata(version: str, *, repository: bool) -> Json:
    """Name, version and extensions of the server; ``repository`` is whether models can be loaded by name."""
    extensions = [*EXTENSIONS, *([REPOSITORY_EXTENSION] if repository else [])]
    return {"name": "temperance", "version": version, "extensions": extensions}


def model_metadata(model: Model, registry: Registry) -> Json:
    """What a model takes and answers; properties, whose values are texts, hold JSON where they are lists."""
    gated = [model.chain.detectors[i].name for i in model.chain.gate]
    return {
        "name": model.name,
        "versions": [str(version) for version in registry.served(model.name).models],
        "platform": PLATFORM,
        "inputs": [_entry(expected) for expected in expected_tensors(model.inputs)],
        "outputs": OutputTensors(_default_query(model)).described(),
        "properties": {
            "task": model.task,
            "calibration": model.status,
            "provider": model.session.placement.provider,
            "device": model.session.placement.device,
            "classes": orjson.dumps(model.classes).decode(),
            "actions": orjson.dumps(_actions(model)).decode(),
            "ood_score": gated[0] if gated else "",
            "columns": orjson.dumps(_columns(model)).decode(),
            "optional_inputs": orjson.dumps([_entry(one) for one in optional_tensors(model.inputs)]).decode(),
        },
    }


def _default_query(model: Model) -> Query:
    return Query.of(model, Options(VERB, decide=model.manifest.default_policy is not None))


def _actions(model: Model) -> Json:
    """Actions of every policy, in the order of their risks; of a multilabel model by label."""
    if not model.label_policies:
        return {name: policy.actions for name, policy in model.policies.items()}
    return {
        name: {model.classes[m]: policy.actions for m, policy in own.items()}
        for name, own in model.label_policies.items()
    }


def _columns(model: Model) -> Json:
    return {entry.name: entry.cells for entry in model.inputs.entries if not entry.shape}


def statistics(model: Model) -> Json:
    """Counts and durations, as Triton's statistics extension has them."""
    tally = model.tally
    done = {"count": tally.runs, "ns": int(tally.seconds * NANOSECONDS)}
    none = {"count": 0, "ns": 0}
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": int(tally.last * 1000),
        "inference_count": tally.rows,
        "execution_count": tally.runs,
        "inference_stats": {
            "success": done,
            "fail": {"count": tally.failures, "ns": 0},
            "queue": {"count": tally.runs, "ns": int(tally.waited * NANOSECONDS)},
            "compute_input": none,
            "compute_infer": done,
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
    }


def _entry(expected: Expected) -> Json:
    shape = [-1 if size is None else size for size in expected.shape]
    return {"name": expected.name, "datatype": expected.datatype, "shape": shape}
