"""A sound record has no finding; a changed one names the first entry that is wrong."""

from base64 import b64encode

import pytest

from service.store.anchors import read_anchors
from service.store.secrets import PublicKeys, public_keys_of, rotate
from service.store.verification import Finding, verify
from tests.record import mutations
from tests.record.sample import Sample, request_id


@pytest.fixture
def sample(tmp_path) -> Sample:
    return mutations.sound(tmp_path / "data")


def changed(sample: Sample, *queries: str) -> Finding | None:
    base = mutations.changeable(sample.url.removeprefix("sqlite://"))
    for query in queries:
        base.execute(query)
    base.close()
    return mutations.checked(sample, sample.secrets_path.parent).finding


def test_a_sound_record_has_no_finding_and_is_counted(sample):
    found = mutations.checked(sample, sample.secrets_path.parent)
    assert found.finding is None
    assert (found.streams, found.entries, found.anchors, found.contexts, found.texts) == (3, 60, 9, 1, 36)


def test_the_first_changed_entry_is_named(sample):
    place = (2 << 40) + 8  # of number 7 of its stream, an answer
    finding = changed(sample, f"UPDATE predictions SET latency = 1 WHERE place >= {place}")
    assert finding == Finding("this entry was changed, or is another one", 2, 8, request_id(2, 7))


def test_a_missing_entry_is_named_by_the_one_after_it(sample):
    finding = changed(sample, f"DELETE FROM events WHERE place = {(1 << 40) + 5}")
    assert finding == Finding("an entry is missing before this one", 1, 6, request_id(1, 5))


def test_a_removed_stream_is_found_by_its_anchors_though_the_list_is_whole(sample):
    queries = [f"DELETE FROM {table} WHERE place >> 40 = 3" for table in mutations.CHAINED]
    finding = changed(sample, *queries, "DELETE FROM anchors WHERE stream = 3", "DELETE FROM streams WHERE number = 3")
    assert finding == Finding("an anchor is of a stream that is missing", 3)


def test_deleting_old_entries_without_a_record_of_it_is_found(sample):
    queries = [f"DELETE FROM {table} WHERE place <= {(1 << 40) + 5}" for table in mutations.CHAINED]
    finding = changed(sample, *queries)
    assert finding is not None
    assert (finding.stream, finding.sequence) == (1, 6)


def test_public_keys_are_enough_and_unknown_ones_are_named(sample):
    rotate(sample.secrets_path)
    own = sample.secrets.current
    keys = public_keys_of({own.key_id: b64encode(own.public_key).decode()})
    store = sample.open()
    assert verify(store, keys, anchors=read_anchors(sample.anchors_path)).finding is None
    finding = verify(store, PublicKeys({})).finding
    store.close()
    assert finding is not None
    assert "is not known" in finding.what


def test_a_hundred_random_changes_are_found(tmp_path):
    made, missed = mutations.run(100, seed=1, workplace=tmp_path)
    assert missed == []
    assert len(made) > 20
