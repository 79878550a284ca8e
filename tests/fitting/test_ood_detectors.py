from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import Manifest
from service.bundle.repository import Repository
from service.core.numerics import Array, Indices
from service.core.ood import SCORES
from service.data.dataset import Dataset
from service.errors import FitError
from service.fitting import splits
from service.fitting.fit import FitRequest, fit
from service.fitting.labelled_outputs import LabelledOutputs
from service.fitting.ood_detectors import Terms, fit_detectors
from service.runtime.model import Raw

Truth = Callable[..., tuple[Array, Indices]]
Make = Callable[..., Manifest]
BOTH = '[ood]\nscores = ["nll", "mahalanobis"]\n'


@pytest.fixture
def labelled(truth: Truth) -> Callable[..., LabelledOutputs]:
    """Outputs of an identity graph, for rows in groups of some size."""

    def make(n: int = 200, *, per_group: int | None = None, seed: int = 0) -> LabelledOutputs:
        x, y = truth(n, seed=seed)
        groups = None if per_group is None else np.random.default_rng(seed).permutation(np.arange(n) // per_group)
        return LabelledOutputs(Dataset(x, y, groups, None, "sha256:0"), Raw(x, x, x))

    return make


def test_thresholds_never_see_the_rows_that_a_score_learned_from(
    toy_manifest: Make, labelled: Callable[..., LabelledOutputs]
) -> None:
    outputs = labelled()
    fitted = fit_detectors(toy_manifest(2, BOTH), outputs, None, Terms(0))
    learning, held = splits.halves(outputs.data, 0)
    np.testing.assert_array_equal(fitted.rows, held)
    expected = SCORES["mahalanobis"].fit(outputs.features[learning], outputs.data.labels[learning])
    found = next(d for d in fitted.detectors if d.name == "mahalanobis")
    np.testing.assert_array_equal(found.score.score(outputs.features), expected.score(outputs.features))
    assert found.calibration is not None
    np.testing.assert_array_equal(found.calibration.scores, np.sort(expected.score(outputs.features[held])))


def test_training_rows_leave_every_calibration_row_to_the_thresholds(
    toy_manifest: Make, labelled: Callable[..., LabelledOutputs]
) -> None:
    train = labelled(300, seed=1)
    fitted = fit_detectors(toy_manifest(2, BOTH), labelled(), train, Terms(0))
    np.testing.assert_array_equal(fitted.rows, np.arange(200))
    expected = SCORES["mahalanobis"].fit(train.features, train.data.labels)
    found = next(d for d in fitted.detectors if d.name == "mahalanobis")
    np.testing.assert_array_equal(found.score.score(train.features), expected.score(train.features))
    assert fitted.trained_on == {"nll": "nothing", "mahalanobis": "train_data"}


def test_scores_without_state_need_no_half(toy_manifest: Make, labelled: Callable[..., LabelledOutputs]) -> None:
    fitted = fit_detectors(toy_manifest(), labelled(), None, Terms(0))
    np.testing.assert_array_equal(fitted.rows, np.arange(200))
    assert fitted.trained_on == {"nll": "nothing"}


@pytest.mark.parametrize("tail", ["", BOTH])
def test_one_row_of_every_group_carries_the_thresholds(
    tail: str, toy_manifest: Make, labelled: Callable[..., LabelledOutputs]
) -> None:
    outputs = labelled(400, per_group=4)
    fitted = fit_detectors(toy_manifest(2, tail), outputs, None, Terms(0))
    assert outputs.data.groups is not None
    groups = outputs.data.groups[fitted.rows]
    assert len(groups) == len(set(groups)) == (50 if tail else 100)


def test_the_rate_that_no_row_can_support_names_the_score(
    toy_manifest: Make, labelled: Callable[..., LabelledOutputs]
) -> None:
    with pytest.raises(FitError, match=r"the threshold of 'nll': a false-alarm rate of 0\.05 needs at least 19 rows"):
        fit_detectors(toy_manifest(), labelled(18), None, Terms(0))


def test_only_members_of_the_gate_are_gated(toy_manifest: Make, labelled: Callable[..., LabelledOutputs]) -> None:
    fitted = fit_detectors(toy_manifest(2, f'{BOTH}gate = ["mahalanobis"]\n'), labelled(), None, Terms(0))
    assert {d.name: d.gated for d in fitted.detectors} == {"nll": False, "mahalanobis": True}


@pytest.mark.parametrize(("labels", "reason"), [([0], "one row alone"), ([0, 1, 2], "no class has two rows")])
def test_a_score_that_its_rows_teach_nothing_is_refused_by_name(
    labels: list[int], reason: str, toy: Callable[..., Repository], truth: Truth, save: Callable[..., Path]
) -> None:
    repository = toy(3, '[ood]\nscores = ["nll", "mahalanobis"]\n')
    x, y = truth(200, 3)
    train = save("train", X=x[: len(labels)], y=np.array(labels))
    with pytest.raises(FitError, match=rf"'mahalanobis' cannot learn from --train-data: {reason}.*Nothing was pub"):
        fit(repository, "toy", FitRequest(save(X=x, y=y), train_data=train))
    assert repository.versions("toy") == []


def test_what_a_half_of_few_rows_cannot_teach_is_refused_too(
    toy_manifest: Make, labelled: Callable[..., LabelledOutputs]
) -> None:
    with pytest.raises(FitError, match="'mahalanobis' cannot learn from half of --data: one row alone"):
        fit_detectors(toy_manifest(2, '[ood]\nscores = ["mahalanobis"]\n'), labelled(3), None, Terms(0))
