"""A short run of `tests.record.duplicates`."""

from tests.record.duplicates import duplicates


def test_copies_of_a_request_have_one_answer_and_one_record(tmp_path):
    found = duplicates(tmp_path, 60)
    assert (found.statuses[200], found.bodies, found.records, found.replayed) == (60, 1, 1, 59)
    assert set(found.statuses) <= {200, 409}
