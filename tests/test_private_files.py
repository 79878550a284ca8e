"""Files of the service's own: whole or not at all."""

import os
from pathlib import Path

import pytest

from service.private_files import alone_in, replace_file


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    with alone_in(tmp_path / "a" / "b"):
        replace_file(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_failed_write_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with pytest.raises(TypeError):
        replace_file(file, "text")  # type: ignore[arg-type]  # fails after the file aside was made
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to others")
def test_a_file_stays_its_owners_when_root_changes_it(tmp_path: Path) -> None:
    """Else the service could not read its keys any more, and a key that root revoked would stay in force."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    os.chown(file, 10001, 10002)
    replace_file(file, b"new")
    found = file.stat()
    assert (found.st_uid, found.st_gid, file.read_bytes()) == (10001, 10002, b"new")


def test_a_lock_leaves_no_file_behind(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_the_place_of_a_folder_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"), alone_in(tmp_path / "file"):
        pytest.fail("it was entered")


def test_another_writer_is_waited_for_no_longer_than_a_bound(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(TimeoutError), alone_in(tmp_path, seconds=0.05):
        pytest.fail("it was entered")
    with alone_in(tmp_path, seconds=0.0):
        assert list(tmp_path.iterdir()) == []
