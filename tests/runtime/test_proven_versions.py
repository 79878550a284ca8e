"""What passed its self-test here is known to later starts and other processes; a damaged file costs one proof."""

import logging
import os
import stat
from pathlib import Path

import pytest

from service.private_files import alone_in
from service.runtime import proven_versions
from service.runtime.proven_versions import FILE, MOST, ProvenVersions, entry_of

DIGESTS = ["sha256:" + "a" * 64, "sha256:" + "b" * 64]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "proofs"


def test_what_was_added_is_proven_for_this_process_and_the_next(folder: Path) -> None:
    proven = ProvenVersions(folder)
    assert proven.unproven(DIGESTS) == set(DIGESTS)
    proven.add(DIGESTS[:1])
    assert proven.unproven(DIGESTS) == ProvenVersions(folder).unproven(DIGESTS) == {DIGESTS[1]}


def test_the_file_and_its_folders_are_their_owners_alone(folder: Path) -> None:
    ProvenVersions(folder).add(DIGESTS)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, folder / FILE)]
    assert modes == [0o700, 0o700, 0o600]


def test_without_a_folder_it_holds_for_this_process_alone(tmp_path: Path) -> None:
    proven = ProvenVersions()
    with proven.alone():
        proven.add(DIGESTS)
    assert proven.unproven(DIGESTS) == set()
    assert ProvenVersions().unproven(DIGESTS) == set(DIGESTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"{", b"[" * 200_000, b"\xff\xfe", b"abc\n", ("A" * 64).encode(), b"0" * (2 << 20), ("a" * 64 + " \n").encode()],
)
def test_a_damaged_file_is_no_failure_and_is_written_anew(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(content)
    proven = ProvenVersions(folder)
    with caplog.at_level(logging.WARNING, logger="temperance"):
        assert proven.unproven(DIGESTS) == proven.unproven(DIGESTS) == set(DIGESTS)
    (record,) = caplog.records
    assert record.getMessage() == f"{folder / FILE} is damaged; all versions are proven again, and it is written anew"
    proven.add(DIGESTS)
    assert ProvenVersions(folder).unproven(DIGESTS) == set()


def test_a_pipe_in_its_place_is_not_waited_for(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / FILE)
    assert ProvenVersions(folder).unproven(DIGESTS) == set(DIGESTS)


def test_a_folder_that_cannot_be_made_is_no_failure(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.parent.write_text("a file where the data directory should be")
    proven = ProvenVersions(folder)
    with caplog.at_level(logging.WARNING, logger="temperance"), proven.alone():
        proven.add(DIGESTS[:1])
        proven.add(DIGESTS[1:])
    assert proven.unproven(DIGESTS) == set()
    assert len(caplog.records) == 1
    assert "every start proves all versions again" in caplog.text


def test_the_oldest_entries_give_way(folder: Path) -> None:
    proven = ProvenVersions(folder)
    proven.add(map(str, range(MOST)))
    proven.add(["0", "new"])
    later = ProvenVersions(folder)
    assert later.unproven(["0", "1", "2", "new"]) == {"1"}
    assert len((folder / FILE).read_text().splitlines()) == MOST


def test_another_release_or_processor_proves_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ProvenVersions(folder).add(DIGESTS)
    monkeypatch.setattr(proven_versions, "_machine", lambda: "another")
    assert ProvenVersions(folder).unproven(DIGESTS) == set(DIGESTS)


def test_an_entry_is_a_hash_of_the_digest_and_the_machine() -> None:
    assert entry_of(DIGESTS[0]) == entry_of(DIGESTS[0]) != entry_of(DIGESTS[1])


def test_a_process_that_holds_the_lock_for_long_stops_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_versions, "WAIT_SECONDS", 0.05)
    with alone_in(folder):
        proven = ProvenVersions(folder)
        with proven.alone():
            proven.add(DIGESTS)
    assert ProvenVersions(folder).unproven(DIGESTS) == set()
