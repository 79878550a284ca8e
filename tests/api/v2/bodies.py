"""Bodies of requests to the shipped model."""

import json
from typing import Any

INFER = "/v2/models/breast-cancer/infer"
ALL = ["logits", "label", "probabilities", "ood_score", "ood", "p_value", "action", "risk", "prediction_id"]


def request_of(rows: Any, **more: Any) -> dict[str, Any]:
    """A request with rows in flat JSON."""
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return {"inputs": [tensor], **more}


def binary(rows: Any, *, datatype: str = "FP32", dtype: str = "<f4", **more: Any) -> tuple[bytes, dict[str, str]]:
    """A body with its rows as bytes, and its headers."""
    blob = rows.astype(dtype).tobytes()
    size = {"binary_data_size": len(blob)}
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": datatype, "parameters": size}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + blob, {"Inference-Header-Content-Length": str(len(head))}


def tensor(**changed: Any) -> dict[str, Any]:
    """A request of one row, members of whose tensor are changed, or left out where they are None."""
    entry = {"name": "X", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30, **changed}
    return {"inputs": [{key: value for key, value in entry.items() if value is not None}]}
