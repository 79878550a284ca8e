"""Every number and reason of the report before issue 12 is in today's.

`before.json` holds what commit 0571bc1 found on the rows below, rounded to 10 digits.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from service.bundle.repository import Repository
from service.evaluation.evaluate import EvaluateRequest, evaluate_file
from service.runtime.model import Model, load_model
from tests.shipped_model import SHIPPED
from tests.tasks.conftest import draw_labels, draw_sequences, label_draft, sequence_draft

BEFORE: dict[str, Any] = json.loads(Path(__file__).with_name("before.json").read_text(encoding="utf-8"))
BY_JACKKNIFE = ("slope_low", "slope_high", "intercept_low", "intercept_high")
"""Bounds that are the jackknife's now: those of the sandwich covered too little with few groups."""
LOSSES = {
    "multiclass": ("cross_entropy", "focal"),
    "multilabel": ("multilabel_cross_entropy",),
    "sequence": ("sequence_cross_entropy", "focal"),
}


def saved(folder: Path, name: str, **arrays: Any) -> Path:
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


def case(task: str, request: pytest.FixtureRequest, folder: Path) -> tuple[Model, dict[str, Any], Any]:
    """A model, labelled rows, and out-of-distribution data."""
    if task == "multiclass":
        frame = pl.read_csv(request.getfixturevalue("data_folder") / "test.csv")
        x = frame.select(frame.columns[:-1]).to_numpy()
        model = load_model(Repository(SHIPPED).bundle("breast-cancer", 1))
        return model, {"X": x, "y": frame["y"].to_numpy().astype(np.str_)}, 1.5 * x[:60]
    draft, draw, n = (label_draft, draw_labels, 2000) if task == "multilabel" else (sequence_draft, draw_sequences, 300)
    workshop = draft(folder)
    x, y = draw(n, 0)[:2]
    workshop.fit(workshop.rows("cal", X=x, y=y))
    x, y = draw(300 if task == "multilabel" else 120, 1)[:2]
    ood = x[:60] + 9.0 if task == "multilabel" else 4 * x[:40]
    return load_model(workshop.repository.bundle(workshop.name, 1)), {"X": x, "y": y}, ood


