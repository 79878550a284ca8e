"""Feature scores on a tensor that the graph exposes: from the manifest through `fit` and the disk to served rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.bundle.writer import create_draft
from service.core.assessment.metrics import separation_score
from service.core.ood import SCORES
from service.data.dataset import Dataset
from service.errors import FitError, ManifestInvalid
from service.fitting import ood_detectors
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.fitting.splits import halves
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, load_model
from tests.conftest import HiddenLayer

Save = Callable[..., Path]
Make = Callable[..., Repository]
ON_FEATURES = [name for name, score in SCORES.items() if score.needs == "features"]
TEXT = """\
schema = 1
title = "a hidden layer"
[graph]
output = "{kind}"
output_kind = "{kind}"
classes = ["a", "b", "c", "d"]
[[inputs]]
name = "x"
features = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]
[ood]
{ood}
"""


@pytest.fixture
def network(tmp_path: Path, hidden_layer: HiddenLayer) -> Make:
    """A repository with a draft `net` of the network, its `[ood]` as given."""

    def make(ood: str = 'scores = ["nll", "mahalanobis"]\nspace = "hidden"', **graph: object) -> Repository:
        repository = Repository(tmp_path / "networks")
        path = hidden_layer.save(tmp_path / "net.onnx", **graph)  # type: ignore[arg-type]  # its own options
        text = TEXT.format(ood=ood, kind=graph.get("kind", "logits"))
        create_draft(repository, "net", {"model.onnx": path, "manifest.toml": text}, force=True)
        return repository

    return make


@pytest.fixture
def rows(save: Save, hidden_layer: HiddenLayer) -> Path:
    x, y = hidden_layer.draw(800, seed=2)
    return save(X=x, y=y)


def fitted(repository: Repository, rows: Path, **options: object) -> Model:
    request = FitRequest(rows, **options)  # type: ignore[arg-type]  # its own fields, by name
    return load_model(repository.bundle("net", fit(repository, "net", request).version))


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_feature_score_is_that_of_the_exposed_tensor(
    name: str, network: Make, rows: Path, hidden_layer: HiddenLayer
) -> None:
    model = fitted(network(f'scores = ["{name}"]\nspace = "hidden"'), rows)
    x, y = hidden_layer.draw(800, seed=2)
    learning, _ = halves(Dataset(x, y, None, None, ""), 0)
    seen, logits = hidden_layer.hidden(x), hidden_layer.logits(x)
    by_hand = SCORES[name].fit(seen[learning], y[learning], logits=logits[learning])
    new, _ = hidden_layer.draw(200, seed=3)
    expected = by_hand.score(hidden_layer.hidden(new))
    np.testing.assert_allclose(model.posterior(new).scores[:, 0], expected, rtol=2e-3, atol=1e-3)


def test_far_rows_are_seen_by_a_feature_score_where_the_network_is_certain(
    network: Make, rows: Path, hidden_layer: HiddenLayer
) -> None:
    model = fitted(network('scores = ["nll", "mahalanobis", "relative_mahalanobis"]\nspace = "hidden"'), rows)
    near = posterior_of(model, hidden_layer.draw(2000, seed=4)[0])
    far = posterior_of(model, hidden_layer.far(2000, seed=5))
    found = [separation_score(near.scores[:, i], far.scores[:, i]) for i in range(3)]
    assert found[0] < 0.1
    assert min(found[1:]) > 0.95
    assert near.flagged is not None
    assert far.flagged is not None
    assert near.flagged.mean() < 0.08
    assert far.flagged.mean() > 0.9


def test_what_is_shown_of_the_inputs_stays_theirs(network: Make, rows: Path, hidden_layer: HiddenLayer) -> None:
    tail = 'scores = ["mahalanobis"]\nspace = "hidden"\ngate = ["range"]\n[features.f0]\nplausible = [-9.0, 9.0]'
    model = fitted(network(tail), rows)
    posterior = model.posterior(hidden_layer.far(50, seed=5))
    np.testing.assert_array_equal(posterior.outside[:, 0], np.abs(hidden_layer.far(50, seed=5)[:, 0]) > 9.0)
    assert posterior.outside.shape == (50, 8)


def test_missing_inputs_do_no_harm_to_scores_that_do_not_look_at_them(network: Make) -> None:
    tail = '\n[features.f0]\nmissing = "nan"'
    with pytest.raises(ManifestInvalid, match="feature scores need every value"):
        network(f'scores = ["mahalanobis"]{tail}').draft("net")
    assert network(f'scores = ["mahalanobis"]\nspace = "hidden"{tail}').draft("net").manifest.ood.space == "hidden"


def test_an_uncalibrated_version_loads_and_answers(network: Make, hidden_layer: HiddenLayer) -> None:
    repository = network()
    model = load_model(repository.bundle("net", publish_draft(repository, "net").version))
    posterior = model.posterior(hidden_layer.draw(3, seed=0)[0])
    assert (model.status, posterior.flagged) == ("uncalibrated", None)
    assert [detector.name for detector in model.chain.detectors] == ["nll"]


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_the_output_may_be_of_any_kind(kind: str, network: Make, rows: Path, hidden_layer: HiddenLayer) -> None:
    model = fitted(network(kind=kind), rows)
    far = model.posterior(hidden_layer.far(100, seed=5))
    assert far.flags is not None
    assert far.flags[:, 1].mean() > 0.95


def test_trailing_axes_of_length_one_are_let_go(network: Make, rows: Path, hidden_layer: HiddenLayer) -> None:
    flat, pooled = (fitted(network(shape=shape), rows) for shape in (None, (-1, 24, 1, 1)))
    new, _ = hidden_layer.draw(20, seed=6)
    np.testing.assert_array_equal(pooled.posterior(new).scores, flat.posterior(new).scores)


@pytest.mark.parametrize("shape", [(-1, 6, 4), (-1, 1, 24), (-1, 4, 3, 2)])
def test_any_other_rank_is_refused_with_the_remedy(shape: tuple[int, ...], network: Make) -> None:
    with pytest.raises(ManifestInvalid, match=r"ood\.space: output 'hidden' has shape .*\[rows, features\].*pooled"):
        load_model(network(shape=shape).draft("net"))


@pytest.mark.parametrize("space", ["flat", "nothing"])
def test_a_tensor_that_is_no_output_is_refused_and_the_remedy_named(space: str, network: Make) -> None:
    repository = network(f'scores = ["knn"]\nspace = "{space}"')
    message = rf"ood\.space: '{space}' is no .* \(those are logits, hidden\).*`--expose-features {space}`"
    with pytest.raises(ManifestInvalid, match=message) as refusal:
        load_model(repository.draft("net"))
    assert "\n" not in str(refusal.value)


def test_a_tensor_that_no_score_would_look_at_is_not_fitted(network: Make, rows: Path) -> None:
    repository = network('space = "hidden"')
    with pytest.raises(FitError, match=r"'hidden', and no score looks at it.*Nothing was published"):
        fitted(repository, rows)
    assert repository.versions("net") == []


def test_ood_data_chooses_among_the_scores_that_look_at_the_tensor(
    network: Make, rows: Path, save: Save, hidden_layer: HiddenLayer
) -> None:
    repository = network('space = "hidden"')
    model = fitted(repository, rows, ood_data=save("far", X=hidden_layer.far(300, seed=8)))
    record = model.bundle.record
    assert record is not None
    assert record.ood_data is not None
    outputs = record.ood_data.candidates
    assert model.manifest.ood.scores == ("mahalanobis",)
    assert outputs["mahalanobis"].auroc > 0.95
    assert outputs["nll"].auroc < 0.1
    assert outputs["energy"].auroc < 0.1


# --------------------------------------------------------------------------------------------------------- their size


def test_state_that_a_bundle_may_not_hold_is_refused_with_its_size(
    network: Make, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ood_detectors, "STATE_BYTES", 2**14)
    repository = network()
    with pytest.raises(
        FitError, match=r"takes 0\.\d MiB \(nll 0\.0, mahalanobis 0\.0\).* at most .*fewer \[ood\] scores"
    ):
        fitted(repository, rows, train_data=rows, allow_overlap=True)
    assert repository.versions("net") == []


def test_a_bank_that_could_not_hold_every_row_says_how_many_it_holds(
    network: Make, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.core.ood import knn

    whole = fitted(network('scores = ["knn"]\nspace = "hidden"'), rows).bundle.record
    monkeypatch.setattr(knn, "BANK_BYTES", 4 * 24 * 150)
    capped = fitted(network('scores = ["knn"]\nspace = "hidden"'), rows).bundle.record
    assert whole is not None
    assert capped is not None
    assert (whole.scores["knn"].kept_rows, capped.scores["knn"].kept_rows) == (None, 150)
    assert '"kept_rows": 150' in capped.to_json()
    assert "kept_rows" not in whole.to_json()
