import numpy as np
import pytest

from service.core.assessment.metrics import log_loss
from service.core.calibration import CALIBRATORS
from service.core.calibration.auto import choose, out_of_fold
from service.core.calibration.temperature import Temperature
from service.core.numerics import log_softmax

ROUTINE = {name: CALIBRATORS[name] for name in ("identity", "temperature", "bcts", "vector")}


def folds(n: int):
    return np.random.default_rng(0).permutation(n) % 5


def test_class_weights_call_for_a_bias(weighted_model) -> None:
    balanced, _, labels = weighted_model(3000, seed=0)
    found = choose(balanced, labels, candidates=ROUTINE, folds=folds(3000))
    assert found.winner == "bcts"
    assert found.candidates["temperature"].excess > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_where_temperature_is_the_truth_temperature_wins(truth, seed: int) -> None:
    logits, labels = truth(5).draw(1500, seed=seed)
    assert choose(logits, labels, candidates=ROUTINE, folds=folds(1500)).winner == "temperature"


def test_rows_that_are_calibrated_already_are_left_alone(truth) -> None:
    logits, labels = truth(4, slope=1.0).draw(1500, seed=2)
    assert choose(logits, labels, candidates=ROUTINE, folds=folds(1500)).winner == "identity"


def test_slopes_that_differ_call_for_a_vector(truth) -> None:
    logits, labels = truth(4, slope=np.array([0.3, 0.6, 0.9, 1.2])).draw(3000, seed=3)
    assert choose(logits, labels, candidates=ROUTINE, folds=folds(3000)).winner == "vector"


def test_every_method_can_compete(weighted_model) -> None:
    balanced, _, labels = weighted_model(800, seed=4)
    found = choose(balanced, labels, candidates=CALIBRATORS, folds=folds(800))
    assert found.candidates.keys() == CALIBRATORS.keys()
    assert CALIBRATORS[found.winner].free_intercepts
    assert min(candidate.excess for candidate in found.candidates.values()) == 0.0


def test_the_loss_of_the_winner_is_that_on_rows_it_did_not_see(truth) -> None:
    logits, labels = truth(3).draw(400, seed=5)
    found = choose(logits, labels, candidates=ROUTINE, folds=folds(400))
    losses = -found.log_probs[np.arange(400), labels]
    assert found.candidates[found.winner].mean == pytest.approx(losses.mean(), rel=1e-12)
    assert found.candidates[found.winner].standard_error == pytest.approx(losses.std() / 20.0, rel=1e-12)
    held = folds(400) == 3
    fitted = ROUTINE[found.winner].fit(logits[~held], labels[~held])
    np.testing.assert_allclose(found.log_probs[held], fitted.apply(logits[held]), rtol=0, atol=1e-12)


def test_an_offset_counts_for_methods_without_free_intercepts_alone(weighted_model) -> None:
    balanced, unweighted, labels = weighted_model(3000, seed=6)
    offset = np.log([0.9, 0.1]) - np.log(0.5)
    found = choose(balanced, labels, candidates=ROUTINE, folds=folds(3000), offset=offset)
    assert found.winner == "identity"
    assert found.candidates["identity"].mean == pytest.approx(log_loss(log_softmax(unweighted), labels), rel=1e-12)
    log_p = out_of_fold(Temperature, balanced, labels, folds=folds(3000), offset=offset)
    assert log_loss(log_p, labels) < found.candidates["identity"].mean + 0.002


def test_a_row_without_weight_does_not_count(truth) -> None:
    logits, labels = truth(3).draw(600, seed=7)
    weights = np.ones(600)
    weights[:100] = 0.0
    wrong = np.where(np.arange(600) < 100, (labels + 1) % 3, labels)
    there = choose(logits, wrong, candidates=ROUTINE, folds=folds(600), weights=weights)
    here = choose(logits, labels, candidates=ROUTINE, folds=folds(600), weights=weights)
    assert there.candidates == here.candidates
