"""Every OOD score, from the manifest through `fit` and the disk into a served model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.errors import FitError, ManifestInvalid
from service.fitting.fit import FitRequest, fit
from service.fitting.publish import publish_draft
from service.importer.declared import Declared
from service.importer.import_model import import_model
from service.prediction.bulk import posterior_of
from service.runtime.model import load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
K = 3


def tail(*scores: str) -> str:
    return f"[ood]\nscores = {list(scores)}\nfalse_alarm = 0.1\n".replace("'", '"')


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.needs != "sigmoid_logits"])
def test_a_score_is_fitted_stored_restored_and_flags_at_its_rate(
    name: str, toy: Toy, truth: Truth, save: Callable[..., Path]
) -> None:
    x, y = truth(800, K)
    repository = toy(K, tail(name))
    version = fit(repository, "toy", FitRequest(save(X=x, y=y))).version
    model = load_model(repository.bundle("toy", version))
    fresh, _ = truth(2000, K, seed=1)
    posterior = posterior_of(model, fresh)
    assert posterior.flagged is not None
    assert np.isfinite(posterior.scores).all()
    assert posterior.flagged.mean() < 0.16
    again = posterior_of(load_model(repository.bundle("toy", version)), fresh)
    np.testing.assert_array_equal(posterior.scores, again.scores)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.needs == "logits"])
def test_a_score_on_logits_is_refused_for_probabilities_with_the_reason(
    name: str, tmp_path: Path, linear_graph: Callable[..., Path]
) -> None:
    graph = linear_graph(np.eye(K).tolist(), [0.0] * K, activation="Softmax")
    repository = Repository(tmp_path / "models")
    draft = import_model(repository, "soft", graph, Declared()).draft
    with (draft / "manifest.toml").open("a") as manifest:
        manifest.write(tail(name))
    with pytest.raises(ManifestInvalid, match=f"'{name}' needs logits, and the output is probabilities"):
        load_model(repository.draft("soft"))


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.needs == "logits"])
def test_neither_fit_nor_publish_lets_a_refused_score_through(
    name: str, tmp_path: Path, linear_graph: Callable[..., Path], truth: Truth, save: Callable[..., Path]
) -> None:
    graph = linear_graph(np.eye(K).tolist(), [0.0] * K, activation="Softmax")
    repository = Repository(tmp_path / "models")
    draft = import_model(repository, "soft", graph, Declared()).draft
    with (draft / "manifest.toml").open("a") as manifest:
        manifest.write(tail(name))
    x, y = truth(400, K)
    for attempt in (
        lambda: fit(repository, "soft", FitRequest(save(X=x, y=y))),
        lambda: publish_draft(repository, "soft"),
    ):
        with pytest.raises(ManifestInvalid, match=f"'{name}' needs logits, and the output is probabilities"):
            attempt()
    assert repository.versions("soft") == []


def test_all_scores_at_once_share_the_false_alarm_rate(toy: Toy, truth: Truth, save: Callable[..., Path]) -> None:
    x, y = truth(2400, K)
    together = [name for name, score in SCORES.items() if score.needs != "sigmoid_logits"]
    repository = toy(K, tail(*together))
    model = load_model(repository.bundle("toy", fit(repository, "toy", FitRequest(save(X=x, y=y))).version))
    assert [detector.name for detector in model.chain.detectors] == together
    posterior = posterior_of(model, truth(6000, K, seed=1)[0])
    assert posterior.flagged is not None
    assert posterior.p_value is not None
    assert posterior.flagged.mean() < 0.12
    np.testing.assert_array_equal(posterior.flagged, posterior.p_value <= 0.1)


def test_a_score_on_logits_is_refused_for_one_column_with_the_reason(
    tmp_path: Path, linear_graph: Callable[..., Path]
) -> None:
    repository = Repository(tmp_path / "models")
    graph = linear_graph([[1.0], [0.0]], [0.0])
    draft = import_model(repository, "one", graph, Declared(output_kind="logits")).draft
    with (draft / "manifest.toml").open("a") as manifest:
        manifest.write(tail("energy"))
    with pytest.raises(ManifestInvalid, match="one column"):
        load_model(repository.draft("one"))


def test_a_score_that_two_classes_make_constant_is_refused(toy: Toy) -> None:
    with pytest.raises(ManifestInvalid, match="'logit_norm' has the same value"):
        toy(2, tail("logit_norm")).draft("toy")


def test_confidence_raises_the_threshold_and_is_recorded(toy: Toy, truth: Truth, save: Callable[..., Path]) -> None:
    x, y = truth(400, K)
    found = {}
    for confidence in (None, 0.95):
        request = FitRequest(save(X=x, y=y), confidence=confidence)
        found[confidence] = fit(toy(K, tail("nll")), "toy", request).record.scores["nll"]
    assert found[0.95].threshold > found[None].threshold
    assert found[0.95].confidence == 0.95
    assert found[None].confidence is None


def test_too_few_rows_for_the_confidence_publish_nothing(toy: Toy, truth: Truth, save: Callable[..., Path]) -> None:
    x, y = truth(25, K)
    repository = toy(K, tail("nll"))
    with pytest.raises(FitError, match="rows"):
        fit(repository, "toy", FitRequest(save(X=x, y=y), confidence=0.99))
    assert repository.versions("toy") == []
