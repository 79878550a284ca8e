import numpy as np
import pytest

pytest.importorskip("torch")

from service.training.example_sets import Examples
from service.training.failures import TrainingFailed
from service.training.group_splits import split_by_group
from tests.training.problems import chains, flags

SHARES = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15}


def grouped(groups: int = 200, *, seed: int = 0) -> Examples:
    """Rows of groups of one to six, a tenth of which have the rare class; the input is the row's number."""
    rng = np.random.default_rng(seed)
    members = np.repeat(np.arange(groups), rng.integers(1, 7, groups))
    order = rng.permutation(len(members))
    names = np.array([f"patient {i}" for i in range(groups)])[members[order]]
    rare = (np.arange(groups) < groups // 10).astype(np.int64)[members[order]]
    return Examples(np.arange(len(members)), rare, names)


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_one_part_and_no_group_in_two(seed):
    rows = grouped(seed=seed)
    parts = split_by_group(rows, SHARES, seed=seed)
    assert sorted(np.concatenate([part.inputs for part in parts.values()])) == list(range(len(rows)))
    names = [names_in(part) for part in parts.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == 200


@pytest.mark.parametrize("seed", range(5))
def test_parts_have_their_share_of_the_groups_and_of_the_rare_class(seed):
    parts = split_by_group(grouped(seed=seed), SHARES, seed=seed)
    for name, share in SHARES.items():
        groups, rare = len(names_in(parts[name])), len(names_in(parts[name].take(parts[name].labels == 1)))
        assert abs(groups - 200 * share) <= 2
        assert abs(rare - 20 * share) <= 1


def test_rows_labels_and_groups_stay_together():
    rows = grouped()
    assert rows.groups is not None
    for part in split_by_group(rows, SHARES).values():
        np.testing.assert_array_equal(part.labels, rows.labels[part.inputs])
        np.testing.assert_array_equal(part.groups, rows.groups[part.inputs])


def test_a_seed_gives_one_split_and_another_seed_another():
    first, again, other = (split_by_group(grouped(), SHARES, seed=seed)["test"].inputs for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_without_groups_every_row_is_one_of_its_own():
    parts = split_by_group(Examples(np.arange(100), np.arange(100) % 2), {"train": 0.7, "test": 0.3})
    assert [len(part) for part in parts.values()] == [70, 30]
    assert [part.labels.sum() for part in parts.values()] == [35, 15]


def names_in(part):
    assert part.groups is not None
    return set(part.groups)


def test_without_stratification_shares_hold_and_classes_fall_as_they_do():
    parts = split_by_group(grouped(), SHARES, stratify=False)
    assert [len(names_in(part)) for part in parts.values()] == [120, 20, 30, 30]


def test_sets_of_labels_and_sequences_are_split_too():
    sequences = chains(200)
    sequences.labels[3] = -1  # of no position
    for rows in (flags(200), sequences):
        parts = split_by_group(rows, {"train": 0.5, "test": 0.5})
        assert sum(map(len, parts.values())) == 200
        assert abs(len(parts["train"]) - 100) <= 2


@pytest.mark.parametrize("shares", [{"train": 0.6, "test": 0.5}, {"train": 1.0, "test": 0.0}, {}], ids=str)
def test_shares_that_are_no_split_are_refused(shares):
    with pytest.raises(TrainingFailed, match="positive and sum to 1"):
        split_by_group(grouped(), shares)


def test_a_part_that_would_be_empty_is_named():
    with pytest.raises(TrainingFailed, match="too few groups"):
        split_by_group(Examples(np.arange(3), np.array([0, 0, 0])), SHARES)


# ------------------------------------------------------------------------------------------------------ example sets


def test_rows_of_different_number_and_no_rows_are_refused():
    with pytest.raises(TrainingFailed, match="as many rows"):
        Examples(np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
    with pytest.raises(TrainingFailed, match="as many rows"):
        Examples(np.zeros((2, 2)), np.zeros(2, dtype=np.int64), np.zeros(3))
    with pytest.raises(TrainingFailed, match="no rows"):
        Examples(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def test_rows_are_taken_by_index_and_by_flag():
    rows = grouped()
    np.testing.assert_array_equal(rows.take(np.array([5, 3])).inputs, [5, 3])
    assert (rows.take(rows.labels == 1).labels == 1).all()
