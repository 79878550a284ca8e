"""Erasure and retention: what is gone is gone, and the chain holds."""

from pathlib import Path

import pytest

from service.store.anchors import AnchorFile, read_anchors
from service.store.entries import Event, Reply, Write
from service.store.retention import DAY, MINUTE, Disk, Retention, erase, prune
from service.store.seals import Seals
from service.store.secrets import Secrets, rotate
from service.store.verification import verify
from tests.record.mutations import CHAINED, changeable, sound
from tests.record.sample import SECOND, START, Sample, request_id

NOW = START + 10_000 * SECOND


@pytest.fixture
def sample(tmp_path) -> Sample:
    return sound(tmp_path / "data")


def finding_of(sample: Sample):
    store = sample.open()
    secrets = Secrets.read(sample.secrets_path)
    found = verify(store, secrets.public_keys(), anchors=read_anchors(sample.anchors_path), seals=Seals(secrets))
    store.close()
    return found.finding


def texts_of(sample: Sample, own: str) -> dict[tuple[int, str], str]:
    store = sample.open()
    found = sample.seals.readable(store.sealed_of(own), store.subject_keys(own))
    store.close()
    return found


def test_an_erased_subject_has_no_text_in_the_file_and_the_chain_holds(sample, tmp_path):
    rotate(sample.secrets_path)  # the text lies under the older key
    store = sample.open()
    assert texts_of(sample, request_id(1, 0)) == {(0, "subject"): "patient-0"}
    held = [one.content for one in store.sealed_of(request_id(1, 0))]
    assert erase(store, Secrets.read(sample.secrets_path), "patient-0", now=NOW) == 1
    assert erase(store, Secrets.read(sample.secrets_path), "patient-0", now=NOW) == 0
    store.close()
    assert texts_of(sample, request_id(1, 0)) == {}
    assert texts_of(sample, request_id(1, 1)) == {(0, "subject"): "patient-1"}
    files = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("audit.db*"))
    assert not any(content in files for content in held)
    assert finding_of(sample) is None


def test_erasure_and_retention_leave_a_record_that_verifies_in_every_engine(tmp_path, url):
    sample = sound(tmp_path / "data", url)
    assert finding_of(sample) is None
    store = sample.open()
    assert erase(store, sample.secrets, "patient-0", now=NOW) == 1
    store.close()
    assert texts_of(sample, request_id(1, 0)) == {}
    assert pruned(sample, before=START + 2012 * SECOND) == 25
    assert finding_of(sample) is None
    assert pruned(sample, before=START + 9000 * SECOND) == 35
    assert finding_of(sample) is None


def test_a_stored_reply_that_would_repeat_an_erased_subject_is_deleted(sample):
    store = sample.open()
    for number in (0, 1):  # of patient-0 and of patient-1
        own = request_id(1, number)
        key = own.encode()
        assert store.reserve(key, owner=own, fingerprint=b"f", now=NOW, lease=SECOND) is None
        store.write([Write(replies=[Reply(key, own, b"encrypted")])])
    erase(store, sample.secrets, "patient-0", now=NOW)
    found = [
        store.reserve(request_id(1, number).encode(), owner="other", fingerprint=b"f", now=NOW, lease=SECOND)
        for number in (0, 1)
    ]
    store.close()
    assert found[0] is None
    assert found[1] is not None
    assert found[1].content == b"encrypted"


def test_the_event_of_an_erasure_names_a_token_alone(sample):
    store = sample.open()
    erase(store, sample.secrets, "patient-0", now=NOW, reason="request of the subject")
    (event,) = store.events(kind="erased")
    store.close()
    assert "patient-0" not in event.detail
    assert "request of the subject" in event.detail


def pruned(sample: Sample, *, before: int) -> int:
    store, signer = sample.open(), sample.secrets.current.signer
    removed = prune(store, signer, AnchorFile(sample.anchors_path), before=before, now=NOW)
    store.close()
    return removed


def test_whole_anchored_segments_that_are_older_are_deleted_and_the_rest_verifies(sample):
    cut = START + 2012 * SECOND  # within the third segment of five of stream 2
    assert pruned(sample, before=cut) == 20 + 5
    assert finding_of(sample) is None
    store = sample.open()
    assert store.prediction(request_id(1, 0)) is None
    assert store.sealed_of(request_id(1, 0)) == []
    assert store.prediction(request_id(2, 5)) is not None
    store.close()


def test_a_later_retention_remembers_what_an_earlier_one_deleted(sample):
    pruned(sample, before=START + 1500 * SECOND)
    assert pruned(sample, before=START + 9000 * SECOND) == 40
    assert finding_of(sample) is None
    store = sample.open()
    assert store.contexts() == {}
    store.close()


def test_nothing_older_is_nothing_deleted_and_no_event(sample):
    assert pruned(sample, before=START) == 0
    store = sample.open()
    assert list(store.events(kind="pruned")) == []
    store.close()


def test_the_stream_of_a_killed_process_is_deleted_too(tmp_path):
    sample = Sample(tmp_path)
    sample.stream(1, entries=9, is_ended=False)
    assert pruned(sample, before=NOW - SECOND) == 9
    assert finding_of(sample) is None


def test_entries_that_were_deleted_by_hand_are_still_found(sample):
    pruned(sample, before=START + 1500 * SECOND)
    base = changeable(sample.url.removeprefix("sqlite://"))
    for table in CHAINED:
        base.execute(f"DELETE FROM {table} WHERE place <= ?", ((2 << 40) + 5,))
    base.close()
    finding = finding_of(sample)
    assert finding is not None
    assert (finding.stream, finding.sequence) == (2, 6)


def test_writing_goes_on_after_a_retention_that_deleted_its_context(sample):
    store, signer = sample.open(), sample.secrets.current.signer
    store.write([sample.write(9, 0, START)])
    prune(store, signer, AnchorFile(sample.anchors_path), before=NOW, now=NOW)
    store.write([sample.write(9, 1, NOW), Write(events=[Event(NOW, "alias", "{}")])])
    store.close()
    assert finding_of(sample) is None


def test_a_process_deletes_what_is_older_than_its_days_in_parts(tmp_path):
    sample, now = Sample(tmp_path), [START + 3 * DAY]
    sample.stream(1, entries=30)
    store, signer = sample.open(), sample.secrets.current.signer
    retention = Retention(AnchorFile(sample.anchors_path), signer, days=2, every=1, clock=lambda: now[0])
    retention._most = 12
    left = []
    for _ in range(4):
        retention.run(store)
        left.append(sum(1 for _ in store.entries(1)))
        retention.run(store)  # not due
        now[0] += MINUTE
    store.close()
    assert left == [25, 15, 5, 0]
    assert finding_of(sample) is None


def test_a_process_keeps_all_by_default(sample):
    store, signer = sample.open(), sample.secrets.current.signer
    Retention(AnchorFile(sample.anchors_path), signer, days=0, every=1, clock=lambda: NOW + 9000 * DAY).run(store)
    assert sum(1 for _ in store.entries(1)) == 20
    store.close()


def test_a_disk_is_nearly_full_from_four_fifths_on():
    assert Disk(100, 20).is_nearly_full
    assert not Disk(100, 21).is_nearly_full
    assert Disk.of(Path("/")).total > 0
