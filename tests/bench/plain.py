"""What a careful user would write by hand: FastAPI, pydantic, ONNX Runtime and SciPy; `:predict` and `:decide`.

It reads a published version's own files (``PLAIN_BUNDLE``), so that the answers agree; ids and times aside, they are
the same JSON. It knows models over columns of numbers with a temperature, nll, mahalanobis and ranges.
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
MODEL, VERSION = BUNDLE.parent.name, BUNDLE.name
CLASSES: list[str] = MANIFEST["graph"]["classes"]
COLUMNS: list[str] = MANIFEST["inputs"][0]["features"]
POLICY_NAME, POLICY = next(iter(MANIFEST["policies"].items()))
ACTIONS = list(POLICY["costs"])
COST = np.array([[POLICY["costs"][action][name] for name in CLASSES] for action in ACTIONS], dtype=float)
SCALE = float(np.ptp(COST, axis=0).max())
T: float = RECORD["calibrator"]["params"]["temperature"]
RANGES = [MANIFEST.get("features", {}).get(name, {}).get("plausible", (-np.inf, np.inf)) for name in COLUMNS]
LOW, HIGH = np.array(RANGES).T
DEFER: int | None = ACTIONS.index(POLICY["on_ood"]) if "on_ood" in POLICY else None
SCORES: list[str] = MANIFEST["ood"]["scores"]
GATE: list[str] = MANIFEST["ood"].get("gate", SCORES)
(GATE_SCORE,) = (name for name in GATE if name in SCORES)
SOURCE: dict[str, float] | None = RECORD["source"].get("prevalence")

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(str(BUNDLE / "model.onnx"), options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Parameters(BaseModel):
    """How much of an answer is returned."""

    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(default=None, ge=1)


class Request(BaseModel):
    """A list of rows."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    instances: list[list[float]] = Field(min_length=1)
    parameters: Parameters = Parameters()


def raw_logits(x: Any) -> Any:
    """The graph's output, one column for every class."""
    logits = session.run([MANIFEST["graph"]["output"]], {"X": x.astype(np.float32)})[0].astype(float)
    return logits if logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])


def mahalanobis(x: Any) -> Any:
    """Squared distance to the nearest class mean."""
    points = (x - STATE["mahalanobis.center"]) @ STATE["mahalanobis.whitening"]
    return ((points[:, None, :] - STATE["mahalanobis.means"]) ** 2).sum(axis=2).min(axis=1)


def p_values(name: str, scores: Any) -> Any:
    """Conformal p-values."""
    calibration = STATE[f"{name}:caps"]  # what counts as at least as far, to within rounding
    n = len(calibration)
    return (n + 1 - np.searchsorted(calibration, scores)) / (n + 1)


def probabilities_of(p: Any, top_k: int | None) -> list[dict[str, Any]]:
    """Classes with their probabilities."""
    if top_k is None:
        return [{"probabilities": dict(zip(CLASSES, row, strict=True))} for row in p.tolist()]
    order = np.argsort(-p, axis=1)[:, :top_k]
    values = np.take_along_axis(p, order, axis=1)
    return [
        {"top": [{"label": CLASSES[k], "probability": v} for k, v in zip(ks, vs, strict=True)]}
        for ks, vs in zip(order.tolist(), values.tolist(), strict=True)
    ]


def answer(request_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows, and what they are of."""
    return {
        "id": request_id,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": MODEL,
        "version": VERSION,
        "digest": os.environ.get("PLAIN_DIGEST", ""),
        "calibration": {"method": "temperature", "status": RECORD["status"], "support": RECORD["support"]},
        "prevalence": {"source": SOURCE, "target": SOURCE, "site": None},
        "predictions": rows,
    }


@app.post(f"/v1/models/{MODEL}:predict")
def predict(request: Request) -> dict[str, Any]:
    """Calibrated probabilities."""
    p = softmax(raw_logits(np.array(request.instances)) / T, axis=1)
    request_id, best = str(uuid.uuid4()), p.argmax(axis=1)
    rows = [
        {"prediction_id": f"{request_id}.{i}", "label": CLASSES[best[i]], **members}
        for i, members in enumerate(probabilities_of(p, request.parameters.top_k))
    ]
    return answer(request_id, rows)


@app.post(f"/v1/models/{MODEL}:decide")
def decide(request: Request) -> dict[str, Any]:
    """Decide on rows."""
    x = np.array(request.instances)
    logits = raw_logits(x)
    p = softmax(logits / T, axis=1)
    scores = {"nll": -log_softmax(logits, axis=1).max(axis=1)}
    if "mahalanobis" in SCORES:
        scores["mahalanobis"] = mahalanobis(x)
    ps = {name: p_values(name, values) for name, values in scores.items()}
    limits = {name: RECORD["scores"][name]["threshold"] for name in scores}
    out_of_range = (x < LOW) | (x > HIGH)
    flagged = scores[GATE_SCORE] > limits[GATE_SCORE]
    if "range" in GATE:
        flagged |= out_of_range.any(axis=1)
    risks = p @ COST.T
    known = np.maximum(risks.min(axis=1) - p @ COST.min(axis=0), 0.0)
    candidates = risks - risks.min(axis=1, keepdims=True) <= 1e-6 * SCALE
    request_id, rows = str(uuid.uuid4()), []
    for i, members in enumerate(probabilities_of(p, request.parameters.top_k)):
        least = int(candidates[i].argmax())
        action = DEFER if flagged[i] and DEFER is not None else least
        evidence: list[dict[str, Any]] = []
        if out_of_range[i].any():
            evidence.append({"rule": "range", "features": [COLUMNS[j] for j in np.flatnonzero(out_of_range[i])]})
        if scores[GATE_SCORE][i] > limits[GATE_SCORE]:
            evidence.append({"score": GATE_SCORE})
        ood = {
            name: {
                "score": float(values[i]),
                "threshold": limits[name],
                "p_value": float(ps[name][i]),
                "flagged": bool(values[i] > limits[name]),
            }
            for name, values in scores.items()
        }
        decision: dict[str, Any] = {
            "policy": {"name": POLICY_NAME, "source": "manifest"},
            "action": ACTIONS[action],
            "risk": float(risks[i, action]),
            "risks": dict(zip(ACTIONS, risks[i].tolist(), strict=True)),
            "margin": float(np.delete(risks[i], action).min() - risks[i, action]),
            "value_of_information": float(known[i]),
        }
        if DEFER is not None:
            others = [risk for a, risk in enumerate(risks[i]) if a != DEFER]
            decision["value_of_deferring"] = float(min(others) - risks[i, DEFER])
        handed_over = flagged[i] and DEFER is not None
        decision["reason"] = "ood" if handed_over else "tie" if candidates[i].sum() > 1 else "lowest_risk"
        if action != least:
            decision["overridden"] = {"action": ACTIONS[least], "risk": float(risks[i, least])}
        rows.append(
            {
                "prediction_id": f"{request_id}.{i}",
                "label": CLASSES[int(p[i].argmax())],
                **members,
                "ood": {
                    "flagged": bool(flagged[i]),
                    "p_value": float(ps[GATE_SCORE][i]),
                    "evidence": evidence,
                    "scores": ood,
                },
                "decision": decision,
            }
        )
    return answer(request_id, rows)
