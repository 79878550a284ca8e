"""What most people write: FastAPI, pydantic, ONNX Runtime and SciPy, answering bare arrays of numbers.

It computes the numbers of our `:predict` and `:decide` from a published version's own files (``PLAIN_BUNDLE``) and
writes them without names: no flags, no p-values, no action, no ids. `tests.bench.plain` writes our whole JSON.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel
from scipy.special import log_softmax, softmax

BUNDLE = Path(os.environ.get("PLAIN_BUNDLE", "models/breast-cancer/1"))
MANIFEST = tomllib.loads((BUNDLE / "manifest.toml").read_text(encoding="utf-8"))
RECORD = json.loads((BUNDLE / "calibration.json").read_text(encoding="utf-8"))
STATE = np.load(BUNDLE / "state.npz")
MODEL = BUNDLE.parent.name
POLICY = next(iter(MANIFEST["policies"].values()))
COST = np.array([[row[name] for name in MANIFEST["graph"]["classes"]] for row in POLICY["costs"].values()], dtype=float)
T: float = RECORD["calibrator"]["params"]["temperature"]
SCORES: list[str] = MANIFEST["ood"]["scores"]

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(str(BUNDLE / "model.onnx"), options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Request(BaseModel):
    """A list of rows."""

    instances: list[list[float]]


def logits_of(x: Any) -> Any:
    """The graph's output, one column for every class."""
    logits = session.run(None, {"X": x.astype(np.float32)})[0].astype(float)
    return logits if logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])


def mahalanobis(x: Any) -> Any:
    """Squared distance to the nearest class mean."""
    points = (x - STATE["mahalanobis.center"]) @ STATE["mahalanobis.whitening"]
    return ((points[:, None, :] - STATE["mahalanobis.means"]) ** 2).sum(axis=2).min(axis=1)


@app.post(f"/v1/models/{MODEL}:predict")
def predict(request: Request) -> dict[str, Any]:
    """Calibrated probabilities."""
    return {"probabilities": softmax(logits_of(np.array(request.instances)) / T, axis=1).tolist()}


@app.post(f"/v1/models/{MODEL}:decide")
def decide(request: Request) -> dict[str, Any]:
    """Probabilities, scores and expected costs."""
    x = np.array(request.instances)
    logits = logits_of(x)
    p = softmax(logits / T, axis=1)
    scores = {"nll": (-log_softmax(logits, axis=1).max(axis=1)).tolist()}
    if "mahalanobis" in SCORES:
        scores["mahalanobis"] = mahalanobis(x).tolist()
    return {"probabilities": p.tolist(), "scores": scores, "costs": (p @ COST.T).tolist()}
