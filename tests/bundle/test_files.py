import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.files import KINDS, check_regular, file_sha256, folders_in, names_in, read_file, read_optional_file
from service.errors import BundleDamaged

LIMIT = 1 << 10


def make_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_a_folder(path: Path) -> None:
    path.mkdir()


def make_a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def link_to_an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


MADE: dict[Callable[[Path], None], str] = {
    make_a_pipe: "is not a regular file: it is a named pipe",
    make_a_folder: "is not a regular file: it is a folder",
    make_a_socket: "is not a regular file: it is a socket",
    link_to_an_endless_device: "is not a regular file: it is a character device",
    link_to_nothing: "is a link to nothing",
    link_to_itself: "is not a regular file: it is a symbolic link",
}


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_file(path, limit=LIMIT),
        lambda path: read_optional_file(path, limit=LIMIT),
        file_sha256,
        check_regular,
    ],
)
def test_what_is_no_regular_file_is_refused_by_its_kind_and_never_waited_for(
    make: Callable[[Path], None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(BundleDamaged, match=f"^{path} {MADE[make]}$"):
        read(path)


@pytest.mark.parametrize("read", [lambda path: read_file(path, limit=LIMIT, follow=False), file_sha256])
def test_a_missing_file_is_called_missing(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match=r"x is missing$"):
        read(tmp_path / "x")


def test_a_file_that_may_be_absent_is_none(tmp_path: Path) -> None:
    assert read_optional_file(tmp_path / "x", limit=LIMIT) is None


def test_a_link_is_followed_only_where_it_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    (tmp_path / "link").symlink_to("data")
    assert read_file(tmp_path / "link", limit=LIMIT) == b"x"
    with pytest.raises(BundleDamaged, match="link is not a regular file: it is a symbolic link"):
        read_file(tmp_path / "link", limit=LIMIT, follow=False)


def test_folders_above_a_file_may_be_links_as_kubernetes_makes_them(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_27").mkdir()
    (tmp_path / "..2026_11_27" / "x").write_bytes(b"x")
    (tmp_path / "..data").symlink_to("..2026_11_27")
    assert read_file(tmp_path / "..data" / "x", limit=LIMIT, follow=False) == b"x"
    assert "..data" in folders_in(tmp_path)


def test_a_hard_link_is_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    (tmp_path / "link").hardlink_to(tmp_path / "data")
    assert read_file(tmp_path / "link", limit=LIMIT, follow=False) == b"x"


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_file_of_the_limit_s_size_is_read(tmp_path: Path) -> None:
    assert read_file(sparse(tmp_path / "x", LIMIT), limit=LIMIT) == bytes(LIMIT)


@pytest.mark.parametrize("size", [LIMIT + 1, 3 << 30])
def test_a_larger_file_is_refused_before_it_is_read(size: int, tmp_path: Path) -> None:
    path = sparse(tmp_path / "x", size)
    with pytest.raises(BundleDamaged, match="x is larger than the 1 KiB that such a file can have"):
        read_file(path, limit=LIMIT)
    with pytest.raises(BundleDamaged, match="x is larger than the 1 KiB"):
        file_sha256(path, limit=LIMIT)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="a Linux kernel's files")
def test_a_file_that_states_no_size_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("/proc/self/maps")
    with pytest.raises(BundleDamaged, match="x is larger than the 1 KiB"):
        read_file(tmp_path / "x", limit=LIMIT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_or_folder_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=0)
    (tmp_path / "folder").mkdir(mode=0)
    for read in (file_sha256, names_in, folders_in):
        path = tmp_path / ("x" if read is file_sha256 else "folder")
        with pytest.raises(BundleDamaged, match=f"{path} cannot be read: Permission denied"):
            read(path)


def test_a_name_that_no_file_can_have_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match="cannot be read: File name too long"):
        read_file(tmp_path / ("x" * 300), limit=LIMIT)


def test_folders_are_listed_without_files_and_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert folders_in(tmp_path) == ["a", "b"]
    assert names_in(tmp_path) == ["a", "b", "dangling", "file"]
    assert folders_in(tmp_path / "nowhere") == []
    assert folders_in(tmp_path / "file") == []


def test_every_kind_of_file_but_a_regular_one_has_a_name() -> None:
    kinds = {getattr(stat, name) for name in ("S_IFBLK", "S_IFCHR", "S_IFDIR", "S_IFIFO", "S_IFLNK", "S_IFSOCK")}
    assert set(KINDS) == kinds
