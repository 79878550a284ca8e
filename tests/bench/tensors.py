"""Requests of the Open Inference Protocol."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.bench.wrk import JSON, Request

TENSOR = "X"


def flat(path: str, rows: Sequence[Sequence[float]]) -> Request:
    """Rows as one flat JSON list; every output is requested."""
    x = np.array(rows)
    return Request(path, json.dumps({"inputs": [{**_entry(x), "data": x.ravel().tolist()}]}).encode(), JSON)


def binary(path: str, rows: Sequence[Sequence[float]], *outputs: str) -> Request:
    """Rows as bytes, answered in bytes; without names, every output is requested."""
    x = np.array(rows)
    blob = x.astype("<f4").tobytes()
    document: dict[str, Any] = {
        "inputs": [{**_entry(x), "parameters": {"binary_data_size": len(blob)}}],
        "parameters": {"binary_data_output": True},
    }
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    head = json.dumps(document).encode()
    return Request(path, head + blob, {"Inference-Header-Content-Length": str(len(head))})


def _entry(rows: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {"name": TENSOR, "shape": list(rows.shape), "datatype": "FP32"}
