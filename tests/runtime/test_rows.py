import numpy as np
import pytest

from service.runtime.rows import Fields, alike, join


def fields(n: int, length: int) -> Fields:
    tokens = np.full((n, length), 7, dtype=np.int64)
    texts = np.array(["a"] * n, dtype=object)
    return Fields(np.full((n, 1), 0.5), {"tokens": tokens, "text": texts}, np.full(n, length))


def test_joined_rows_keep_their_order() -> None:
    first, second = np.zeros((2, 3)), np.ones((1, 3))
    np.testing.assert_array_equal(join([first, second]), [[0.0] * 3, [0.0] * 3, [1.0] * 3])


def test_what_is_alone_is_not_copied() -> None:
    rows = np.zeros((2, 3))
    assert join([rows]) is rows


def test_shorter_rows_are_padded_to_the_longest_of_all() -> None:
    joined = join([fields(1, 2), fields(2, 4)])
    assert isinstance(joined, Fields)
    assert joined.others["tokens"].tolist() == [[7, 7, 0, 0], [7] * 4, [7] * 4]
    assert joined.others["text"].tolist() == ["a"] * 3
    assert joined.lengths is not None
    assert joined.lengths.tolist() == [2, 4, 4]
    assert joined.numbers.shape == (3, 1)


@pytest.mark.parametrize("part", [slice(0, 1), slice(1, 3), slice(2, 9)])
def test_a_part_of_fields_has_a_part_of_everything(part: slice) -> None:
    whole = fields(3, 2)
    found = whole[part]
    expected = len(range(3)[part])
    assert len(found) == expected
    assert {len(values) for values in found.others.values()} == {expected}
    assert found.lengths is not None
    assert len(found.lengths) == expected


def test_rows_are_joined_only_where_neither_would_be_padded_for_the_other() -> None:
    short, long = (Fields(np.zeros((1, 0)), {"ids": np.zeros((1, n), dtype=np.int64)}) for n in (3, 5))
    assert alike(short, short)
    assert not alike(short, long)
    assert alike(np.zeros((1, 2)), np.zeros((4, 2)))