def found(name: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    task, _, counted = name.partition(", ")
    model, arrays, ood = case(task, request, folder)
    n = len(arrays["X"])
    more: dict[str, Any] = {"group": np.arange(n) // 3, "weight": np.linspace(0.5, 2.0, n)} if counted else {}
    options: dict[str, Any] = {} if counted else {"losses": LOSSES[task]}
    if name == "multiclass":
        options.update(horizon=50, recovery=0.1)
    data = EvaluateRequest(saved(folder, "rows", **arrays, **more), ood_data=saved(folder, "ood", X=ood), **options)
    report: dict[str, Any] = json.loads(json.dumps(evaluate_file(model, data).report.as_json(), allow_nan=False))
    return report


def part_before(part: dict[str, Any]) -> dict[str, Any]:
    """A part of today's report in the shape of the former report on rows of one class each."""
    p = part["probabilities"]
    policies = {}
    for name, policy in part["policies"].items():
        kept = (
            "expected_cost",
            "realised_cost",
            "label_cost",
            "constant_cost",
            "constant_action",
            "overruled",
            "decided",
        )
        actions = {action: own["taken"] for action, own in policy["actions"].items()}
        policies[name] = {**{key: policy[key] for key in kept}, "actions": actions}
    return {
        "class_counts": part["class_counts"],
        **{key: p[key] for key in ("metrics", "uncalibrated_metrics", "code_length", "classes", "confusion")},
        "policies": policies,
    }


def ood_before(ood: dict[str, Any]) -> dict[str, Any]:
    return {key: ood[key] for key in ("flag_rate", "range_rate", "ood_rows", "ood_flag_rate", "scores")}


def flags_before(ood: dict[str, Any]) -> dict[str, Any]:
    names = {
        "rate": "flag_rate",
        "expected": "expected_flag_rate",
        "limit": "flag_rate_limit",
        "ood_rate": "ood_flag_rate",
    }
    same = {key: key for key in ("rows", "flagged", "limit_reason", "ood_rows")}
    return {old: ood[new] for old, new in {**names, **same}.items()}


def interval_before(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: found["mean"], f"{name}_low": found["low"], f"{name}_high": found["high"]}


def policy_checks_before(policy: dict[str, Any]) -> dict[str, Any]:
    names = {"promised": "expected_cost", "paid": "realised_cost"}
    same = {key: key for key in ("taken", "noise", "reason")}
    return {
        **interval_before(policy["saved"], "saved"),
        **interval_before(policy["excess"], "excess"),
        **interval_before(policy["saved_of_constant"], "saved_of_constant"),
        **{key: policy[key] for key in ("noise", "regret", "savings", "dominated", "on_ood")},
        "interval_reason": policy["saved"]["reason"],
        "actions": {
            action: {old: own[new] for old, new in {**names, **same}.items()}
            for action, own in policy["actions"].items()
        },
    }


def calibration_before(check: dict[str, Any]) -> dict[str, Any]:
    classes, line, diagram, binned = (check[key] for key in ("classes", "line", "diagram", "binned"))
    means = {name: (own["mean_predicted_probability"], own["observed_frequency"]) for name, own in classes.items()}
    return {
        **{key: check[key] for key in ("of", "rows", "error", "chance", "p_value", "smooth_error")},
        **{key: value for key, value in line.items() if key != "reason"},
        "line_reason": line["reason"],
        **{f"gap_{key}": value for key, value in check["rms_gap"].items()},
        **check["parts"],
        "uncalibrated": check["uncalibrated_parts"],
        "binned": binned,
        "probability": check["mean_predicted_probability"],
        "frequency": check["observed_frequency"],
        "mean_said": {name: said for name, (said, _) in means.items()},
        "mean_happened": {name: happened for name, (_, happened) in means.items()},
        "gaps": {name: own["gap"] for name, own in classes.items()},
        "noise": {name: own["noise"] for name, own in classes.items()},
        "shifted": {
            name: {"said": means[name][0], "happened": means[name][1]}
            for name, own in classes.items()
            if own["shifted"]
        },
        "diagram": {
            "predicted": diagram["mean_predicted_probability"],
            "observed": diagram["observed_frequency"],
            "outside": diagram["beyond_chance"],
            **{key: diagram[key] for key in ("low", "high", "count")},
        },
    }


def checks_before(part: dict[str, Any]) -> dict[str, Any]:
    """A part of today's report in the shape of the former diagnostics."""
    p, change = part["probabilities"], part["probabilities"]["loss_change"]
    return {
        "calibration": calibration_before(p["calibration"]),
        "selective": p["selective"],
        "policies": {name: policy_checks_before(policy) for name, policy in part["policies"].items()},
        "losses": {
            **{key: change[key] for key in ("is_calibrated", "uncalibrated", "served")},
            **{
                {"mean": "difference", "reason": "interval_reason"}.get(k, k): v
                for k, v in change["difference"].items()
            },
        },
    }


def multiclass_before(report: dict[str, Any]) -> dict[str, Any]:
    part, ood = report["parts"]["rows"], report["ood"]
    return {
        "evaluation": {"rows": part["rows"], **part_before(part), **ood_before(ood)},
        "diagnostics": checks_before(part),
        "flags": flags_before(ood),
        "horizon": report["horizon"],
    }


def multilabel_before(report: dict[str, Any]) -> dict[str, Any]:
    whole = {key: report[key] for key in ("rows", "metrics", "uncalibrated_metrics")}
    labels = {name: part_before(part) for name, part in report["parts"].items()}
    exact = report["structure"]["exact_match"]
    return {
        "evaluation": {**whole, "exact_match": exact, **ood_before(report["ood"]), "labels": labels},
        "diagnostics": {name: checks_before(part) for name, part in report["parts"].items()},
    }


def segments_before(found: dict[str, Any]) -> dict[str, Any]:
    return {"segments" if key == "count" else key: value for key, value in found.items()}


def sequence_before(report: dict[str, Any]) -> dict[str, Any]:
    part, structure = report["parts"]["positions"], report["structure"]
    return {
        "evaluation": {
            "sequences": report["rows"],
            "rows": part["rows"],
            "structure": {"said": segments_before(structure["predicted"]), "true": segments_before(structure["true"])},
            **{key: structure[key] for key in ("smoother", "unsmoothed_log_loss", "paths")},
            **part_before(part),
            **ood_before(report["ood"]),
        },
        "diagnostics": checks_before(part),
    }


TRANSLATED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "multiclass": multiclass_before,
    "multilabel": multilabel_before,
    "sequence": sequence_before,
}


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{place}/{i}")
    else:
        yield place, value


@pytest.mark.parametrize("name", BEFORE)
def test_every_value_of_the_former_report_is_in_this_one(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    before, task = BEFORE[name], name.partition(",")[0]
    report = found(name, request, tmp_path)
    now = dict(leaves({**TRANSLATED[task](report), "losses": report["losses"]}))
    kept = {key: value for key, value in before.items() if key not in {"verdicts", "notes"}}
    then = dict(leaves(kept))
    assert len(then) > 200
    assert now.keys() >= then.keys()  # a new metric is in the one alone
    for place, value in then.items():
        if place.endswith(BY_JACKKNIFE):
            continue
        if isinstance(value, float):
            # Iterated fits end where the processor's rounding lets them.
            assert now[place] == pytest.approx(value, rel=1e-5, abs=1e-6), place
        else:
            assert now[place] == value, place


@pytest.mark.parametrize("name", BEFORE)
def test_every_verdict_of_the_former_report_has_its_mood_in_this_one(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    before, report = BEFORE[name]["verdicts"], found(name, request, tmp_path)
    (only,) = report["parts"] if len(report["parts"]) == 1 else (None,)
    listed = [(part, v) for part, own in before.items() for v in own] if only is None else [(only, v) for v in before]
    then = {(None if v["about"] == "flags" else part, v["about"], v["policy"]): v["mood"] for part, v in listed}
    now = {(v["part"], v["about"], v["policy"]): v["mood"] for v in report["verdicts"]}
    assert {key: mood for key, mood in now.items() if key in then} == then
    assert now.keys() - then.keys() <= {(None, "flags", None)}
