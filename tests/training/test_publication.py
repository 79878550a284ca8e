from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from service.bundle.declared_inverse import inverse_record, label_inverse_record
from service.bundle.manifest import parse_manifest
from service.bundle.record import InverseRecord
from service.bundle.repository import Repository
from service.core.numerics import log_softmax
from service.training.example_sets import Examples
from service.training.failures import TrainingFailed
from service.training.loop import Settings, Trained, train
from service.training.networks import mlp
from service.training.objectives import Focal, MultilabelCrossEntropy, SequenceCrossEntropy, Weighted
from service.training.publication import (
    Declaration,
    declared_manifest,
    evaluation_of,
    events_of,
    facts_of,
    publish_trained,
    report_of,
)
from tests.training.every_objective import EVERY
from tests.training.manifests import CLASSES, manifest_text
from tests.training.problems import blobs, chains, flags

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = Settings(epochs=4, batch=32, learning_rate=0.02)
POLICY = {"triage": {"costs": {"wait": {"a": 0.0, "b": 9.0, "c": 9.0}, "see": {"a": 1.0, "b": 1.0, "c": 1.0}}}}
INVERSES = {  # what stage B undoes of each objective of one class per row
    "weighted": InverseRecord(loss="weighted", params={"class_weights": (1.0, 2.0, 5.0)}),
    "focal": InverseRecord(loss="focal", params={"gamma": 3.0}),
    "focal, weighted": InverseRecord(loss="focal", params={"gamma": 2.0, "alpha": (0.2, 0.3, 0.5)}),
    "label smoothing": InverseRecord(loss="label_smoothing", params={"epsilon": 0.2, "floor": 1e-7}),
}
LABEL_INVERSES = {
    "labels, weighted": InverseRecord(loss="multilabel_cross_entropy", params={"positive_weight": 3.0}),
    "labels, focal": InverseRecord(loss="sigmoid_focal", params={"gamma": 2.0, "alpha": 0.25}),
}


class Features(torch.nn.Module):
    """Logits, and the features below them."""

    def __init__(self):
        super().__init__()
        self.below, self.head = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

    def forward(self, rows):
        features = torch.relu(self.below(rows))
        return self.head(features), features


