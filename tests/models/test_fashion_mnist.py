import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.numerics import log_softmax
from service.data.dataset import read_rows
from service.errors import ServiceError
from service.prediction.bulk import posterior_of
from service.runtime.model import load_model
from tests.models.intervals import signs
from tests.models.recipes import MODELS, metrics, recipe, splits

NAME = "fashion-mnist"
SMOOTHED, MIXED, PLAIN = ("label smoothing", "mixup", "cross-entropy")
QUALITY = {  # what the card says of its table of differences
    (f"{SMOOTHED}, as trained less {PLAIN}, as trained", "cost"): 1,
    (f"{SMOOTHED}, as trained less {PLAIN}, as trained", "seen"): 1,
    (f"{MIXED}, as trained less {PLAIN}, as trained", "seen"): 1,
    (f"{SMOOTHED}, temperature less {SMOOTHED}, as trained", "cost"): -1,
    (f"{SMOOTHED}, temperature less {SMOOTHED}, as trained", "ECE"): -1,
    (f"{MIXED}, temperature less {MIXED}, as trained", "ECE"): -1,
    (f"{SMOOTHED}, inverse, temperature less {SMOOTHED}, temperature", "log loss"): 1,
    (f"{SMOOTHED}, inverse, temperature less {SMOOTHED}, temperature", "ECE"): -1,
    (f"{SMOOTHED}, temperature less {PLAIN}, temperature", "log loss"): 0,
    (f"{MIXED}, temperature less {PLAIN}, temperature", "log loss"): 1,
    (f"{SMOOTHED}, temperature less {PLAIN}, temperature", "cost"): 0,
    (f"{MIXED}, temperature less {PLAIN}, temperature", "cost"): 0,
    (f"{SMOOTHED}, temperature less {PLAIN}, temperature", "accuracy"): 1,
    (f"{MIXED}, temperature less {PLAIN}, temperature", "accuracy"): -1,
}
SEPARATION = {
    (f"{SMOOTHED} less {PLAIN}", "nll"): 1,
    (f"{MIXED} less {PLAIN}", "nll"): 1,
    (f"{MIXED} less {PLAIN}", "energy"): -1,
    (f"{SMOOTHED} less {PLAIN}", "energy"): 0,
    (f"{SMOOTHED} less {PLAIN}", "mahalanobis"): 0,
    (f"{MIXED} less {PLAIN}", "mahalanobis"): 0,
}


@pytest.mark.parametrize(("table", "claims"), [("differences", QUALITY), ("separations", SEPARATION)])
def test_the_card_claims_what_lies_outside_the_noise(table, claims):
    assert signs(metrics(NAME), table, claims) == claims


def test_both_versions_were_under_confident_and_are_no_longer():
    two = metrics(NAME)
    for found in (two, two["smoothed"]):
        assert found["params"]["temperature"] < 1.0
        assert found["test"]["calibration_error"] < 0.5 * found["as_trained"]["calibration_error"]


def test_each_version_declares_its_own_loss_under_an_alias_of_that_name():
    repository = Repository(MODELS)
    aliases = repository.aliases(NAME)
    losses = {alias: repository.bundle(NAME, number).manifest.training for alias, number in aliases.items()}
    assert losses["label-smoothing"].loss == "label_smoothing"
    assert losses["label-smoothing"].epsilon == 0.1
    assert losses["mixup"] == losses["stable"]
    assert (losses["mixup"].loss, losses["mixup"].mixup_alpha) == ("mixup", 0.2)


@pytest.mark.parametrize("number", [1, 2])
def test_an_image_whose_pixels_are_bytes_is_refused(number, tmp_path):
    images = np.zeros((1, 28, 28), dtype=np.float32)
    images[0, 14, 14] = 255.0
    np.savez(tmp_path / "bytes.npz", x=images)
    model = load_model(Repository(MODELS).bundle(NAME, number))
    with pytest.raises(ServiceError, match="must lie between 0 and 1"):
        posterior_of(model, read_rows(tmp_path / "bytes.npz", model.manifest, inputs=model.inputs))


def test_the_version_with_label_smoothing_reproduces_its_numbers():
    module = recipe(NAME)
    test = splits(module)["test"]
    from service.training.publication import report_of

    found, model = metrics(NAME)["smoothed"], load_model(Repository(MODELS).bundle(NAME, 1))
    assert (found["version"], found["digest"]) == (model.version, model.bundle.digest)
    assert report_of(model, test).metrics == pytest.approx(found["test"], rel=1e-4, abs=1e-4)


def test_the_inverse_rules_the_true_class_out_for_a_few_images():
    module = recipe(NAME)
    parts, model = splits(module), load_model(Repository(MODELS).bundle(NAME, 1))
    from service.training.publication import evaluation_of

    below = {}
    for name in ("calibration", "test"):
        answered = evaluation_of(model, parts[name]).labelled
        own = log_softmax(answered.answer.posterior.logits)[np.arange(len(answered.labels)), answered.labels]
        below[name] = int((own < np.log(0.1 / 10)).sum())
    assert below["calibration"] == 0
    assert below["test"] == pytest.approx(12, abs=1)  # other processors round otherwise


def test_the_network_has_as_many_weights_as_the_card_says():
    module = recipe(NAME)
    network = module.convolutional(np.ones((1, 28, 28)), 10, features=32)
    count = sum(weights.numel() for weights in network.parameters())
    assert f"{count:,} weights" in (MODELS / NAME / "README.md").read_text(encoding="utf-8")


def test_no_seed_shares_a_training_image_and_no_image_is_in_two_splits():
    module = recipe(NAME)
    parts = [splits(module), module.load(1)]
    rows = [part.inputs for part in (*parts[0].values(), parts[1]["train"])]
    assert [len(images) for images in rows] == [10_000, 2_000, 1_000, 10_000, 10_000]
    images = np.concatenate(rows).reshape(33_000, -1)
    again = len(images) - len(np.unique(images.view(f"V{images.shape[1] * 4}")))
    assert again <= 20  # the source itself holds some images twice
    assert images.min() == 0.0
    assert images.max() == 1.0
