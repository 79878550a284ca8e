"""Models on OpenVINO, for real: run by `make openvino`, in environments that have it; skipped in others.

`make openvino` runs this module twice: with the plugin `onnxruntime-ep-openvino`, and with `onnxruntime-openvino`,
which has OpenVINO built in. On processors that are not of Intel the plugin offers no device, and the first run shows
how that is refused.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier

from service.bundle.repository import Repository
from service.errors import GraphError, SettingsInvalid
from service.fitting.fit import FitRequest, fit
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.runtime import providers
from service.runtime.model import load_model
from service.runtime.parity import SAFETY
from service.runtime.proofs import Proofs
from service.runtime.provider_packages import Providers
from service.runtime.provider_parity import load_on
from service.runtime.providers import OPENVINO, Execution, check_provider, make_session, placement_of
from tests.models.recipes import MODELS, recipe, splits

TAKEN = ["cartpole-imitation", "fashion-mnist", "mortality-5y", "protein-structure", "thyroid", "yeast-genes"]
SIMPLE, BOOSTED = "fashion-mnist", "boosted"
AT_ONCE = 250
COSTS = {"dismiss": {"benign": 0, "malignant": 50}, "biopsy": {"benign": 1, "malignant": 1}}
Serving = Callable[..., AbstractContextManager[Any]]


def absence() -> str | None:
    """Why OpenVINO cannot be used here."""
    try:
        check_provider("openvino")
    except SettingsInvalid as error:
        return error.detail
    return None


ABSENCE = absence()
needs_openvino = pytest.mark.skipif(ABSENCE is not None, reason=f"OpenVINO is not here: {ABSENCE}")


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory, data_folder: Path, features: list[str], test_labels: list[str]
) -> Repository:
    """The shipped models, and boosted trees on the rows of `breast-cancer`, fitted on the CPU."""
    root = tmp_path_factory.mktemp("openvino") / "models"
    root.mkdir()
    for name in [*TAKEN, "breast-cancer"]:
        (root / name).symlink_to(MODELS / name)
    table = np.genfromtxt(data_folder / "train.csv", delimiter=",", skip_header=1, usecols=range(len(features)))
    labels = np.genfromtxt(data_folder / "train.csv", delimiter=",", skip_header=1, usecols=[len(features)], dtype=str)
    trees = GradientBoostingClassifier(n_estimators=60, random_state=0).fit(table.astype(np.float32), labels)
    path = tmp_path_factory.mktemp("graph") / "boosted.onnx"
    onnx.save(to_onnx(trees, table[:1].astype(np.float32), options={"zipmap": False}), path)
    made = Repository(root)
    import_model(made, BOOSTED, path, Declared(features=tuple(features)))
    fit(made, BOOSTED, FitRequest(data=data_folder / "calibration.csv"))
    assert set(test_labels) == set(trees.classes_)
    return made


@pytest.fixture(scope="module")
def images() -> list[Any]:
    """Every test image of the shipped network; where its data are not installed, drawn ones."""
    try:
        inputs = splits(recipe(SIMPLE))["test"].inputs
    except pytest.skip.Exception:
        inputs = {"x": np.random.default_rng(0).random((500, 28, 28)) ** 4}
    values = inputs["x"] if isinstance(inputs, dict) else inputs
    rows: list[Any] = np.asarray(values, dtype=np.float32).round(4).tolist()
    return rows


def test_a_plugin_without_a_device_for_this_processor_is_refused_in_one_line() -> None:
    if find_spec(providers.PLUGIN) is None:
        pytest.skip("the plugin onnxruntime-ep-openvino is not installed here")
    if ABSENCE is None:
        pytest.skip("OpenVINO runs here")
    assert "its plugin offers no device: it takes processors of Intel alone, and this one is of " in ABSENCE
    assert "onnxruntime-openvino" in ABSENCE


@needs_openvino
@pytest.mark.parametrize("name", TAKEN)
def test_a_shipped_model_is_the_version_that_was_fitted(name: str, repository: Repository) -> None:
    version = repository.aliases(name)["stable"]
    model = load_on(repository.bundle(name, version), provider="openvino")
    assert model.parity is not None
    assert model.session.placement.provider == "openvino"
    assert model.parity.from_cpu.logits < 1e-5
    assert sum(model.session.placement.on_cpu.values()) < model.session.placement.operators


@needs_openvino
def test_without_the_hint_a_network_may_be_computed_in_fewer_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hint is for: on a processor without bfloat16 both are float32."""
    path, x = str(MODELS / SIMPLE / "2" / "model.onnx"), np.random.default_rng(0).random((64, 28, 28), dtype=np.float32)
    answers = []
    for hint in ("f32", "dynamic"):
        options = ort.SessionOptions()
        own = {"INFERENCE_PRECISION_HINT": hint} if hint == "f32" else {}
        monkeypatch.setattr(providers, "openvino_options", lambda _: {"load_config": json.dumps({"CPU": own})})  # noqa: B023
        answers.append(make_session(path, options, Execution("openvino")).session.run(["logits"], {"x": x})[0])
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["logits"], {"x": x})[0]
    apart = [float(np.abs(answer - expected).max()) for answer in answers]
    assert apart[0] <= 1e-4
    assert apart[0] <= apart[1]


