"""Rows for the models of `models.py`, as `/v1` takes them and as tensors in every encoding."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from service.api.v2.tensors import NUMBERS

BIG = 2**53 + 1
INSTANCES: dict[str, list[Any]] = {
    "notes": [["icu", "walk"], ["er", "ambulance"]],
    "picture": [[[0, 50, 250], [1, 2, 3]], [[9, 9, 9], [9, 9, 9]]],
    "stay": [
        {"age": 3, "pulse": 60, "code": BIG, "seen": True, "dose": 0.5, "place": "icu", "ids": [1, 2, 6]},
        {"age": 9, "pulse": None, "code": 12, "seen": False, "dose": 2, "place": "er", "ids": [4]},
    ],
    "complaints": [[0.5], [-1.0]],
    "motion": [[1.0, -0.5, 2.0], [0.5]],
}

Sent = tuple[str, str, list[Any]]
X: Sent = ("x", "FP32", [[3, 60], [9, None]])
CODE: Sent = ("code", "INT64", [[BIG], [12]])
SEEN: Sent = ("seen", "BOOL", [[True], [False]])
DOSE: Sent = ("dose", "FP16", [[0.5], [2]])
PLACE: Sent = ("place", "BYTES", [["icu"], ["er"]])
IDS: Sent = ("ids", "INT64", [[1, 2, 6], [4, 0, 0]])
MASK: Sent = ("mask", "FP32", [[1, 1, 1], [1, 0, 0]])
LENGTHS: Sent = ("lengths", "INT64", [3, 1])
STEPS: Sent = ("steps", "FP32", [[1.0, -0.5, 2.0], [0.5, 0, 0]])
STAY = [X, CODE, SEEN, DOSE, PLACE, IDS]

WAYS: dict[str, tuple[str, list[Sent]]] = {
    "texts": ("notes", [("words", "BYTES", [["icu", "walk"], ["er", "ambulance"]])]),
    "texts by column": ("notes", [("place", "BYTES", ["icu", "er"]), ("arrival", "BYTES", [["walk"], ["ambulance"]])]),
    "pixels": ("picture", [("pixels", "UINT8", INSTANCES["picture"])]),
    "pixels as floats": ("picture", [("pixels", "FP64", INSTANCES["picture"])]),
    "inputs with a mask": ("stay", [*STAY, MASK]),
    "inputs with a mask of booleans": ("stay", [*STAY, ("mask", "BOOL", [[True, True, True], [True, False, False]])]),
    "inputs with lengths": ("stay", [*STAY, LENGTHS]),
    "inputs with lengths of doubles": ("stay", [*STAY, ("lengths", "FP64", [[3], [1]])]),
    "inputs with a mask and lengths": ("stay", [*STAY, MASK, LENGTHS]),
    "inputs with the constant": ("stay", [*STAY, MASK, ("kinds", "INT32", [[0, 0, 0], [0, 0, 0]])]),
    "inputs in another order": ("stay", [MASK, *STAY[::-1]]),
    "inputs by column": (
        "stay",
        [
            ("age", "INT64", [3, 9]),
            ("pulse", "FP64", [[60], [None]]),
            ("code", "INT64", [BIG, 12]),
            ("seen", "BOOL", [True, False]),
            ("dose", "FP32", [0.5, 2]),
            ("place", "BYTES", ["icu", "er"]),
            IDS,
            LENGTHS,
        ],
    ),
    "labels": ("complaints", [("x", "FP32", [[0.5], [-1.0]])]),
    "labels of a flat tensor": ("complaints", [("x", "FP64", [0.5, -1.0])]),
    "labels by column": ("complaints", [("dose", "FP32", [0.5, -1.0])]),
    "sequences": ("motion", [STEPS, LENGTHS]),
}


def as_json(sent: Sent, *, flat: bool) -> tuple[dict[str, Any], bytes]:
    name, datatype, data = sent
    cells = np.array(data, dtype=object)
    values = cells.ravel().tolist() if flat else data
    return {"name": name, "shape": list(cells.shape), "datatype": datatype, "data": values}, b""


def as_bytes(sent: Sent) -> tuple[dict[str, Any], bytes]:
    name, datatype, data = sent
    cells = np.array(data, dtype=object)
    if datatype == "BYTES":
        blob = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in cells.ravel().tolist())
    else:
        blob = cells.astype(NUMBERS[datatype]).tobytes()
    size = {"binary_data_size": len(blob)}
    return {"name": name, "shape": list(cells.shape), "datatype": datatype, "parameters": size}, blob


ENCODINGS: dict[str, Callable[[Sent], tuple[dict[str, Any], bytes]]] = {
    "flat JSON": lambda sent: as_json(sent, flat=True),
    "nested JSON": lambda sent: as_json(sent, flat=False),
    "bytes": as_bytes,
}


def body_of(tensors: list[Sent], encoding: str, **more: Any) -> tuple[bytes, dict[str, str]]:
    entries = [ENCODINGS[encoding](sent) for sent in tensors]
    head = json.dumps({"inputs": [entry for entry, _ in entries], **more}).encode()
    return head + b"".join(blob for _, blob in entries), {"Inference-Header-Content-Length": str(len(head))}
