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
def judge(truth: Truth) -> Callable[..., LabelledOutputs]:
    """Rows that the identity graph has outputs, in groups of some size."""

    def make(n: int = 200, *, per_group: int | None = None, seed: int = 0) -> LabelledOutputs:
        x, y = truth(n, seed=seed)
        groups = None if per_group is None else np.random.default_rng(seed).permutation(np.arange(n) // per_group)
        return LabelledOutputs(Dataset(x, y, groups, None, "sha256:0"), Raw(x, x, x))

    return make


@pytest.mark.parametrize("per_group", [None, 1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_halves_share_no_unit_and_leave_none_out(
    per_group: int | None, seed: int, judge: Callable[..., LabelledOutputs]
) -> None:
    data = judge(per_group=per_group).data
    learning, held = splits.halves(data, seed)
    assert sorted([*learning, *held]) == list(range(200))
    assert abs(len(learning) - len(held)) <= (per_group or 1)
    if data.groups is not None:
        assert set(data.groups[learning]).isdisjoint(data.groups[held])


def test_thresholds_never_see_the_rows_that_a_score_learned_from(
    toy_manifest: Make, judge: Callable[..., LabelledOutputs]
) -> None:
    outputs = judge()
    fitted = fit_detectors(toy_manifest(2, BOTH), outputs, None, Terms(0))
    learning, held = splits.halves(outputs.data, 0)
    np.testing.assert_array_equal(fitted.rows, held)
    expected = SCORES["mahalanobis"].fit(outputs.features[learning], outputs.data.labels[learning])
    found = next(d for d in fitted.detectors if d.name == "mahalanobis")
    np.testing.assert_array_equal(found.score.score(outputs.features), expected.score(outputs.features))
    assert found.calibration is not None
    np.testing.assert_array_equal(found.calibration.scores, np.sort(expected.score(outputs.features[held])))


def test_training_rows_leave_every_calibration_row_to_the_thresholds(
    toy_manifest: Make, judge: Callable[..., LabelledOutputs]
) -> None:
    train = judge(300, seed=1)
    fitted = fit_detectors(toy_manifest(2, BOTH), judge(), train, Terms(0))
    np.testing.assert_array_equal(fitted.rows, np.arange(200))
    expected = SCORES["mahalanobis"].fit(train.features, train.data.labels)
    found = next(d for d in fitted.detectors if d.name == "mahalanobis")
    np.testing.assert_array_equal(found.score.score(train.features), expected.score(train.features))
    assert fitted.trained_on == {"nll": "nothing", "mahalanobis": "train_data"}


def test_scores_without_state_need_no_half(toy_manifest: Make, judge: Callable[..., LabelledOutputs]) -> None:
    fitted = fit_detectors(toy_manifest(), judge(), None, Terms(0))
    np.testing.assert_array_equal(fitted.rows, np.arange(200))
    assert fitted.trained_on == {"nll": "nothing"}


@pytest.mark.parametrize("tail", ["", BOTH])
def test_one_row_of_every_group_carries_the_thresholds(
    tail: str, toy_manifest: Make, judge: Callable[..., LabelledOutputs]
) -> None:
    outputs = judge(400, per_group=4)
    fitted = fit_detectors(toy_manifest(2, tail), outputs, None, Terms(0))
    assert outputs.data.groups is not None
    groups = outputs.data.groups[fitted.rows]
    assert len(groups) == len(set(groups)) == (50 if tail else 100)


def test_which_row_speaks_for_a_group_is_drawn_and_not_its_first(judge: Callable[..., LabelledOutputs]) -> None:
    data = judge(400, per_group=4).data
    chosen = [splits.one_per_group(data, np.arange(400), seed).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_rate_that_no_row_can_support_names_the_score(
    toy_manifest: Make, judge: Callable[..., LabelledOutputs]
) -> None:
    with pytest.raises(FitError, match=r"the threshold of 'nll': a false-alarm rate of 0\.05 needs at least 19 rows"):
        fit_detectors(toy_manifest(), judge(18), None, Terms(0))


def test_only_members_of_the_gate_are_gated(toy_manifest: Make, judge: Callable[..., LabelledOutputs]) -> None:
    fitted = fit_detectors(toy_manifest(2, f'{BOTH}gate = ["mahalanobis"]\n'), judge(), None, Terms(0))
    assert {d.name: d.gated for d in fitted.detectors} == {"nll": False, "mahalanobis": True}


@pytest.mark.parametrize(("labels", "told"), [([0], "one row alone"), ([0, 1, 2], "no class has two rows")])
def test_a_score_that_its_rows_teach_nothing_is_refused_by_name(
    labels: list[int], told: str, toy: Callable[..., Repository], truth: Truth, save: Callable[..., Path]
) -> None:
    repository = toy(3, '[ood]\nscores = ["nll", "mahalanobis"]\n')
    x, y = truth(200, 3)
    train = save("train", X=x[: len(labels)], y=np.array(labels))
    with pytest.raises(FitError, match=rf"'mahalanobis' cannot learn from --train-data: {told}.*Nothing was published"):
        fit(repository, "toy", FitRequest(save(X=x, y=y), train_data=train))
    assert repository.versions("toy") == []


def test_what_a_half_of_few_rows_cannot_teach_is_refused_too(
    toy_manifest: Make, judge: Callable[..., LabelledOutputs]
) -> None:
    with pytest.raises(FitError, match="'mahalanobis' cannot learn from half of --data: one row alone"):
        fit_detectors(toy_manifest(2, '[ood]\nscores = ["mahalanobis"]\n'), judge(3), None, Terms(0))
