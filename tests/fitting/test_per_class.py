"""Thresholds within every predicted class: from the manifest or the flag through `fit` and the disk to served rows."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from service.bundle.record import ScoreRecord
from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.core.ood.nll import Nll
from service.errors import BundleDamaged, FitError
from service.evaluation.classification_problem import LabelledAnswer
from service.evaluation.evaluate import answer_of, evaluate
from service.fitting.fit import FitRequest, fit
from service.prediction.bulk import posterior_of
from service.reporting.terminal import render_record, render_report
from service.runtime.model import Model, load_model

Toy = Callable[..., Repository]
Save = Callable[..., Path]
K = 3
ONE = '[ood]\nscores = ["nll"]\nfalse_alarm = 0.1\n'
PER_CLASS = f"{ONE}per_class = true\n"


def uneven(n: int, *, rarest: float = 0.1, seed: int = 0) -> tuple[Array, Indices]:
    """Rows whose classes are predicted unevenly often, the rarest with the least confidence."""
    rng = np.random.default_rng(seed)
    predicted = rng.choice(K, size=n, p=[0.9 - rarest, 0.1, rarest])
    logits = rng.normal(size=(n, K))
    logits[np.arange(n), predicted] = (
        logits.max(axis=1) + rng.exponential(size=n) * np.array([6.0, 2.0, 0.5])[predicted]
    )
    logits = logits.astype(np.float32).astype(np.float64)
    return logits, (logits + rng.gumbel(size=(n, K))).argmax(axis=1).astype(np.intp)


def fitted(repository: Repository, data: Path, **options: object) -> Model:
    request = FitRequest(data, **options)  # type: ignore[arg-type]  # its own fields, by name
    return load_model(repository.bundle("toy", fit(repository, "toy", request).version))


def score_record(model: Model, name: str = "nll") -> ScoreRecord:
    assert model.bundle.record is not None
    return model.bundle.record.scores[name]


def rates(model: Model, *, seed: int) -> list[float]:
    x, _ = uneven(20_000, seed=seed)
    flagged = posterior_of(model, x).flagged
    assert flagged is not None
    return [float(flagged[x.argmax(axis=1) == k].mean()) for k in range(K)]


@pytest.fixture
def rows(save: Save) -> Path:
    x, y = uneven(2000)
    return save(X=x, y=y)


def test_every_predicted_class_keeps_the_rate_that_one_threshold_keeps_on_average_only(toy: Toy, rows: Path) -> None:
    together, within = (rates(fitted(toy(K, tail), rows), seed=1) for tail in (ONE, PER_CLASS))
    assert max(within) < 0.15
    assert max(together) > 0.25


def test_thresholds_are_those_of_the_rows_predicted_to_be_the_class(toy: Toy, rows: Path) -> None:
    x, _ = uneven(2000)
    record, scores, predicted = score_record(fitted(toy(K, PER_CLASS), rows)), Nll().score(x), x.argmax(axis=1)
    assert record.by_class is not None
    for k, name in enumerate(("ann", "bob", "cyd")):
        own = np.sort(scores[predicted == k])
        assert record.by_class[name].rows == len(own)
        rank = int(np.ceil((len(own) + 1) * 0.9))
        assert record.by_class[name].threshold == pytest.approx(own[rank - 1], rel=1e-5)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.needs != "sigmoid_logits"])
def test_flags_and_p_values_agree_for_every_score_and_class(name: str, toy: Toy, rows: Path) -> None:
    tail = PER_CLASS.replace("nll", name)
    posterior = posterior_of(fitted(toy(K, tail), rows), uneven(500, seed=2)[0])
    assert posterior.p_values is not None
    assert posterior.flags is not None
    np.testing.assert_array_equal(posterior.flags, posterior.p_values <= 0.1)


def test_the_flag_writes_what_the_manifest_can_declare(toy: Toy, rows: Path) -> None:
    flag, declared = fitted(toy(K, ONE), rows, per_class=True), fitted(toy(K, PER_CLASS), rows)
    assert flag.manifest.ood == declared.manifest.ood
    assert score_record(flag) == score_record(declared)
    assert tomllib.loads((flag.bundle.path / "manifest.toml").read_text())["ood"]["per_class"] is True


def test_a_class_predicted_too_rarely_has_the_threshold_of_all_rows_and_that_is_recorded(toy: Toy, save: Save) -> None:
    x, y = uneven(600, rarest=0.008)
    model = fitted(toy(K, PER_CLASS), save(X=x, y=y))
    record, rare = score_record(model), int((x.argmax(axis=1) == 2).sum())
    assert 0 < rare < 9
    assert record.by_class is not None
    assert (record.by_class["cyd"].rows, record.by_class["cyd"].threshold) == (rare, None)
    new = uneven(3000, seed=3)[0]
    posterior, own = posterior_of(model, new), new.argmax(axis=1) == 2
    assert posterior.flags is not None
    np.testing.assert_array_equal(posterior.flags[own, 0], posterior.scores[own, 0] > record.threshold)


def test_a_confidence_holds_within_every_class_and_needs_more_rows_there(toy: Toy, save: Save) -> None:
    x, y = uneven(600, rarest=0.03)
    data = save(X=x, y=y)
    average, sure = (score_record(fitted(toy(K, PER_CLASS), data, confidence=c)).by_class for c in (None, 0.95))
    assert average is not None
    assert sure is not None
    assert average["cyd"].threshold is not None
    assert sure["cyd"].threshold is None
    assert (sure["ann"].threshold or 0.0) > (average["ann"].threshold or 0.0)


def test_too_few_rows_for_all_classes_together_publish_nothing(toy: Toy, save: Save) -> None:
    x, y = uneven(8)
    repository = toy(K, PER_CLASS)
    with pytest.raises(FitError, match="needs at least 9 rows, there are 8"):
        fitted(repository, save(X=x, y=y))
    assert repository.versions("toy") == []


def test_without_it_nothing_new_is_recorded_or_stored(toy: Toy, rows: Path) -> None:
    model = fitted(toy(K, ONE), rows)
    assert model.bundle.record is not None
    assert "by_class" not in model.bundle.record.to_json()
    assert not any(":class_" in key for key in model.bundle.state)


def test_a_version_without_the_state_of_its_classes_is_refused(toy: Toy, rows: Path) -> None:
    import dataclasses

    bundle = fitted(toy(K, PER_CLASS), rows).bundle
    state = {key: value for key, value in bundle.state.items() if key != "nll:class_n"}
    with pytest.raises(BundleDamaged, match=r"state\.npz lacks what score 'nll' needs"):
        load_model(dataclasses.replace(bundle, state=state))


def test_records_and_reports_show_every_threshold(toy: Toy, save: Save) -> None:
    x, y = uneven(600, rarest=0.008)
    model = fitted(toy(K, PER_CLASS), save(X=x, y=y))
    assert model.bundle.record is not None
    posterior = posterior_of(model, x)
    report = evaluate(LabelledAnswer(answer_of(model, posterior), y, ood_posterior=posterior)).report
    console = Console(width=160)
    with console.capture() as shown:
        console.print(render_record(model.bundle.record), render_report(report))
    text = shown.get()
    own = score_record(model).by_class
    assert own is not None
    assert text.count(f"{own['ann'].threshold:.4g}") >= 2
    assert "predicted cyd" in text
    assert "predicted too rarely for a threshold of its own" in text
    limits = report.ood.scores["nll"].class_thresholds
    assert limits is not None
    assert limits["cyd"] == score_record(model).threshold
