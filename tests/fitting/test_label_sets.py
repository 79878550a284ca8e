"""What label sets rest on."""

from collections.abc import Callable

import numpy as np
import pytest

from service.bundle.conformity import restore_sets
from service.bundle.manifest import Manifest
from service.core.calibration.temperature import Temperature
from service.core.numerics import Array, Indices, log_softmax
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting.calibrate import calibrate
from service.fitting.label_sets import fit_sets, held_out
from service.fitting.splits import folds_of

Truth = Callable[..., tuple[Array, Indices]]
Toy = Callable[..., Manifest]
UNEVEN = "[training]\nprevalence = { ann = 0.9, bob = 0.1 }\n"


def test_no_row_gets_the_output_of_a_fit_that_saw_it(toy_manifest: Toy, truth: Truth) -> None:
    x, y = truth(200, 3)
    data = Dataset(x, y, None, None, "")
    found = calibrate(toy_manifest(3), x, data, method="temperature", seed=0)
    held, folds = held_out(toy_manifest(3), found, x, data, seed=0), folds_of(data, 0)
    for fold in range(5):
        own = folds == fold
        alone = Temperature.fit(x[~own], y[~own])
        np.testing.assert_allclose(held[own], alone.apply(x[own]), rtol=0, atol=1e-12)
    assert not np.allclose(held, found.calibrator.apply(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("tail", ["", UNEVEN], ids=["calibration rows", "declared"])
def test_held_out_rows_speak_of_the_prevalence_that_served_rows_speak_of(
    tail: str, toy_manifest: Toy, truth: Truth
) -> None:
    x, y = truth(3000, log_ratio=None if not tail else (float(np.log(0.5 / 0.9)), float(np.log(0.5 / 0.1))))
    data, manifest = Dataset(x, y, None, None, ""), toy_manifest(2, tail)
    found = calibrate(manifest, x, data, method="temperature", seed=0)
    held = held_out(manifest, found, x, data, seed=0)
    assert np.median(np.abs(held - found.calibrator.apply(x))) < 0.02


def test_sets_come_back_from_the_state_as_they_were_fitted(truth: Truth) -> None:
    x, y = truth(300, 3)
    log_probs = log_softmax(x / 2)
    record, state = fit_sets(log_probs, Dataset(x, y, None, None, ""), ("a", "b", "c"), method="aps")
    assert (record.method, record.rows) == ("aps", 300)
    assert record.class_rows == dict(zip("abc", np.bincount(y).tolist(), strict=True))
    for kind, classes in (("class_conditional", 3), ("marginal", 1)):
        sets = restore_sets(kind, state, method=record.method)  # type: ignore[arg-type]  # a loop forgets literals
        assert sets is not None
        assert len(sets.conformities) == classes
        assert sets.predict(log_probs, coverage=0.9).valid
        assert sets.predict(log_probs, coverage=0.9).members[np.arange(300), y].mean() >= 0.9
    assert restore_sets("marginal", {}, method="lac") is None


def test_many_classes_are_ranked_together_alone(truth: Truth) -> None:
    x, y = truth(300, 21)
    record, state = fit_sets(log_softmax(x), Dataset(x, y, None, None, ""), tuple(map(str, range(21))), method="lac")
    assert record.class_rows is None
    assert restore_sets("class_conditional", state, method="lac") is None
    assert restore_sets("marginal", state, method="lac") is not None


def test_rows_of_a_patient_count_as_one_within_every_class(truth: Truth) -> None:
    x, y = truth(90)
    groups = np.repeat(np.arange(30), 3)
    record, _ = fit_sets(log_softmax(x), Dataset(x, y, groups, None, ""), ("a", "b"), method="lac")
    assert record.rows == 30
    assert record.class_rows == {name: len(np.unique(groups[y == k])) for k, name in enumerate("ab")}


def test_a_method_that_does_not_exist_is_refused_by_name(truth: Truth) -> None:
    x, y = truth(30)
    with pytest.raises(FitError, match="lac, aps, raps"):
        fit_sets(log_softmax(x), Dataset(x, y, None, None, ""), ("a", "b"), method="best")