@needs_openvino
def test_boosted_trees_are_left_to_the_cpu_and_counted(repository: Repository) -> None:
    model = load_on(repository.bundle(BOOSTED, 1), provider="openvino")
    assert (
        "TreeEnsembleClassifier" in model.session.placement.on_cpu or "TreeEnsemble" in model.session.placement.on_cpu
    )
    assert model.parity is not None
    assert model.parity.from_cpu.logits == 0.0


@needs_openvino
def test_a_graph_that_openvino_cannot_compile_is_refused_with_the_way_out(repository: Repository) -> None:
    with pytest.raises(
        GraphError, match=r"cannot be run by openvino \(.+\); run this model on cpu: provider = \"cpu\""
    ):
        load_on(repository.bundle("breast-cancer", 1), provider="openvino")


@needs_openvino
def test_a_version_is_proven_on_its_provider_and_again_on_another(repository: Repository, tmp_path: Path) -> None:
    versions = [(SIMPLE, repository.aliases(SIMPLE)["stable"])]
    for own in (Providers("openvino"), Providers("cpu")):
        proofs = Proofs(data=tmp_path, providers=own)
        assert proofs.refusals(repository, versions) == {}
    kept = (tmp_path / "proofs" / "proven.txt").read_text().splitlines()
    assert len(set(kept)) == 2


@needs_openvino
def test_a_graph_beyond_openvino_is_refused_by_the_process_that_loads_first(repository: Repository) -> None:
    refusals = Proofs(providers=Providers("openvino")).refusals(repository, [("breast-cancer", 1)])
    assert "cannot be run by openvino" in refusals["breast-cancer", 1]


@needs_openvino
def test_the_small_graph_runs_on_openvino_alone() -> None:
    options = ort.SessionOptions()
    made = make_session(providers.SMALL_GRAPH, options, Execution("openvino"))
    assert made.session.get_providers()[0] == OPENVINO
    assert placement_of(made, "openvino").on_cpu == {}


@needs_openvino
def test_bands_cover_eight_times_the_difference_of_scores(repository: Repository) -> None:
    bundle = repository.bundle(SIMPLE, 2)
    here, there = load_model(bundle), load_on(bundle, provider="openvino")
    assert there.parity is not None
    pairs = zip(here.chain.detectors, there.chain.detectors, there.parity.from_cpu.scores, strict=True)
    for before, after, apart in pairs:
        assert before.calibration is not None
        assert after.calibration is not None
        assert (after.calibration.caps >= before.calibration.caps).all()
        assert np.median(after.calibration.caps - after.calibration.scores) >= 0.99 * SAFETY * apart


@dataclass(frozen=True)
class Answered:
    """Decisions on all rows of some models, and what the service states of what runs them."""

    predictions: dict[str, list[Any]]
    described: dict[str, Any]
    properties: dict[str, Any]
    log: str


def answered(serving: Serving, models: Path, rows: dict[str, list[Any]], **environment: str) -> Answered:
    with serving(models, TEMPERANCE_LOAD_SECONDS="120", **environment) as server:
        predictions = {name: decided(server.client, name, own) for name, own in rows.items()}
        described = {name: server.client.get(f"/v1/models/{name}").json()["runtime"] for name in rows}
        properties = {name: server.client.get(f"/v2/models/{name}").json()["properties"] for name in rows}
        return Answered(predictions, described, properties, server.log.read_text())


def decided(client: httpx.Client, name: str, rows: list[Any]) -> list[Any]:
    found: list[Any] = []
    parameters = {"costs": COSTS} if name == BOOSTED else {}
    for start in range(0, len(rows), AT_ONCE):
        body = {"instances": rows[start : start + AT_ONCE], "parameters": parameters}
        answer = client.post(f"/v1/models/{name}:decide", json=body)
        assert answer.status_code == 200, answer.text
        found += answer.json()["predictions"]
    return found


@needs_openvino
def test_every_test_row_has_the_decision_that_it_has_on_the_cpu(
    serving: Serving, repository: Repository, images: list[Any], test_rows: list[list[float]], tmp_path: Path
) -> None:
    rows = {SIMPLE: images, BOOSTED: test_rows, "breast-cancer": test_rows}
    deployment = tmp_path / "deployment.toml"
    deployment.write_text('[models.breast-cancer.runtime]\nprovider = "cpu"\n')
    own = {"TEMPERANCE_PROVIDER": "openvino", "TEMPERANCE_DEPLOYMENT": str(deployment)}
    here, there = answered(serving, repository.root, rows), answered(serving, repository.root, rows, **own)
    for name in rows:
        for one, other in zip(here.predictions[name], there.predictions[name], strict=True):
            assert one["label"] == other["label"]
            assert one["ood"]["flagged"] == other["ood"]["flagged"]
            assert one["decision"]["action"] == other["decision"]["action"]
    providers_of = {name: own["provider"] for name, own in there.described.items()}
    assert providers_of == {SIMPLE: "openvino", BOOSTED: "openvino", "breast-cancer": "cpu"}
    assert {name: own["provider"] for name, own in there.properties.items()} == providers_of
    assert there.described["breast-cancer"]["noise"] is None
    assert there.described[BOOSTED]["operators_on_cpu"]
    assert f"{SIMPLE} version 2 runs on openvino (" in there.log
    assert "left to the CPU: " in there.log
