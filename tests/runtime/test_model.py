import dataclasses
import gc
import json
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.bundle.manifest import MANIFEST_FILE
from service.bundle.policies import policy_of
from service.bundle.record import RECORD_FILE
from service.bundle.repository import Bundle, Repository
from service.bundle.sections import Policy
from service.bundle.state import STATE_FILE, dump_state
from service.bundle.writer import create_draft, draft_files, publish
from service.core.pipeline import postprocess
from service.errors import BundleDamaged, InvalidInstances, ManifestInvalid, ModelOutputInvalid
from service.runtime.model import load_model

NAME = "breast-cancer"
TWO = '[[inputs]]\nname = "x"\nfeatures = ["age", "pulse"]\n'
IDENTITY = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])


@pytest.fixture
def shipped(repository: Repository) -> Bundle:
    return repository.bundle(NAME, 1)


@pytest.fixture
def draft(repository: Repository, shipped: Bundle) -> Path:
    """A draft of the shipped version, calibration included."""
    return create_draft(repository, NAME, draft_files(shipped))


def test_a_model_describes_itself(shipped: Bundle) -> None:
    model = load_model(shipped)
    assert (model.name, model.version, model.method, model.status) == (NAME, "1", "temperature", "ok")
    assert model.classes == ("benign", "malignant")
    assert list(model.policies) == ["biopsy"]
    assert model.source is not None
    np.testing.assert_allclose(model.source.sum(), 1.0)


def test_a_posterior_is_the_core_s_for_the_graph_s_logits(shipped: Bundle, test_rows: list[list[float]]) -> None:
    model, rows = load_model(shipped), np.array(test_rows[:10])
    raw = model.raw(rows)
    seen = rows.astype(np.float32).astype(np.float64)  # as the graph takes them
    expected, found = postprocess(model.chain, raw.logits, raw.columns, features=seen), model.posterior(rows)
    np.testing.assert_array_equal(found.log_probs, expected.log_probs)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_rows_are_checked_before_the_graph_sees_them(shipped: Bundle, test_rows: list[list[float]]) -> None:
    rows = np.array(test_rows[:3])
    rows[1, 2] = np.nan
    with pytest.raises(InvalidInstances):
        load_model(shipped).posterior(rows)


def test_a_version_without_a_calibration_flags_nothing_and_is_uncalibrated(
    repository: Repository, draft: Path, test_rows: list[list[float]]
) -> None:
    (draft / RECORD_FILE).unlink()
    model = load_model(repository.draft(NAME))
    posterior = model.posterior(np.array(test_rows[:2]))
    assert (model.version, model.method, model.status, model.source) == ("draft", "identity", "uncalibrated", None)
    assert (posterior.flagged, posterior.flags, posterior.p_values, posterior.p_value) == (None, None, None, None)
    assert model.chain.detectors[0].threshold is None


def test_a_calibration_fitted_on_another_graph_is_refused(
    repository: Repository, shipped: Bundle, draft: Path, linear_graph: Callable[..., Path]
) -> None:
    shutil.copy(linear_graph(np.zeros((30, 2)).tolist(), [0.0, 1.0]), draft / "model.onnx")
    text = (draft / MANIFEST_FILE).read_text()
    (draft / MANIFEST_FILE).write_text(text.replace("add_result2", "scores").replace('name = "X"', 'name = "x"'))
    version = publish(repository, repository.draft(NAME), record=shipped.record, state=shipped.state)
    with pytest.raises(BundleDamaged, match=r"calibration\.json was fitted on another graph"):
        load_model(repository.bundle(NAME, version))


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ("graph", 'task = "multiclass"', 'task = "multiclass"\nprobability_floor = 1e-6'),
        ("inputs", '"mean radius", ', '"average radius", '),
        ("training", 'loss = "cross_entropy"', 'loss = "mixup"'),
        ("ood", "false_alarm = 0.05", "false_alarm = 0.06"),
    ],
)
def test_a_version_whose_record_speaks_of_another_section_is_refused(
    *, section: str, old: str, new: str, repository: Repository, shipped: Bundle, draft: Path
) -> None:
    text = (draft / MANIFEST_FILE).read_text().replace('[features."mean radius"]\nplausible = [0.0, 38.7]\n', "")
    assert old in text
    (draft / MANIFEST_FILE).write_text(text.replace(old, new))
    version = publish(repository, repository.draft(NAME), record=shipped.record, state=shipped.state)
    with pytest.raises(BundleDamaged, match=rf"calibration\.json was fitted with another \[{section}\]"):
        load_model(repository.bundle(NAME, version))


