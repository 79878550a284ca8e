"""What a careful user would write by hand: FastAPI, pydantic, ONNX Runtime and SciPy; answers what `:decide` answers.

It reads the shipped version's own files, so that the answers agree; ids and times aside, they are the same JSON.
"""

import datetime as dt
import json
import os
import tomllib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import log_softmax, softmax

BUNDLE = Path(os.environ.get("PLAIN_BUNDLE", "models/breast-cancer/1"))
MANIFEST = tomllib.loads((BUNDLE / "manifest.toml").read_text(encoding="utf-8"))
RECORD = json.loads((BUNDLE / "calibration.json").read_text(encoding="utf-8"))
STATE = np.load(BUNDLE / "state.npz")
CLASSES: list[str] = MANIFEST["graph"]["classes"]
COLUMNS: list[str] = MANIFEST["inputs"][0]["features"]
POLICY = MANIFEST["policies"]["biopsy"]
ACTIONS = list(POLICY["costs"])
COST = np.array([[POLICY["costs"][action][name] for name in CLASSES] for action in ACTIONS], dtype=float)
SCALE = float(np.ptp(COST, axis=0).max())
T: float = RECORD["calibrator"]["params"]["temperature"]
LOW, HIGH = (np.array([MANIFEST["features"][name]["plausible"][end] for name in COLUMNS]) for end in (0, 1))
DEFER = ACTIONS.index(POLICY["on_ood"])
SOURCE: dict[str, float] = RECORD["source"]["prevalence"]

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(str(BUNDLE / "model.onnx"), options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Request(BaseModel):
    """A list of rows."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    instances: list[list[float]] = Field(min_length=1)


def mahalanobis(x: Any) -> Any:
    """Squared distance to the nearest class mean."""
    points = (x - STATE["mahalanobis.center"]) @ STATE["mahalanobis.whitening"]
    return ((points[:, None, :] - STATE["mahalanobis.means"]) ** 2).sum(axis=2).min(axis=1)


def p_values(name: str, scores: Any) -> Any:
    """Conformal p-values."""
    calibration = STATE[f"{name}:scores"]
    n = len(calibration)
    return (n + 1 - np.searchsorted(calibration, scores)) / (n + 1)


@app.post("/v1/models/breast-cancer:decide")
def decide(request: Request) -> dict[str, Any]:
    """Judge rows."""
    x = np.array(request.instances)
    logit = session.run([MANIFEST["graph"]["output"]], {"X": x.astype(np.float32)})[0].astype(float)
    logits = np.hstack([np.zeros_like(logit), logit])
    p = softmax(logits / T, axis=1)
    scores = {"nll": -log_softmax(logits, axis=1).max(axis=1), "mahalanobis": mahalanobis(x)}
    ps = {name: p_values(name, values) for name, values in scores.items()}
    limits = {name: RECORD["scores"][name]["threshold"] for name in scores}
    outside = (x < LOW) | (x > HIGH)
    flagged = (scores["mahalanobis"] > limits["mahalanobis"]) | outside.any(axis=1)
    risks = p @ COST.T
    first_two = np.sort(risks, axis=1)[:, :2]
    known = np.maximum(risks.min(axis=1) - p @ COST.min(axis=0), 0.0)
    candidates = risks - risks.min(axis=1, keepdims=True) <= 1e-6 * SCALE
    request_id, rows = str(uuid.uuid4()), []
    for i in range(len(x)):
        least = int(candidates[i].argmax())
        action = DEFER if flagged[i] else least
        evidence: list[dict[str, Any]] = []
        if outside[i].any():
            evidence.append({"rule": "range", "features": [COLUMNS[j] for j in np.flatnonzero(outside[i])]})
        if scores["mahalanobis"][i] > limits["mahalanobis"]:
            evidence.append({"score": "mahalanobis"})
        ood = {
            name: {
                "score": float(values[i]),
                "threshold": limits[name],
                "p_value": float(ps[name][i]),
                "flagged": bool(values[i] > limits[name]),
            }
            for name, values in scores.items()
        }
        others = [risk for a, risk in enumerate(risks[i]) if a != DEFER]
        decision: dict[str, Any] = {
            "policy": {"name": "biopsy", "source": "manifest"},
            "action": ACTIONS[action],
            "risk": float(risks[i, action]),
            "risks": dict(zip(ACTIONS, risks[i].tolist(), strict=True)),
            "margin": float(first_two[i, 1] - first_two[i, 0]),
            "value_of_information": float(known[i]),
            "value_of_deferring": float(min(others) - risks[i, DEFER]),
            "reason": "ood" if flagged[i] else "tie" if candidates[i].sum() > 1 else "lowest_risk",
        }
        if action != least:
            decision["overridden"] = {"action": ACTIONS[least], "risk": float(risks[i, least])}
        rows.append(
            {
                "prediction_id": f"{request_id}.{i}",
                "label": CLASSES[int(p[i].argmax())],
                "probabilities": dict(zip(CLASSES, p[i].tolist(), strict=True)),
                "ood": {
                    "flagged": bool(flagged[i]),
                    "p_value": float(ps["mahalanobis"][i]),
                    "evidence": evidence,
                    "scores": ood,
                },
                "decision": decision,
            }
        )
    return {
        "id": request_id,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": "breast-cancer",
        "version": "1",
        "digest": os.environ.get("PLAIN_DIGEST", ""),
        "calibration": {"method": "temperature", "status": RECORD["status"]},
        "prevalence": {"source": SOURCE, "target": SOURCE, "site": None},
        "predictions": rows,
    }
