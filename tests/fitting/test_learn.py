import numpy as np
import pytest

from service.core.numerics import log_softmax
from service.runtime.model import load_model
from tests.fitting.fitted import BOTH, Save, Toy, Truth, fitted, independent_temperature, temperature


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
