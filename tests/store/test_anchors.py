"""Anchors: when they are due, and that their file holds what was written."""

from pathlib import Path

import pytest

from service.errors import SettingsInvalid
from service.record_errors import StoreUnavailable
from service.store.anchors import (
    HOUR,
    RETRY,
    AnchorFile,
    Anchors,
    StandardOutput,
    line_of,
    read_anchors,
    signed,
    sink_of,
)
from service.store.canonical import anchor_bytes
from service.store.secrets import Secrets
from service.store.streams import Head
from tests.record.sample import Sample


def head(sequence: int, name: str = "stream") -> Head:
    return Head(1, name, sequence, bytes(32))


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets.read_or_made(tmp_path / "secrets.json")


@pytest.fixture
def anchors(tmp_path: Path, secrets: Secrets) -> Anchors:
    return Anchors(AnchorFile(tmp_path / "anchors.jsonl"), secrets.current.signer, every=10)


def test_an_anchor_is_due_at_the_start_after_so_many_entries_and_after_an_hour(anchors):
    assert anchors.due(head(1), 0)
    anchors.write(head(1), 0)
    assert not anchors.due(head(10), HOUR - 1)
    assert anchors.due(head(11), 1)
    assert anchors.due(head(2), HOUR)
    assert not anchors.due(head(1), HOUR)
    assert anchors.due(head(1, "another stream"), 1)


def test_an_anchor_reads_back_with_its_signature(anchors, secrets, tmp_path):
    made = anchors.write(head(1), 5)
    assert read_anchors(tmp_path / "anchors.jsonl") == [made]
    assert secrets.public_keys().verifies(made.key_id, made.signature, anchor_bytes(made))
    assert (tmp_path / "anchors.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_process_anchors_its_start_and_its_end_and_keeps_copies(tmp_path):
    sample = Sample(tmp_path)
    sample.stream(1, entries=20)
    outside = read_anchors(sample.anchors_path)
    assert [one.sequence for one in outside] == [5, 15, 20]
    assert sample.open().anchors() == outside


def test_a_line_that_a_crash_cut_short_is_passed_over(anchors, tmp_path):
    path = tmp_path / "anchors.jsonl"
    made = anchors.write(head(1), 5)
    path.write_bytes(path.read_bytes() + path.read_bytes()[:40])
    anchors.write(head(20), 6)
    assert [one.sequence for one in read_anchors(path)] == [made.sequence, 20]


def test_a_damaged_line_is_an_error_that_names_it(anchors, tmp_path):
    path = tmp_path / "anchors.jsonl"
    anchors.write(head(1), 5)
    path.write_bytes(path.read_bytes().replace(b'"link": "0', b'"link": "x'))
    with pytest.raises(SettingsInvalid, match="line 1"):
        read_anchors(path)


def test_anchors_are_found_within_a_log(secrets, tmp_path, capfdbinary):
    made = signed(head(3), 7, secrets.current.signer)
    StandardOutput().append(line_of(made))
    path = tmp_path / "log"
    path.write_bytes(b"serving model 1\n2026 host " + capfdbinary.readouterr().out)
    assert read_anchors(path) == [made]


def test_a_file_that_cannot_be_written_is_an_error_and_tried_again_later(tmp_path, secrets):
    (tmp_path / "file").write_text("")
    now = [0]
    sink = AnchorFile(tmp_path / "file" / "anchors")
    anchors = Anchors(sink, secrets.current.signer, every=1, clock=lambda: now[0])
    sample = Sample(tmp_path / "data")
    store = sample.open()
    store.write([sample.write(1, 0, 0)])
    with pytest.raises(StoreUnavailable, match="anchors cannot be written"):
        anchors.run(store)
    anchors.run(store)
    now[0] = RETRY
    with pytest.raises(StoreUnavailable):
        anchors.run(store)
    store.close()


def test_a_missing_file_of_anchors_is_an_error(tmp_path):
    with pytest.raises(SettingsInvalid, match="No such file"):
        read_anchors(tmp_path / "none")
    with pytest.raises(SettingsInvalid, match="regular"):
        read_anchors(tmp_path)


def test_a_dash_is_standard_output(tmp_path):
    assert isinstance(sink_of(Path("-"), default=tmp_path), StandardOutput)
    assert isinstance(sink_of(None, default=tmp_path / "a"), AnchorFile)
