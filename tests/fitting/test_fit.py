import hashlib
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from service.bundle.record import Record
from service.bundle.repository import Repository
from service.core.assessment.metrics import METRICS, all_metrics
from service.core.numerics import Array, Indices, log_softmax
from service.data.dataset import Dataset
from service.errors import BundleError, BundleNotFound, FitError, ManifestInvalid, NoSignal
from service.fitting.fit import FitRequest, FitResult, fit
from service.fitting.source_prevalence import declared_prevalence
from service.fitting.splits import FOLDS, folds_of
from service.runtime.model import load_model

Toy = Callable[..., Repository]
Truth = Callable[..., tuple[Array, Indices]]
Save = Callable[..., Path]

BOTH = '[ood]\nscores = ["nll", "mahalanobis"]\n'
EVEN = "[training]\nprevalence = { ann = 0.5, bob = 0.5 }\n"


def fitted(repository: Repository, data: Path, **options: object) -> FitResult:
    """A temperature of least log loss, unless another calibrator is named; `test_shrinkage.py` has the default."""
    request = FitRequest(data, **({"calibrator": "temperature"} | options))  # type: ignore[arg-type]  # by name
    return fit(repository, "toy", request)


def temperature(record: Record) -> float:
    value = record.calibrator.params["temperature"]
    assert isinstance(value, float)
    return value


def independent_temperature(
    logits: Array, labels: Indices, weights: Array | None = None, offset: Array | None = None
) -> float:
    """Least weighted log loss by a golden-section search that knows nothing of Newton steps."""

    def loss(log_t: float) -> float:
        tilted = logits / np.exp(log_t) + (0.0 if offset is None else offset)
        nll = logsumexp(tilted, axis=1) - tilted[np.arange(len(labels)), labels]
        return float(np.average(nll, weights=weights))

    best = minimize_scalar(loss, bounds=(-8.0, 8.0), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(best.x))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ------------------------------------------------------------------------------------------------------- temperature


