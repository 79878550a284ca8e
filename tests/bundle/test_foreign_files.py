import pytest

from service.bundle.foreign_files import maker_of
from service.bundle.sums import PARTS


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        (".DS_Store", "macOS"),
        ("._model.onnx", "macOS"),
        ("Thumbs.db", "Windows"),
        ("desktop.ini", "Windows"),
        ("lost+found", "the file system"),
        (".snapshot", "the storage system"),
        ("@eaDir", "a Synology NAS"),
        (".manifest.toml.swp", "an editor"),
        ("manifest.toml~", "an editor"),
    ],
)
def test_what_programs_leave_behind_has_a_maker(name: str, maker: str) -> None:
    assert maker_of(name) == maker


def test_a_file_that_nfs_keeps_and_one_that_rsync_still_writes_say_what_they_are() -> None:
    assert str(maker_of(".nfs000000000123")).startswith("an NFS client")
    assert str(maker_of(".model.onnx.Ab12Cd")).startswith("a copy by rsync")


@pytest.mark.parametrize("name", [*PARTS, "aliases.toml", "weights.bin", "model.onnx.data", ".hidden", "notes.txt"])
def test_what_people_put_there_has_none(name: str) -> None:
    assert maker_of(name) is None
