import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_breast_cancer

from service.bundle.repository import Bundle, Repository
from service.data.dataset import read_dataset
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model

NAME = "breast-cancer"
SHIPPED = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def remade(recipe: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What the recipe publishes today, into an empty repository."""
    root = tmp_path_factory.mktemp("remade")
    result = recipe.make(root)
    return Repository(root).bundle(NAME, result.version)


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Repository(SHIPPED).bundle(NAME, 1)


@pytest.fixture(scope="module")
def model(shipped: Bundle) -> Model:
    return load_model(shipped)


def same(found: object, expected: object) -> bool:
    """Equality of JSON documents whose numbers agree to 1e-6 relative."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected))


def test_the_recipe_still_gives_the_published_calibration(remade: Bundle, shipped: Bundle) -> None:
    found, expected = (json.loads((b.path / "calibration.json").read_text()) for b in (remade, shipped))
    for document in (found, expected):
        del document["content_sha256"]  # of every byte of the state, which other processors round otherwise
    if remade.graph_path.read_bytes() != shipped.graph_path.read_bytes():
        found["graph_sha256"] = expected["graph_sha256"]
    assert same(found, expected)


def test_the_recipe_still_gives_the_published_probabilities(
    remade: Bundle, model: Model, test_rows: list[list[float]]
) -> None:
    rows = np.array(test_rows)
    found, expected = load_model(remade).posterior(rows), model.posterior(rows)
    np.testing.assert_allclose(np.exp(found.log_probs), np.exp(expected.log_probs), atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_the_recipe_still_writes_the_committed_card_and_manifest(remade: Bundle, shipped: Bundle) -> None:
    card = (remade.path.parent / "README.md").read_text()
    committed = (SHIPPED / NAME / "README.md").read_text()
    assert card.replace(str(remade.digest), "") == committed.replace(str(shipped.digest), "")
    assert (remade.path / "manifest.toml").read_bytes() == (shipped.path / "manifest.toml").read_bytes()


def test_the_card_names_the_committed_bundle(shipped: Bundle) -> None:
    assert f"Version 1, digest `{shipped.digest}`." in (SHIPPED / NAME / "README.md").read_text()


def test_the_splits_are_the_whole_data_set_and_no_row_is_in_two(recipe: ModuleType) -> None:
    features, splits = recipe.load_splits()
    rows = [tuple(row) for split in splits.values() for row in split.rows]
    data = load_breast_cancer()
    assert len(set(rows)) == len(rows) == 569
    assert set(rows) == {tuple(row) for row in data.data}
    assert list(features) == list(data.feature_names)
    assert {name: len(split.labels) for name, split in splits.items()} == {
        "train": 284,
        "calibration": 142,
        "test": 143,
    }


def test_labels_are_those_of_the_source(recipe: ModuleType) -> None:
    data = load_breast_cancer()
    truth = {tuple(row): str(data.target_names[k]) for row, k in zip(data.data, data.target, strict=True)}
    for split in recipe.load_splits()[1].values():
        assert [truth[tuple(row)] for row in split.rows] == [recipe.CLASSES[k] for k in split.labels]


def test_every_split_has_the_classes_in_the_same_proportion(recipe: ModuleType) -> None:
    shares = [split.labels.mean() for split in recipe.load_splits()[1].values()]
    assert max(shares) - min(shares) < 0.01


def test_a_csv_round_trip_loses_no_bit(recipe: ModuleType, data_folder: Path, model: Model) -> None:
    split = recipe.load_splits()[1]["test"]
    data = read_dataset(data_folder / "test.csv", model.manifest)
    np.testing.assert_array_equal(data.numbers, split.rows)
    np.testing.assert_array_equal(data.labels, split.labels)


def test_the_card_s_combined_false_alarm_rate_is_the_measured_one(model: Model, data_folder: Path) -> None:
    flagged = posterior_of(model, read_dataset(data_folder / "test.csv", model.manifest).numbers).flagged
    assert flagged is not None
    said = f"false-alarm rate on the test rows: {flagged.sum()} of {len(flagged)}, {100 * flagged.mean():.1f} %**"
    assert said in (SHIPPED / NAME / "README.md").read_text()


def test_what_the_card_says_of_shuffled_rows_is_measured(model: Model, data_folder: Path) -> None:
    rows = read_dataset(data_folder / "test.csv", model.manifest).numbers
    posterior = posterior_of(model, np.random.default_rng(0).permuted(rows, axis=0))
    assert posterior.flagged is not None
    assert posterior.flags is not None
    line = f"| {100 * posterior.flagged.mean():.0f} % | {100 * posterior.flags[:, 0].mean():.0f} % |"
    assert f"| the same, every column shuffled between patients {line}" in (SHIPPED / NAME / "README.md").read_text()


def test_the_network_is_the_one_that_was_trained(recipe: ModuleType, model: Model) -> None:
    splits = recipe.load_splits()[1]
    trained = recipe.train_classifier(splits["train"])
    rows = splits["test"].rows
    served = np.exp(model.posterior(rows).logits)
    served /= served.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served, trained.predict_proba(rows.astype(np.float32)), atol=1e-5)


def test_the_manifest_is_what_the_issue_asks_for(shipped: Bundle) -> None:
    manifest = shipped.manifest
    assert manifest.graph.classes == ("benign", "malignant")
    assert list(manifest.columns) == list(load_breast_cancer().feature_names)
    assert manifest.ood.scores == ("nll", "mahalanobis")
    assert manifest.ood.gate_members == ("mahalanobis", "range")
    assert manifest.default_policy == "biopsy"
    assert manifest.policies["biopsy"].on_ood == "defer"
    assert manifest.policies["biopsy"].costs == {
        "dismiss": {"benign": 0.0, "malignant": 50.0},
        "biopsy": {"benign": 1.0, "malignant": 1.0},
        "defer": {"benign": 3.0, "malignant": 3.0},
    }


def test_every_plausible_range_is_wider_than_the_data(shipped: Bundle) -> None:
    rows = load_breast_cancer().data
    for i, name in enumerate(shipped.manifest.columns):
        bounds = shipped.manifest.features[name].plausible
        assert bounds is not None
        assert bounds[0] <= rows[:, i].min()
        assert bounds[1] > rows[:, i].max()


def test_the_graph_is_valid_and_small(shipped: Bundle) -> None:
    onnx.checker.check_model(onnx.load(shipped.graph_path))
    assert shipped.graph_path.stat().st_size < 100_000


def test_no_patient_s_row_lies_in_the_bundle(shipped: Bundle, test_rows: list[list[float]], recipe: ModuleType) -> None:
    splits = recipe.load_splits()[1]
    rows = np.concatenate([np.array(test_rows), splits["train"].rows, splits["calibration"].rows])
    known = {tuple(row) for row in rows}
    stored = [array for array in shipped.state.values() if array.ndim == 2 and array.shape[1] == 30]
    assert not any(tuple(row) in known for array in stored for row in array)
