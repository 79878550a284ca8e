import numpy as np
import pytest

from service.core.numerics import Indices
from service.data.dataset import Dataset
from service.fitting.splits import FOLDS, folds_of, halves, independent_units, one_per_group


def dataset(groups: Indices | None, n: int = 200) -> Dataset:
    indices = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.intp)
    return Dataset(np.zeros((n, 2)), np.zeros(n, dtype=np.intp), indices, None, "sha256:0")


def grouped(n: int, per_group: int | None) -> Dataset:
    return dataset(None if per_group is None else np.random.default_rng(0).permutation(np.arange(n) // per_group), n)


def test_rows_of_a_group_are_never_in_two_folds() -> None:
    groups = np.random.default_rng(0).integers(0, 37, 200)
    folds = folds_of(dataset(groups), 0)
    assert all(len(np.unique(folds[groups == g])) == 1 for g in np.unique(groups))
    assert sorted(np.unique(folds)) == list(range(FOLDS))


def test_folds_are_of_equal_size_and_cover_every_row() -> None:
    assert np.bincount(folds_of(dataset(None, 203), 3)).tolist() == [41, 41, 41, 40, 40]


def test_two_units_make_two_folds() -> None:
    assert sorted(folds_of(dataset(None, 2), 0)) == [0, 1]


@pytest.mark.parametrize("per_group", [None, 1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_halves_share_no_unit_and_leave_none_out(per_group: int | None, seed: int) -> None:
    data = grouped(200, per_group)
    learning, held = halves(data, seed)
    assert sorted([*learning, *held]) == list(range(200))
    assert abs(len(learning) - len(held)) <= (per_group or 1)
    if data.groups is not None:
        assert set(data.groups[learning]).isdisjoint(data.groups[held])


def test_the_row_of_a_group_is_drawn_at_random() -> None:
    data = grouped(400, 4)
    chosen = [one_per_group(data, np.arange(400), seed).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_groups_without_weight_are_no_units_and_get_no_fold_of_their_own() -> None:
    groups, weights = np.arange(12) // 2, np.repeat([1.0, 0.0, 1.0], 4)
    data = Dataset(np.zeros((12, 2)), np.zeros(12, dtype=np.intp), groups, weights, "sha256:0")
    assert independent_units(data) == 4
    assert set(folds_of(data, 0)[weights > 0.0]) == set(range(4))