@pytest.mark.parametrize(
    "lost", ["mahalanobis:scores", "mahalanobis:ranks", "mahalanobis:n", "mahalanobis.means", "nll:scores"]
)
def test_a_calibration_without_the_state_it_needs_is_refused(
    lost: str, repository: Repository, shipped: Bundle, draft: Path
) -> None:
    (draft / STATE_FILE).write_bytes(dump_state({key: value for key, value in shipped.state.items() if key != lost}))
    with pytest.raises(BundleDamaged, match=rf"state\.npz lacks what score '{re.split('[:.]', lost)[0]}' needs"):
        load_model(repository.draft(NAME))


def test_a_calibration_without_any_state_is_refused(repository: Repository, draft: Path) -> None:
    (draft / STATE_FILE).unlink()
    with pytest.raises(BundleDamaged, match=r"state\.npz lacks what score"):
        load_model(repository.draft(NAME))


def test_a_source_prevalence_of_other_classes_is_refused(repository: Repository, draft: Path) -> None:
    record = json.loads((draft / RECORD_FILE).read_text())
    record["source"]["prevalence"] = {"benign": 1.0}
    (draft / RECORD_FILE).write_text(json.dumps(record))
    with pytest.raises(BundleDamaged, match=r"calibration\.json: source\.prevalence"):
        load_model(repository.draft(NAME))


def test_an_output_that_the_graph_lacks_is_refused_beside_those_it_has(
    linear_graph: Callable[..., Path], bundle_of: Callable[..., Bundle]
) -> None:
    with pytest.raises(ManifestInvalid, match=r"graph\.output: 'logits' is not one of scores"):
        load_model(bundle_of(linear_graph(*IDENTITY), TWO, output="logits"))


def test_an_output_that_holds_no_numbers_is_refused(
    graph_of: Callable[..., Path], bundle_of: Callable[..., Bundle]
) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["scores"], to=TensorProto.STRING)]
    graph = graph_of(nodes, {"x": (TensorProto.FLOAT, [None, 2])}, {"scores": (TensorProto.STRING, [None, 2])})
    with pytest.raises(ManifestInvalid, match=r"graph\.output: 'scores' is tensor\(string\)"):
        load_model(bundle_of(graph, TWO))


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b", "c", "d")])
def test_classes_that_the_output_has_no_columns_for_are_refused(
    classes: tuple[str, ...], linear_graph: Callable[..., Path], bundle_of: Callable[..., Bundle]
) -> None:
    with pytest.raises(ManifestInvalid, match=f"{len(classes)} classes are declared"):
        load_model(bundle_of(linear_graph(*IDENTITY), TWO, classes=classes))


def test_a_model_whose_first_output_contradicts_its_manifest_is_not_loaded(
    linear_graph: Callable[..., Path], bundle_of: Callable[..., Bundle]
) -> None:
    with pytest.raises(ModelOutputInvalid, match="declared as probabilities and is not"):
        load_model(bundle_of(linear_graph(*IDENTITY), TWO, kind="probabilities"))


@pytest.mark.parametrize("activation", [None, "Softmax", "LogSoftmax"])
def test_the_declared_kind_decides_what_an_output_means(
    activation: str | None, linear_graph: Callable[..., Path], bundle_of: Callable[..., Bundle]
) -> None:
    kind = {None: "logits", "Softmax": "probabilities", "LogSoftmax": "log_probabilities"}[activation]
    output = "scores" if activation is None else "activated"
    model = load_model(bundle_of(linear_graph(*IDENTITY, activation=activation), TWO, output=output, kind=kind))
    probabilities = np.exp(model.posterior(np.array([[0.0, np.log(3.0)]])).log_probs)
    np.testing.assert_allclose(probabilities, [[0.25, 0.75]], atol=1e-6)


