from pathlib import Path

import numpy as np
import pytest

from service.bundle.binding import bound, check_bound, content_sha256
from service.bundle.record import Record
from service.bundle.repository import Bundle
from service.bundle.state import dump_state, load_state
from service.errors import BundleDamaged

WHERE = Path("models/m/1")


@pytest.fixture
def record(published: Bundle) -> Record:
    assert published.record is not None
    return published.record


def test_a_record_that_was_bound_to_its_arrays_is_accepted_after_the_disk(record: Record, published: Bundle) -> None:
    again = load_state(dump_state(published.state), where="state.npz")
    check_bound(bound(record, published.state), again, where=WHERE)


def test_a_hash_is_of_the_rest_of_the_record(record: Record, published: Bundle) -> None:
    once = bound(record, published.state)
    assert once.content_sha256 == content_sha256(once, published.state)
    assert once.content_sha256 != content_sha256(once.model_copy(update={"support": 0.5}), published.state)


ARRAYS = {
    "another number": np.array([1.0, 2.5]),
    "another type": np.array([1.0, 2.0], dtype=np.float32),
    "another shape": np.array([[1.0, 2.0]]),
    "another order": np.array([2.0, 1.0]),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_any_other_array_is_refused_in_one_line_that_names_the_file(case: str, record: Record) -> None:
    held = bound(record, {"x": np.array([1.0, 2.0])})
    with pytest.raises(BundleDamaged, match=r"^models/m/1/calibration\.json: content_sha256 is not that") as refusal:
        check_bound(held, {"x": ARRAYS[case]}, where=WHERE)
    assert "\n" not in str(refusal.value)


def test_the_order_in_memory_is_no_part_of_it(record: Record) -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert content_sha256(record, {"x": array}) == content_sha256(record, {"x": np.asfortranarray(array)})


def test_a_version_older_than_the_hash_is_accepted(record: Record, published: Bundle) -> None:
    state = {name: array for name, array in published.state.items() if not name.startswith("self_test.")}
    check_bound(record.model_copy(update={"content_sha256": None}), state, where=WHERE)
