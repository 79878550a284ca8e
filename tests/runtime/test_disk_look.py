import os
import shutil
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from service.runtime.disk_look import files_of, look_at, published

NAME = "breast-cancer"


def test_what_does_not_change_looks_the_same(repository: Repository) -> None:
    assert published(repository.root) == published(repository.root)
    assert published(repository.root)[NAME].versions == tuple(repository.versions(NAME))


def test_lists_of_the_same_length_and_time_differ_by_their_text(repository: Repository) -> None:
    aliases = repository.root / NAME / "aliases.toml"
    aliases.write_text("stable = 1\n")
    before, status = look_at(repository.root / NAME), aliases.stat()
    aliases.write_text("stable = 2\n")
    os.utime(aliases, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look_at(repository.root / NAME) != before


def test_a_new_version_changes_the_look_and_a_draft_does_not(repository: Repository) -> None:
    before = look_at(repository.root / NAME)
    (repository.root / NAME / "draft").mkdir()
    (repository.root / NAME / ".DS_Store").write_bytes(b"junk")
    assert look_at(repository.root / NAME) == before
    (repository.root / NAME / "77").mkdir()
    assert look_at(repository.root / NAME) != before


def test_what_is_no_model_is_not_published(repository: Repository) -> None:
    for name in ("lost+found", ".git", "@eaDir", "draft-alone"):
        (repository.root / name / "draft").mkdir(parents=True)
    (repository.root / "file").write_text("")
    assert list(published(repository.root)) == [NAME]


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "large"])
def test_a_list_that_is_no_small_file_is_seen_without_being_read(kind: str, repository: Repository) -> None:
    aliases = repository.root / NAME / "aliases.toml"
    before = look_at(aliases.parent)
    aliases.unlink()
    {
        "fifo": lambda: os.mkfifo(aliases),
        "folder": aliases.mkdir,
        "dangling": lambda: aliases.symlink_to("nothing"),
        "large": lambda: aliases.write_bytes(b"#" * (1 << 20)),
    }[kind]()
    assert look_at(aliases.parent) != before


def test_a_folder_that_is_missing_is_a_look_of_its_own(repository: Repository, tmp_path: Path) -> None:
    assert look_at(tmp_path / "none") == look_at(tmp_path / "none") != look_at(repository.root / NAME)
    with pytest.raises(OSError, match="none"):
        published(tmp_path / "none")


def test_files_that_grow_or_are_replaced_look_different(repository: Repository) -> None:
    folder = repository.root / NAME
    looks = [files_of(folder, [1])]
    with (folder / "1" / "model.onnx").open("ab") as file:
        file.write(b"more")
    looks.append(files_of(folder, [1]))
    shutil.copy2(folder / "1" / "manifest.toml", folder / "other")
    (folder / "other").rename(folder / "1" / "manifest.toml")
    looks.append(files_of(folder, [1]))
    assert len(set(looks)) == len(looks)
    assert files_of(folder, [99]) == ()
