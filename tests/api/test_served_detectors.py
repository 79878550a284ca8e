"""What `:detect` answers where scores look at an exported tensor, and where every predicted class has a threshold."""

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.fitting.fit import FitRequest, fit
from service.runtime.registry import Registry, load_registry
from tests.conftest import HiddenLayer

Client = Callable[..., httpx.AsyncClient]
Publish = Callable[..., Registry]
TEXT = """\
schema = 1
title = "a hidden layer"
[graph]
output = "logits"
output_kind = "logits"
classes = ["a", "b", "c", "d"]
[[inputs]]
name = "x"
features = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]
[ood]
space = "hidden"
scores = ["nll", "mahalanobis"]
"""


async def test_far_rows_are_flagged_by_what_the_hidden_layer_holds(
    client_of: Client, tmp_path: Path, hidden_layer: HiddenLayer
) -> None:
    repository = Repository(tmp_path / "networks")
    files: dict[str, Path | str] = {"model.onnx": hidden_layer.save(tmp_path / "n.onnx"), "manifest.toml": TEXT}
    create_draft(repository, "net", files)
    x, y = hidden_layer.draw(600, seed=2)
    np.savez(tmp_path / "rows.npz", X=x, y=y)
    fit(repository, "net", FitRequest(tmp_path / "rows.npz"))
    instances = [*hidden_layer.draw(200, seed=3)[0].tolist(), *hidden_layer.far(200, seed=4).tolist()]
    async with client_of(load_registry(repository)) as client:
        answer = await client.post("/v1/models/net:detect", json={"instances": instances})
        described = (await client.get("/v1/models/net")).json()
    found = [row["ood"] for row in answer.json()["predictions"]]
    assert sum(one["flagged"] for one in found[:200]) < 30
    assert sum(one["scores"]["mahalanobis"]["flagged"] for one in found[200:]) > 190
    assert sum(one["scores"]["nll"]["flagged"] for one in found[200:]) < 20
    assert described["ood"]["space"] == "hidden"


async def test_every_row_is_shown_the_threshold_that_applied_to_it(client_of: Client, publish_logits: Publish) -> None:
    classes, more = ("a", "b", "c"), "[ood]\nfalse_alarm = 0.1\nper_class = true\n"
    registry = publish_logits(classes, more=more, fitted=True)
    record = registry.model("logits").bundle.record
    assert record is not None
    assert record.scores["nll"].by_class is not None
    instances = np.log(np.random.default_rng(1).dirichlet(np.ones(3), size=40)).tolist()
    async with client_of(registry) as client:
        answer = await client.post("/v1/models/logits:decide", json=_with_costs(instances, classes))
    for instance, row in zip(instances, answer.json()["predictions"], strict=True):
        found = row["ood"]["scores"]["nll"]
        assert found["threshold"] == record.scores["nll"].by_class[classes[int(np.argmax(instance))]].threshold
        assert found["flagged"] == (found["score"] > found["threshold"]) == (found["p_value"] <= 0.1)


async def test_uncalibrated_rows_have_no_threshold_per_class_either(client_of: Client, publish_logits: Publish) -> None:
    registry = publish_logits(("a", "b", "c"), more="[ood]\nper_class = true\n")
    async with client_of(registry) as client:
        answer = await client.post("/v1/models/logits:detect", json={"instances": [[0.0, 1.0, 2.0]]})
    (row,) = answer.json()["predictions"]
    assert {row["ood"]["scores"]["nll"][key] for key in ("threshold", "p_value", "flagged")} == {None}


def _with_costs(instances: list[list[float]], classes: tuple[str, ...]) -> dict[str, object]:
    costs = {f"do {c}": {other: float(other != c) for other in classes} for c in classes}
    return {"instances": instances, "parameters": {"costs": costs}}