@pytest.fixture(scope="module")
def focal(tmp_path_factory):
    """A published network with focal loss on columns: its model, what was trained, and the repository."""
    models, rows = tmp_path_factory.mktemp("models"), blobs(400)
    trained = train(Features(), Focal(2.0), rows, blobs(100, seed=1), SHORT)
    declaration = Declaration(
        "blobs",
        "Three blobs",
        CLASSES,
        features=("p", "q", "r", "s"),
        outputs=("logits", "features"),
        sections={
            "ood": {"scores": ["nll", "mahalanobis"], "space": "features"},
            "policies": POLICY,
        },
    )
    model = publish_trained(trained, declaration, models=models, calibration=blobs(300, seed=2), train=rows)
    return model, trained, models


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A published network of two labels on standardised columns."""
    rows = flags(400)
    trained = train(mlp(rows, 2, hidden=(8,)), MultilabelCrossEntropy((1.0, 3.0)), rows, flags(100, seed=1), SHORT)
    columns, sections = ("p", "q", "r", "s"), {"features": {"p": {"unit": "mm"}}}
    declaration = Declaration("labels", "Two labels", ("one", "two"), features=columns, sections=sections)
    return publish_trained(
        trained, declaration, models=tmp_path_factory.mktemp("models"), calibration=flags(300, seed=2)
    )


def test_a_published_network_is_version_one_and_served_as_stable(focal):
    _, _, models = focal
    repository = Repository(models)
    assert repository.bundle("blobs", 1).path.is_dir()
    assert repository.aliases("blobs") == {"stable": 1}
    assert not (models / "blobs" / "draft").exists()


def test_its_manifest_declares_the_training_and_what_its_author_knows(focal):
    manifest = focal[0].manifest
    assert (manifest.title, manifest.graph.classes, manifest.graph.output_kind) == ("Three blobs", CLASSES, "logits")
    assert (manifest.training.loss, manifest.training.gamma) == ("focal", 2.0)
    assert list((manifest.training.prevalence or {}).values()) == pytest.approx(np.bincount(blobs(400).labels) / 400)
    assert (manifest.ood.scores, manifest.ood.space) == (("nll", "mahalanobis"), "features")
    assert manifest.policies["triage"].costs == POLICY["triage"]["costs"]


def test_what_the_author_adds_to_a_feature_stands_beside_what_the_importer_found(labels):
    features = labels.manifest.features
    assert features["p"].unit == "mm"
    assert features["p"].plausible == features["q"].plausible is not None


def test_its_logits_are_the_networks(focal):
    model, trained, _ = focal
    rows = blobs(300, seed=5).inputs
    np.testing.assert_allclose(model.raw(rows).logits, trained.outputs(rows), atol=1e-5)


def test_the_inverse_competes_on_the_calibration_rows(focal):
    record = focal[0].bundle.record
    assert {name for name in record.candidates if "inverse of focal" in name}
    assert record.inverse in (None, InverseRecord(loss="focal", params={"gamma": 2.0}))


def test_a_report_is_that_of_the_product_on_the_same_rows(focal):
    model, _, _ = focal
    test = blobs(300, seed=6)
    report = report_of(model, test, ood=test.inputs + 30.0)
    assert report.rows == 300
    assert (report.metrics["accuracy_score"] or 0.0) > 0.6
    assert (report.ood.scores["mahalanobis"].auroc or 0.0) > 0.99
    assert evaluation_of(model, test).report.metrics == report.metrics


def test_several_labels_are_published_with_the_weights_of_each(labels):
    training = labels.manifest.training
    assert (training.loss, training.class_weights) == ("weighted", {"one": 1.0, "two": 3.0})
    assert list((training.prevalence or {}).values()) == pytest.approx(flags(400).labels.mean(axis=0))
    assert report_of(labels, flags(200, seed=3)).rows == 200


def test_sequences_are_published_with_their_price_on_change(tmp_path):
    trained = train(torch.nn.Linear(2, 2), SequenceCrossEntropy(0.5), chains(200), chains(30, seed=1), SHORT)
    declaration = Declaration("chains", "Two states", ("low", "high"), pad=0)
    model = publish_trained(trained, declaration, models=tmp_path, calibration=chains(200, seed=2))
    training = model.manifest.training
    assert (model.manifest.graph.task, training.loss, training.smoothness) == ("sequence", "cross_entropy", 0.5)
    assert report_of(model, chains(60, seed=3)).rows == 60


# ------------------------------------------------------------------------------------------------ what is declared


def trained_with(objective: Any, prevalence=(0.5, 0.3, 0.2)) -> Trained:
    return Trained(torch.nn.Identity(), objective, np.array(prevalence), (), 0)


@pytest.mark.parametrize("name", EVERY)
def test_every_objective_declares_itself_and_the_prevalence(name):
    objective = EVERY[name][0]
    trained, declaration = trained_with(objective), Declaration("m", "Declared", CLASSES)
    manifest = parse_manifest(declared_manifest(manifest_text(objective.task, {}), trained, declaration))
    assert manifest.title == "Declared"
    assert manifest.training.prevalence == {"a": 0.5, "b": 0.3, "c": 0.2}
    expected = objective.declared(CLASSES)
    assert manifest.training.model_dump(include=set(expected)) == expected


@pytest.mark.parametrize("name", [name for name in EVERY if not EVERY[name][1].startswith(("multilabel", "sigmoid"))])
def test_the_inverse_of_what_is_declared_is_the_objectives_own(name):
    objective = EVERY[name][0]
    declaration = Declaration("m", "Declared", CLASSES)
    text = declared_manifest(manifest_text(objective.task, {}), trained_with(objective), declaration)
    assert inverse_record(parse_manifest(text)) == INVERSES.get(name)


@pytest.mark.parametrize("name", ["labels", *LABEL_INVERSES])
def test_the_inverse_of_a_label_is_the_objectives_own(name):
    objective = EVERY[name][0]
    declaration = Declaration("m", "Declared", CLASSES)
    text = declared_manifest(manifest_text(objective.task, {}), trained_with(objective), declaration)
    assert label_inverse_record(parse_manifest(text), "b") == LABEL_INVERSES.get(name)


def test_a_class_without_training_rows_is_named():
    trained, declaration = trained_with(Weighted((1.0, 1.0, 1.0)), (0.6, 0.4, 0.0)), Declaration("m", "M", CLASSES)
    with pytest.raises(TrainingFailed, match="no training row has the class 'c'"):
        declared_manifest(manifest_text("multiclass", {}), trained, declaration)


@pytest.mark.long
@pytest.mark.parametrize("name", EVERY)
def test_every_objective_trains_and_is_published(name, tmp_path):
    objective = EVERY[name][0]
    make = {"multiclass": blobs, "multilabel": three_flags, "sequence": three_states}[objective.task]
    network = torch.nn.Linear(2, 3) if objective.task == "sequence" else mlp(blobs(), 3, hidden=(8,))
    if name == "distillation":
        objective = type(objective)(mlp(blobs(), 3), tau=3.0, soft_share=0.7)
    trained = train(network, objective, make(400), make(100, seed=1), SHORT)
    pad = 0 if objective.task == "sequence" else None
    declaration = Declaration("every", "Every objective", CLASSES, pad=pad)
    model = publish_trained(trained, declaration, models=tmp_path, calibration=make(400, seed=2))
    expected = objective.declared(CLASSES)
    assert model.manifest.training.model_dump(include=set(expected)) == expected
    assert report_of(model, make(200, seed=3)).rows == 200


def three_flags(rows: int, *, seed: int = 0) -> Examples:
    found = blobs(rows, seed=seed)
    return Examples(found.inputs, (found.inputs[:, :3] > 0.5).astype(np.int64))


def three_states(rows: int, *, seed: int = 0) -> Examples:
    found = chains(rows, seed=seed)
    third = (found.labels == 1) & (found.inputs[..., 1] > 1.5)
    return Examples(found.inputs, np.where(third, 2, found.labels))


def test_facts_of_a_card_are_those_of_the_report_and_of_the_record(focal):
    model, _, _ = focal
    report = report_of(model, blobs(200, seed=3))
    found = facts_of(model, report)
    assert (found["version"], found["digest"]) == (model.version, model.bundle.digest)
    assert found["chain"] == ", ".join(model.bundle.record.chain)
    assert (found["test_rows"], found["test"], found["as_trained"]) == (
        200,
        report.metrics,
        report.uncalibrated_metrics,
    )
    costs, policy = found["policies"]["triage"], report.parts["rows"].policies["triage"]
    assert (costs["realised_cost"], costs["constant_cost"]) == (policy.realised_cost, policy.constant_cost)


def test_events_of_a_class_are_its_probabilities_before_and_after(focal):
    model, trained, _ = focal
    rows = blobs(200, seed=3)
    found = events_of(model, rows, 2)
    before, occurred = found["as trained"]
    assert before == pytest.approx(np.exp(log_softmax(trained.outputs(rows.inputs)))[:, 2], abs=1e-5)
    assert np.array_equal(occurred, rows.labels == 2)
    assert np.abs(found["served"][0] - before).max() > 1e-3