def test_synthetic_rows_are_admitted_whatever_the_types_and_ranges(
    mixed_graph: Path, bundle_of: Callable[..., Bundle]
) -> None:
    tail = (
        '[[inputs]]\nname = "f"\nfeatures = ["f0", "f1"]\n[[inputs]]\nname = "d"\n[[inputs]]\nname = "n"\n'
        '[[inputs]]\nname = "m"\n[features.f0]\nallowed = [5, 6]\n[features.n]\nplausible = [1, 4]\n'
        "[features.m]\nallowed = [-9, -8]\nplausible = [-9, -8.5]\n"
    )
    model = load_model(bundle_of(mixed_graph, tail))
    assert np.asarray(model.inputs.synthetic()).tolist() == [[5.5, 0.0, 0.0, 2.0, -9.0]]


def test_a_graph_that_fails_on_what_its_manifest_allows_asks_for_what_it_takes(
    graph_of: Callable[..., Path], bundle_of: Callable[..., Bundle]
) -> None:
    nodes = [helper.make_node("Sub", ["x", "ten"], ["i"]), helper.make_node("Gather", ["table", "i"], ["scores"])]
    ten = helper.make_tensor("ten", TensorProto.INT64, [1], [10])
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    inputs, outputs = {"x": (TensorProto.INT64, [None, 1])}, {"scores": (TensorProto.FLOAT, [None, 1])}
    graph = graph_of(nodes, inputs, outputs, (ten, table))
    with pytest.raises(ManifestInvalid, match="fails on a row that the manifest allows; declare which it takes"):
        load_model(bundle_of(graph, '[[inputs]]\nname = "x"\n'))
    assert load_model(bundle_of(graph, '[[inputs]]\nname = "x"\n[features.x]\nplausible = [10, 12]\n'))


def test_a_policy_s_costs_follow_the_classes_not_the_file() -> None:
    section = Policy.model_validate({"on_ood": "call", "costs": {"wait": {"b": 5, "a": 0}, "call": {"a": 1, "b": 2}}})
    policy = policy_of("triage", section, ("a", "b"))
    assert policy.actions == ("wait", "call")
    assert policy.cost.tolist() == [[0.0, 5.0], [1.0, 2.0]]
    assert policy.on_ood == 1
    assert policy_of("t", section.model_copy(update={"on_ood": "flag"}), ("a", "b")).on_ood is None


def test_a_draft_may_be_looked_at_with_a_calibration_that_no_longer_holds(repository: Repository, draft: Path) -> None:
    text = (draft / MANIFEST_FILE).read_text()
    (draft / MANIFEST_FILE).write_text(text.replace("false_alarm = 0.05", "false_alarm = 0.06"))
    assert load_model(repository.draft(NAME)).status == "ok"


def test_a_bundle_is_what_its_model_was_loaded_from(shipped: Bundle) -> None:
    assert load_model(shipped).bundle == dataclasses.replace(shipped)


def test_a_version_whose_record_lacks_a_score_of_its_manifest_is_refused(shipped: Bundle) -> None:
    assert shipped.record is not None
    scores = {name: score for name, score in shipped.record.scores.items() if name != "mahalanobis"}
    record = shipped.record.model_copy(update={"scores": scores})
    with pytest.raises(BundleDamaged, match="do not name the same scores"):
        load_model(dataclasses.replace(shipped, record=record))


def test_a_model_without_references_leaves_memory_at_once(shipped: Bundle) -> None:
    model = load_model(shipped)
    model.posterior(model.inputs.synthetic())
    session = weakref.ref(model.session)
    gc.disable()  # what a server set aside at its start is never looked at again
    try:
        del model
        assert session() is None
    finally:
        gc.enable()
