"""OOD scores compared on out-of-distribution rows: never on rows they learned from; the manifest is never overruled."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from service.bundle.manifest import Manifest
from service.bundle.record import OodDataRecord, Record
from service.bundle.repository import Repository
from service.core.assessment.metrics import separation_score
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.core.ood.nll import Nll
from service.data.dataset import Dataset
from service.errors import DataError, FitError
from service.fitting.fit import FitRequest, fit
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.ood_candidates import TEMPERATURES, compare_scores, part, tune
from service.fitting.ood_detectors import fit_score, seen_by
from service.fitting.splits import halves
from service.prediction.bulk import posterior_of
from service.runtime.model import Model, Raw, load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]
Make = Callable[..., Manifest]
SIGMOID = {name for name, score in SCORES.items() if score.needs == "sigmoid_logits"}


def peaks(n: int, heights: tuple[float, ...], k: int, *, seed: int) -> Array:
    """Logits of float32 with peaks of these heights at places drawn, on flat ground."""
    rng = np.random.default_rng(seed)
    logits = 0.1 * rng.normal(size=(n, k))
    places = rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)
    for i, height in enumerate(heights):
        logits[np.arange(n), places[:, i]] += height + 0.3 * rng.normal(size=n)
    return logits.astype(np.float32).astype(np.float64)


def two_peaked(n: int, k: int = 10, *, seed: int = 0) -> tuple[Array, Indices]:
    """Rows whose favourite has a close rival: a hot temperature tells them from `one_peaked` rows, T = 1 does not."""
    logits = peaks(n, (6.0, 5.5), k, seed=seed)
    return logits, (logits + np.random.default_rng(seed + 1).gumbel(size=(n, k))).argmax(axis=1).astype(np.intp)


def one_peaked(n: int, k: int = 10, *, seed: int = 5) -> Array:
    return peaks(n, (4.0,), k, seed=seed)


def outputs_of(x: Array, y: Indices, groups: Indices | None = None) -> LabelledOutputs:
    return LabelledOutputs(Dataset(x, y, groups, None, "sha256:0"), Raw(x, x, x))


def fitted(repository: Repository, data: Path, ood_data: Path, **options: object) -> tuple[Model, OodDataRecord]:
    request = FitRequest(data, ood_data=ood_data, **options)  # type: ignore[arg-type]  # its own fields, by name
    model = load_model(repository.bundle("toy", fit(repository, "toy", request).version))
    assert model.bundle.record is not None
    assert model.bundle.record.ood_data is not None
    return model, model.bundle.record.ood_data


# ---------------------------------------------------------------------------------------------------------- the split


@pytest.mark.parametrize("per_group", [None, 1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_to_learn_from_to_compare_on_and_to_set_thresholds_share_no_unit(per_group: int | None, seed: int) -> None:
    groups = None if per_group is None else np.random.default_rng(seed).permutation(np.arange(400) // per_group)
    outputs = outputs_of(*two_peaked(400), groups)
    parts, (_, held) = part(outputs, 101, seed), halves(outputs.data, seed)
    units = np.arange(400) if groups is None else groups
    sides = [set(units[rows].tolist()) for rows in (parts.learning, parts.held, held)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(np.unique(units))
    assert len(sides[0]) == len(parts.learning)
    assert sorted([*parts.ood_learning, *parts.ood_held]) == list(range(101))


@pytest.mark.parametrize(("own", "other"), [(38, 100), (100, 18)])
def test_too_few_rows_of_either_kind_are_refused_with_both_numbers(own: int, other: int) -> None:
    outputs = outputs_of(*two_peaked(own))
    message = rf"--ood-data needs 20 rows, of 40 calibration rows \(or groups\).*there are {other} and {own}"
    with pytest.raises(FitError, match=message):
        part(outputs, other, 0)


def test_candidates_are_compared_on_rows_that_they_did_not_learn_from(toy_manifest: Make) -> None:
    outputs, ood_logits = outputs_of(*two_peaked(400, 3)), one_peaked(200, 3)
    ood = Raw(ood_logits, ood_logits, ood_logits)
    found = compare_scores(
        toy_manifest(3),
        outputs,
        None,
        ood,
        refusal=lambda _name: None,
        digest="",
        seed=0,
    )
    parts = part(outputs, 200, 0)
    assert set(found.candidates) == set(SCORES) - SIGMOID  # they are of another task: neither outputs nor refused
    assert found.refused == {}
    assert (found.evaluated_rows, found.evaluated_ood_rows) == (len(parts.held), len(parts.ood_held)) == (100, 100)
    for name, one in found.candidates.items():
        score = fit_score(name, outputs, None, parts.learning, temperature=found.temperature)
        values = [score.score(seen_by(name, outputs.raw)[parts.held])]
        values.append(score.score(seen_by(name, ood)[parts.ood_held]))
        oracle = sklearn.metrics.roc_auc_score(np.repeat([0, 1], 100), np.concatenate(values))
        assert one.auroc == pytest.approx(oracle, abs=1e-12)
        assert one.low <= one.auroc <= one.high
        assert min(one.fpr95_id_positive, one.fpr95_ood_positive) >= 0.0


def test_a_score_that_cannot_learn_from_so_few_rows_is_left_out_with_the_reason(toy_manifest: Make) -> None:
    outputs, ood_logits = outputs_of(*two_peaked(400, 3)), one_peaked(200, 3)
    train = outputs_of(np.eye(3), np.arange(3))
    ood = Raw(ood_logits, ood_logits, ood_logits)
    found = compare_scores(toy_manifest(3), outputs, train, ood, refusal=lambda _: None, digest="", seed=0)
    assert set(found.refused) == {"mahalanobis", "relative_mahalanobis"}
    assert "cannot learn from so few rows: no class has two rows" in found.refused["mahalanobis"]
    assert {"nll", "knn"} <= set(found.candidates)


# ----------------------------------------------------------------------------------------------- the temperature of nll


def test_the_temperature_of_nll_is_tuned_where_it_helps_and_survives_the_disk(toy: Toy, save: Save) -> None:
    x, y = two_peaked(800)
    repository = toy(10, '[ood]\nscores = ["nll"]\n')
    model, found = fitted(repository, save(X=x, y=y), save("far", X=one_peaked(400)))
    assert found.temperature > 2.0
    assert (
        found.tuning
        == f"nll has T = {found.temperature:.3g}, tuned on 200 calibration and 200 out-of-distribution rows"
    )
    assert found.candidates["nll"].auroc > 0.95
    new, far = two_peaked(500, seed=9)[0], one_peaked(500, seed=10)
    at_one = separation_score(Nll().score(new), Nll().score(far))
    near, there = posterior_of(model, new), posterior_of(model, far)
    assert at_one < 0.1
    assert separation_score(near.scores[:, 0], there.scores[:, 0]) > 0.95
    np.testing.assert_allclose(near.scores[:, 0], Nll(np.array(found.temperature)).score(new), rtol=1e-12)
    assert near.flagged is not None
    assert near.flagged.mean() < 0.09


def test_thresholds_of_a_tuned_score_rest_on_the_half_that_tuned_nothing(toy: Toy, save: Save) -> None:
    x, y = two_peaked(800)
    tail = '[ood]\nscores = ["nll"]\n'
    model, found = fitted(toy(10, tail), save(X=x, y=y), save("far", X=one_peaked(400)))
    assert model.bundle.record is not None
    score = model.bundle.record.scores["nll"]
    _, held = halves(Dataset(x, y, None, None, ""), 0)
    assert (score.rows, score.trained_on) == (len(held), "ood_data")
    ranked = np.sort(Nll(np.array(found.temperature)).score(x[held]))
    assert score.threshold == pytest.approx(ranked[int(np.ceil(401 * 0.95)) - 1], rel=1e-6)


def test_a_temperature_that_helps_no_more_than_chance_stays_at_one(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400, 3)
    data, ood_data = save(X=x, y=y), save("same", X=truth(400, 3, seed=1)[0])
    tail = '[ood]\nscores = ["nll"]\n'
    model, found = fitted(toy(3, tail), data, ood_data)
    assert (found.temperature, "no other temperature is better" in found.tuning) == (1.0, True)
    alone = fit(toy(3, tail), "toy", FitRequest(data)).record
    assert model.bundle.record is not None
    assert model.bundle.record.scores == alone.scores


def test_two_classes_are_not_tuned_and_the_reason_is_given() -> None:
    found = tune(two_peaked(100, 2)[0], one_peaked(100, 2))
    assert found.temperature == 1.0
    assert "of two classes every temperature ranks the rows alike" in found.reason


def test_the_temperatures_tried_hold_one_and_reach_both_limits() -> None:
    assert 1.0 in TEMPERATURES
    assert (TEMPERATURES.min(), TEMPERATURES.max()) == pytest.approx((0.1, 1000.0))


def test_rows_that_any_temperature_separates_are_separated_near_one() -> None:
    perfect = tune(np.eye(4)[np.arange(80) % 4] * 20.0, np.zeros((80, 4)))
    assert perfect.temperature == 1.0


# ---------------------------------------------------------------------------------------------------------- the choice


def test_the_best_score_becomes_the_default_where_the_manifest_names_none(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(800, 3)
    repository = toy(3, "[ood] # how strict\nfalse_alarm = 0.1\n")
    model, found = fitted(repository, save(X=x, y=y), save("far", X=truth(300, 3, scale=40.0, seed=1)[0]))
    (chosen,) = (name for name, one in found.candidates.items() if one.chosen)
    assert found.candidates[chosen].auroc == max(one.auroc for one in found.candidates.values())
    assert chosen == "mahalanobis"
    assert "mahalanobis is the default" in found.choice
    assert [detector.name for detector in model.chain.detectors] == [chosen]
    text = (model.bundle.path / "manifest.toml").read_text()
    assert tomllib.loads(text)["ood"] == {"false_alarm": 0.1, "scores": [chosen]}
    assert "[ood] # how strict" in text
    assert model.bundle.record is not None
    assert model.bundle.record.scores[chosen].rows == 400


@pytest.mark.parametrize("declared", ['scores = ["nll"]', 'gate = ["nll", "range"]', 'scores = ["entropy", "knn"]'])
def test_scores_that_people_named_are_reported_on_and_never_replaced(
    declared: str, toy: Toy, save: Save, truth: Truth
) -> None:
    x, y = truth(400, 3)
    repository = toy(3, f"[ood]\n{declared}\n")
    before = (repository.root / "toy" / "draft" / "manifest.toml").read_bytes()
    model, found = fitted(repository, save(X=x, y=y), save("far", X=truth(300, 3, scale=40.0, seed=1)[0]))
    assert not any(one.chosen for one in found.candidates.values())
    assert found.choice == "reported only: the manifest names the scores"
    assert (model.bundle.path / "manifest.toml").read_bytes() == before


def test_rows_that_are_no_different_change_no_default(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(400, 3)
    model, found = fitted(toy(3), save(X=x, y=y), save("same", X=truth(300, 3, seed=1)[0]))
    assert model.manifest.ood.scores == ("nll",)
    assert "nll is the default, as no score separates these rows" in found.choice
    assert model.bundle.record is not None
    assert model.bundle.record.scores["nll"].rows == 400


def test_no_choice_bends_the_thresholds(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(3000, 3)
    model, _ = fitted(toy(3), save(X=x, y=y), save("far", X=truth(300, 3, scale=40.0, seed=1)[0]))
    flagged = posterior_of(model, truth(10_000, 3, seed=2)[0]).flagged
    assert flagged is not None
    assert 0.03 < flagged.mean() < 0.07


# ---------------------------------------------------------------------------------------------------------- who is none


def test_scores_that_the_model_cannot_have_are_left_out_with_the_reason(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(400)
    _, found = fitted(toy(), save(X=x, y=y), save("far", X=truth(300, scale=40.0, seed=1)[0]))
    assert set(found.refused) == {"logit_norm"}
    assert "same value for every row of two classes" in found.refused["logit_norm"]
    assert set(found.candidates) == set(SCORES) - {"logit_norm", *SIGMOID}


def test_probabilities_have_no_scores_on_logits_and_a_temperature_all_the_same(
    toy: Toy, save: Save, linear_graph: Callable[..., Path]
) -> None:
    repository = toy(10, '[ood]\nscores = ["nll"]\n')
    draft = repository.root / "toy" / "draft"
    soft = linear_graph(np.eye(10).tolist(), [0.0] * 10, activation="Softmax")
    (draft / "model.onnx").write_bytes(soft.read_bytes())
    text = (draft / "manifest.toml").read_text().replace('"scores"', '"activated"', 1)
    (draft / "manifest.toml").write_text(text.replace('"logits"', '"probabilities"'))
    x, y = two_peaked(800)
    _, found = fitted(repository, save(X=x, y=y), save("far", X=one_peaked(400)))
    on_logits = {name for name, score in SCORES.items() if score.needs == "logits"}
    assert set(found.refused) == on_logits
    assert all("needs logits, and the output is probabilities" in found.refused[name] for name in on_logits)
    assert found.temperature > 2.0


# ---------------------------------------------------------------------------------------------------------- the record


def test_the_record_names_the_rows_and_survives_the_disk(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(400, 3)
    ood_data = save("far", X=truth(300, 3, scale=40.0, seed=1)[0])
    model, found = fitted(toy(3), save(X=x, y=y), ood_data)
    assert (found.rows, found.digest[:7]) == (300, "sha256:")
    assert isinstance(model.bundle.record, Record)
    assert "far" not in model.bundle.record.to_json()


def test_two_fits_with_the_same_rows_give_the_same_digest(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(400, 3)
    data, ood_data = save(X=x, y=y), save("far", X=truth(300, 3, scale=40.0, seed=1)[0])
    one, other = (fitted(toy(3), data, ood_data)[0].bundle.digest for _ in range(2))
    assert one == other


def test_ood_data_that_does_not_fit_publishes_nothing(toy: Toy, save: Save, truth: Truth) -> None:
    x, y = truth(400, 3)
    repository = toy(3)
    with pytest.raises(DataError):
        fitted(repository, save(X=x, y=y), save("narrow", X=x[:, :2]))
    assert repository.versions("toy") == []