@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_temperature_agrees_with_an_independent_optimiser(k: int, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(800, k)
    record = fitted(toy(k), save(X=x, y=y)).record
    assert temperature(record) == pytest.approx(independent_temperature(x, y), rel=1e-6)
    low, high = record.calibrator.interval["temperature"]
    assert high is not None
    assert low < 2.0 < high
    assert (record.status, record.chain, record.calibrator.method) == ("ok", ("temperature",), "temperature")


def test_weights_count_as_in_an_independent_optimiser(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(800)
    w = np.random.default_rng(1).uniform(0.0, 3.0, 800)
    record = fitted(toy(), save(X=x, y=y, weight=w)).record
    assert temperature(record) == pytest.approx(independent_temperature(x, y, w), rel=1e-6)
    assert temperature(record) != pytest.approx(independent_temperature(x, y), rel=1e-4)
    assert record.provenance.weighted


def test_a_weight_of_two_is_the_row_twice(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    w = np.random.default_rng(1).integers(0, 4, 400)
    weighted = fitted(toy(), save("w", X=x, y=y, weight=w)).record
    repeated = fitted(toy(), save("r", X=np.repeat(x, w, axis=0), y=np.repeat(y, w))).record
    assert temperature(weighted) == pytest.approx(temperature(repeated), rel=1e-9)
    assert weighted.source.prevalence == pytest.approx(repeated.source.prevalence)


def test_identity_leaves_the_model_s_own_probabilities(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    record = fitted(toy(), save(X=x, y=y), calibrator="identity").record
    assert (record.calibrator.method, record.calibrator.params, record.chain) == ("identity", {}, ("identity",))
    assert record.provenance.before == record.provenance.after_out_of_fold


def test_the_published_model_serves_the_fitted_temperature(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400, 3)
    repository = toy(3)
    result = fitted(repository, save(X=x, y=y))
    model = load_model(repository.bundle("toy", result.version))
    expected = log_softmax(x / temperature(result.record))
    np.testing.assert_allclose(model.posterior(x).log_probs, expected, atol=1e-12)
    assert (result.version, model.status, repository.aliases("toy")) == (1, "ok", {"stable": 1})


# ------------------------------------------------------------------------------------------------- what is not fitted


def test_labels_without_signal_publish_nothing_and_leave_the_draft(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    repository = toy()
    before = tree(repository.root)
    with pytest.raises(NoSignal, match="Nothing was published"):
        fitted(repository, save(X=x, y=1 - y))
    assert tree(repository.root) == before


def test_separable_rows_are_published_and_say_so(toy: Toy, truth: Truth, save: Save) -> None:
    x, _ = truth(200)
    repository = toy()
    result = fitted(repository, save(X=x, y=x.argmax(axis=1)))
    assert result.record.status == "separable"
    assert any("these rows are separable" in text for text in result.record.provenance.warnings)
    assert result.record.support == 1.0 / 201.0
    assert 0.0 < temperature(result.record) < 1.0
    assert load_model(repository.bundle("toy", result.version)).status == "separable"


@pytest.mark.parametrize(
    ("tail", "rows", "needed"),
    [
        ("", 18, 19),
        ("[ood]\nfalse_alarm = 0.01\n", 98, 99),
        (f'{BOTH}gate = ["nll"]\n', 36, 19),
        (BOTH, 76, 39),
    ],
)
def test_a_false_alarm_rate_that_the_rows_cannot_support_publishes_nothing(
    *, tail: str, rows: int, needed: int, toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(rows + 1)
    repository = toy(2, tail)
    before = tree(repository.root)
    with pytest.raises(FitError, match=f"needs at least {needed} rows, there are .*Nothing was published"):
        fitted(repository, save(X=x[:-1], y=y[:-1]))
    assert tree(repository.root) == before
    assert fitted(repository, save(X=x, y=y)).version == 1


@pytest.mark.parametrize("group", [None, [7, 7, 7, 7, 7]])
def test_a_single_unit_cannot_be_fitted(group: list[int] | None, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(5)
    repository = toy()
    data = save(X=x[:1], y=[0]) if group is None else save(X=x, y=y, group=group)
    with pytest.raises(FitError, match="at least two"):
        fitted(repository, data)
    assert repository.versions("toy") == []


def test_a_class_whose_rows_all_weigh_nothing_is_refused(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(200)
    with pytest.raises(FitError, match="'bob' has rows, but none with a weight"):
        fitted(toy(2, EVEN), save(X=x, y=y, weight=(y == 0) * 1.0))


def test_a_model_without_a_draft_cannot_be_fitted(repository: Repository, save: Save) -> None:
    with pytest.raises(BundleNotFound, match="has no draft"):
        fit(repository, "breast-cancer", FitRequest(save(X=np.zeros((2, 30)), y=[0, 1])))


def test_a_draft_with_a_stray_file_is_not_fitted(toy: Toy, truth: Truth, save: Save) -> None:
    repository = toy()
    (repository.root / "toy" / "draft" / ".manifest.toml.swp").touch()
    x, y = truth(200)
    with pytest.raises(BundleError, match="is no part of a bundle"):
        fitted(repository, save(X=x, y=y))


def test_classes_in_another_order_than_the_graph_s_are_not_fitted(
    toy: Toy, truth: Truth, save: Save, tmp_path: Path
) -> None:
    import onnx

    node = onnx.helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        classlabels_strings=["bob", "ann"],
        coefficients=[1.0, 0.0, 0.0, 1.0],
        intercepts=[0.0, 0.0],
    )
    floats = (onnx.TensorProto.FLOAT, [None, 2])
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", *floats)],
        [onnx.helper.make_tensor_value_info("scores", *floats)],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    repository = toy()
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "turned.onnx")
    shutil.copy(tmp_path / "turned.onnx", repository.root / "toy" / "draft" / "model.onnx")
    x, y = truth(200)
    with pytest.raises(ManifestInvalid, match="in another order: bob, ann"):
        fitted(repository, save(X=x, y=y))


# ------------------------------------------------------------------------------------------------- prevalence, offset


def generated(n: int, shares: Array, declared: Array, *, t: float, seed: int) -> tuple[Array, Indices]:
    """Rows of Gaussian classes mixed in ``shares``; logits are ``t`` times those right for ``declared``."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), size=n, p=shares).astype(np.intp)
    means = 1.2 * np.eye(len(shares))
    points = means[y] + rng.normal(size=(n, len(shares)))
    log_likelihood = -0.5 * ((points[:, None, :] - means) ** 2).sum(axis=2)
    return (t * (log_likelihood + np.log(declared))).astype(np.float32).astype(np.float64), y


SHARES, DECLARED, TRUE_T = np.array([0.05, 0.15, 0.8]), np.array([0.6, 0.3, 0.1]), 2.5
THREE = "[training]\nprevalence = { ann = 0.6, bob = 0.3, cyd = 0.1 }\n"


def test_a_prevalence_unlike_the_declared_one_does_not_bend_the_temperature(toy: Toy, save: Save) -> None:
    z, y = generated(12_000, SHARES, DECLARED, t=TRUE_T, seed=0)
    record = fitted(toy(3, THREE), save(X=z, y=y)).record
    assert temperature(record) == pytest.approx(TRUE_T, rel=0.02)
    assert record.source.basis == "declared"
    assert record.source.prevalence == pytest.approx({"ann": 0.6, "bob": 0.3, "cyd": 0.1})
    observed = np.bincount(y) / len(y)
    expected = independent_temperature(z, y, offset=np.log(observed / DECLARED))
    assert temperature(record) == pytest.approx(expected, rel=1e-6)


def test_the_same_rows_without_a_declaration_would_bend_it(toy: Toy, save: Save) -> None:
    z, y = generated(12_000, SHARES, DECLARED, t=TRUE_T, seed=0)
    record = fitted(toy(3), save(X=z, y=y)).record
    assert abs(temperature(record) / TRUE_T - 1.0) > 0.2


def test_a_declared_prevalence_is_multiplied_by_the_class_weights(toy: Toy, save: Save) -> None:
    tail = (
        '[training]\nloss = "weighted"\nprevalence = { ann = 0.8, bob = 0.1, cyd = 0.1 }\n'
        "class_weights = { ann = 0.75, bob = 3.0, cyd = 1.0 }\n"  # 0.6 : 0.3 : 0.1
    )
    z, y = generated(12_000, SHARES, DECLARED, t=TRUE_T, seed=1)
    repository = toy(3, tail)
    record = fitted(repository, save(X=z, y=y)).record
    assert record.source.prevalence == pytest.approx({"ann": 0.6, "bob": 0.3, "cyd": 0.1})
    assert temperature(record) == pytest.approx(TRUE_T, rel=0.02)
    assert record.inverse is None
    assert any("inverse of the weighted loss did not help" in text for text in record.provenance.warnings)


def test_nothing_declared_means_nothing_known(toy: Toy) -> None:
    manifest = toy().draft("toy").manifest
    assert declared_prevalence(manifest, weighted=False) is None
    assert declared_prevalence(manifest, weighted=True) is None


def test_an_undeclared_prevalence_that_agrees_is_that_of_the_calibration_rows(
    toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(1000, 3)
    record = fitted(toy(3), save(X=x, y=y)).record
    assert record.source.basis == "calibration_rows"
    shares = dict(zip(("ann", "bob", "cyd"), (np.bincount(y) / 1000).tolist(), strict=True))
    assert record.source.prevalence == pytest.approx(shares)


def test_an_undeclared_prevalence_that_disagrees_is_unknown_and_says_so(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(1000, log_ratio=(0.0, 2.0))
    repository = toy()
    result = fitted(repository, save(X=x, y=y))
    assert (result.record.source.basis, result.record.source.prevalence) == ("unknown", None)
    assert any("and so can declaring [training]" in text for text in result.record.provenance.warnings)
    assert load_model(repository.bundle("toy", result.version)).source is None


def test_a_class_without_rows_leaves_an_undeclared_prevalence_unknown(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(1000, 3)
    kept = y < 2
    record = fitted(toy(3), save(X=x[kept], y=y[kept])).record
    assert record.source.basis == "unknown"
    assert any("fewer than 5 rows of cyd" in text for text in record.provenance.warnings)


def test_a_class_without_rows_can_be_fitted_where_a_prevalence_is_declared(toy: Toy, save: Save) -> None:
    z, y = generated(2000, np.array([0.5, 0.5, 0.0]), DECLARED, t=TRUE_T, seed=2)
    record = fitted(toy(3, THREE), save(X=z, y=y)).record
    assert temperature(record) == pytest.approx(TRUE_T, rel=0.1)
    assert all(np.isfinite(value) for value in record.provenance.after_out_of_fold.values())


# ---------------------------------------------------------------------------------------------- thresholds, manifest


def test_thresholds_share_the_false_alarm_rate_of_the_gate(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    train = save("train", X=truth(400, seed=1)[0], y=truth(400, seed=1)[1])
    repository = toy(2, f"{BOTH}false_alarm = 0.1\n")
    result = fitted(repository, save(X=x, y=y), train_data=train)
    model = load_model(repository.bundle("toy", result.version))
    scores = model.posterior(x).scores
    for i, name in enumerate(("nll", "mahalanobis")):
        record = result.record.scores[name]
        assert record.false_alarm == 0.05
        assert record.threshold == pytest.approx(np.sort(scores[:, i])[int(np.ceil(401 * 0.95)) - 1], rel=1e-5)
        assert record.rows == 400
    assert {name: score.trained_on for name, score in result.record.scores.items()} == {
        "nll": "nothing",
        "mahalanobis": "train_data",
    }


def test_a_score_outside_the_gate_keeps_the_whole_rate(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    record = fitted(toy(2, f'{BOTH}gate = ["mahalanobis"]\n'), save(X=x, y=y)).record
    assert {name: score.false_alarm for name, score in record.scores.items()} == {"nll": 0.05, "mahalanobis": 0.05}


@pytest.mark.parametrize("gate", ['["nll"]', '["mahalanobis"]', '["nll", "mahalanobis"]'])
def test_no_more_new_rows_are_flagged_than_the_false_alarm_rate(gate: str, toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(4000)
    repository = toy(2, f"{BOTH}gate = {gate}\n")
    result = fitted(repository, save(X=x, y=y))
    flagged = load_model(repository.bundle("toy", result.version)).posterior(truth(20_000, seed=9)[0]).flagged
    assert flagged is not None
    assert 0.03 < flagged.mean() < 0.06  # 0.05 and five standard errors of either sample
    assert result.record.provenance.flag_rate == pytest.approx(0.05, abs=0.02)


def test_without_training_rows_a_recorded_half_is_learned_from(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(401)
    record = fitted(toy(2, BOTH), save(X=x, y=y)).record
    assert record.scores["mahalanobis"].trained_on == "half_of_calibration_rows"
    assert {score.rows for score in record.scores.values()} == {201}
    assert (record.provenance.train_rows, record.provenance.train_digest) == (None, None)


def test_a_new_false_alarm_rate_is_written_into_the_manifest_and_the_thresholds(
    toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(400)
    repository = toy(2, "[ood] # how strict\nfalse_alarm = 0.05 # once\n")
    result = fitted(repository, save(X=x, y=y), false_alarm=0.2)
    bundle = repository.bundle("toy", result.version)
    assert bundle.manifest.ood.false_alarm == 0.2
    assert result.record.scores["nll"].false_alarm == 0.2
    assert "[ood] # how strict" in (bundle.path / "manifest.toml").read_text()
    assert load_model(bundle).status == "ok"
    assert (load_model(bundle).posterior(x).scores[:, 0] > result.record.scores["nll"].threshold).sum() == 79


def test_a_new_false_alarm_rate_finds_its_place_in_a_manifest_without_one(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    repository = toy()
    version = fitted(repository, save(X=x, y=y), false_alarm=0.2).version
    text = (repository.bundle("toy", version).path / "manifest.toml").read_text()
    assert tomllib.loads(text)["ood"] == {"false_alarm": 0.2}


def test_a_fit_that_fails_does_not_edit_the_manifest(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(50)
    repository = toy()
    before = tree(repository.root)
    with pytest.raises(FitError):
        fitted(repository, save(X=x, y=y), false_alarm=0.01)
    assert tree(repository.root) == before


# ------------------------------------------------------------------------------------------------- groups and folds


def dataset(groups: Indices | None, n: int = 200) -> Dataset:
    indices = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.intp)
    return Dataset(np.zeros((n, 2)), np.zeros(n, dtype=np.intp), indices, None, "sha256:0")


def test_groups_are_counted_and_give_one_threshold_row_each(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(600)
    groups = np.random.default_rng(0).integers(0, 100, 600)
    record = fitted(toy(), save(X=x, y=y, group=groups)).record
    assert record.provenance.groups == 100
    assert record.scores["nll"].rows == 100


def test_rows_repeated_within_a_group_do_not_narrow_the_interval(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(150)
    many, labels, groups = np.repeat(x, 8, axis=0), np.repeat(y, 8), np.repeat(np.arange(150), 8)
    once = fitted(toy(), save("once", X=x, y=y)).record
    grouped = fitted(toy(), save("grouped", X=many, y=labels, group=groups)).record
    naive = fitted(toy(), save("naive", X=many, y=labels)).record

    def width(record: Record) -> float:
        low, high = record.calibrator.interval["temperature"]
        assert high is not None
        return high - low

    assert width(grouped) == pytest.approx(width(once), rel=0.1)
    assert width(naive) < 0.5 * width(once)


# -------------------------------------------------------------------------------------------- provenance, repetition


def test_the_record_says_where_it_comes_from(toy: Toy, truth: Truth, save: Save) -> None:
    (x, y), (tx, ty) = truth(300, 3), truth(200, 3, seed=1)
    data, train = save(X=x, y=y), save("train", X=tx, y=ty)
    tail = f'{BOTH}gate = ["nll", "mahalanobis", "range"]\n[features.f0]\nplausible = [-8.0, 8.0]\n'
    repository = toy(3, tail)
    record = fitted(repository, data, train_data=train, seed=5).record
    provenance = record.provenance
    assert (provenance.rows, provenance.train_rows, provenance.seed, provenance.folds) == (300, 200, 5, 5)
    assert provenance.class_counts == dict(zip(("ann", "bob", "cyd"), np.bincount(y).tolist(), strict=True))
    assert provenance.data_digest == f"sha256:{hashlib.sha256(data.read_bytes()).hexdigest()}"
    assert provenance.train_digest == f"sha256:{hashlib.sha256(train.read_bytes()).hexdigest()}"
    assert (provenance.groups, provenance.weighted) == (None, False)
    assert provenance.before == pytest.approx(all_metrics(log_softmax(x), y))
    assert set(provenance.after_out_of_fold) == set(METRICS)
    assert provenance.range_rate == pytest.approx(float((np.abs(x[:, 0]) > 8.0).mean()))
    assert record.sections == repository.bundle("toy", 1).manifest.fingerprints()
    assert record.probability_floor == 1e-7


def test_the_record_holds_no_clock_user_or_path(toy: Toy, truth: Truth, save: Save, tmp_path: Path) -> None:
    x, y = truth(200)
    text = fitted(toy(), save("secret-name", X=x, y=y)).record.to_json()
    assert "secret-name" not in text
    assert str(tmp_path) not in text


def test_metrics_after_calibration_are_not_those_of_the_rows_it_saw(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(100)
    record = fitted(toy(), save(X=x, y=y)).record
    in_sample = all_metrics(log_softmax(x / temperature(record)), y)
    after = record.provenance.after_out_of_fold
    assert after["log_loss"] > in_sample["log_loss"]
    assert after["log_loss"] < record.provenance.before["log_loss"]


def test_metrics_after_calibration_are_those_of_temperatures_fitted_without_the_row(
    toy: Toy, truth: Truth, save: Save
) -> None:
    x, y = truth(300)
    record = fitted(toy(), save(X=x, y=y), seed=3).record
    folds = folds_of(dataset(None, 300), 3)
    log_probs = np.empty_like(x)
    for fold in range(FOLDS):
        kept = folds != fold
        log_probs[~kept] = log_softmax(x[~kept] / independent_temperature(x[kept], y[kept]))
    assert record.provenance.after_out_of_fold == pytest.approx(all_metrics(log_probs, y), rel=1e-5)


def test_two_fits_of_the_same_rows_give_the_same_digest(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(300)
    data = save(X=x, y=y)
    digests = []
    for _ in range(2):
        repository = toy(2, BOTH)
        digests.append(repository.bundle("toy", fitted(repository, data, seed=4).version).digest)
    assert digests[0] == digests[1]


def test_another_seed_takes_other_halves_and_folds(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(300)
    data = save(X=x, y=y)
    one, two = (fitted(toy(2, BOTH), data, seed=seed).record for seed in (0, 1))
    assert temperature(one) == temperature(two)
    assert one.provenance.after_out_of_fold["log_loss"] != two.provenance.after_out_of_fold["log_loss"]
    assert one.scores["mahalanobis"].threshold != two.scores["mahalanobis"].threshold


def test_few_rows_are_warned_about(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(25)
    warnings = fitted(toy(), save(X=x, y=y)).record.provenance.warnings
    assert any(text.startswith("only 25 rows") for text in warnings)


def test_a_rare_class_is_warned_about(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(400)
    kept = np.flatnonzero((y == 0) | (np.cumsum(y) <= 4))
    warnings = fitted(toy(), save(X=x[kept], y=y[kept])).record.provenance.warnings
    assert any("fewer than 5 rows of bob" in text for text in warnings)


def test_a_calibration_that_does_not_help_says_so(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(60, temperature=1.0, seed=1)
    record = fitted(toy(), save(X=x, y=y)).record
    helped = record.provenance.after_out_of_fold["log_loss"] < record.provenance.before["log_loss"]
    warned = any("did not lower the log loss" in text for text in record.provenance.warnings)
    assert not helped
    assert warned


def test_plenty_of_honest_rows_are_not_warned_about(toy: Toy, truth: Truth, save: Save) -> None:
    x, y = truth(1000)
    assert fitted(toy(), save(X=x, y=y)).record.provenance.warnings == ()
