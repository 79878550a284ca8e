"""Lists and names that a hostile source makes: refused in one line, and nothing is written outside or at all."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from service.bundle.repository import Repository
from service.errors import ServiceError
from service.pull.pull_errors import PullFailed
from service.pull.pull_plan import Choice, PullRequest, choice
from service.pull.pull_versions import pull
from service.pull.source_kinds import open_source
from tests.damaged_versions import DAMAGES, reseal
from tests.pull.file_server import Files, body
from tests.pull.registry_server import files_of
from tests.shipped_model import NAME, SHIPPED

ZEROS = "0" * 64
HOSTILE_NAMES = {
    "a folder up": "..",
    "this folder": ".",
    "a hidden file": ".bashrc",
    "a lock of ours": ".pulling-lock",
    "the list itself": "SHA256SUMS",
    "an escape sequence": "\x1b[2Jmodel",
    "a backslash": "..\\..\\model",
    "a right-to-left mark": "model\u202exnno",
    "a very long name": "m" * 250,
    "what a copying program leaves": "model.onnx~",
}


def pull_from(address: str, here: Repository, request: PullRequest | None = None) -> object:
    with open_source(address) as source:
        return pull(source, here, request or PullRequest((Choice(NAME),)), pause=lambda _: None)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(address: str, here: Repository, request: PullRequest | None = None) -> str:
    """The one line of the refusal, after which no version is here, and nothing beside the repository."""
    outside = everything(here.root.parent) - {f"here/{path}" for path in everything(here.root)}
    with pytest.raises(ServiceError) as caught:
        pull_from(address, here, request)
    assert here.versions(NAME) == []
    assert not (here.root / NAME / "aliases.toml").exists()
    now = everything(here.root.parent) - {f"here/{path}" for path in everything(here.root)}
    assert now == outside
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    return line


def sums_with(*lines: str) -> bytes:
    kept = (SHIPPED / NAME / "1" / "SHA256SUMS").read_text()
    return (kept + "".join(f"{line}\n" for line in lines)).encode()


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_list_with_a_name_that_no_file_of_a_version_has_is_refused(web: Files, here: Repository, name: str):
    web.answers[f"/models/{NAME}/1/SHA256SUMS"] = body(sums_with(f"{ZEROS}  {HOSTILE_NAMES[name]}"))
    assert "which is no name of a version's file" in refused(web.address, here)
    assert web.paths()[-1].endswith("SHA256SUMS")


@pytest.mark.parametrize("name", ["data?x=1", "data#x", "data%2f..%2f..", "data ä"])
def test_a_name_is_one_part_of_a_path_whatever_it_holds(web: Files, here: Repository, name: str):
    web.answers[f"/models/{NAME}/1/SHA256SUMS"] = body(sums_with(f"{ZEROS}  {name}"))
    assert "is not there" in refused(web.address, here)
    assert unquote(web.paths()[-1]) == f"/models/{NAME}/1/{name}"
    assert not {"?", "#"} & set(web.paths()[-1])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(sums_with(f"{ZEROS}  ../../escaped"), id="a path"),
        pytest.param(sums_with(f"{ZEROS}  /etc/cron.d/x"), id="an absolute path"),
        pytest.param(sums_with(f"{ZEROS}  model.onnx"), id="a file twice"),
        pytest.param(b"\xff\xfe" * 100, id="no text"),
        pytest.param(b"0" * (2 << 20), id="more than a list can have"),
        pytest.param(b"", id="nothing"),
        pytest.param(f"{ZEROS}  other.onnx\n".encode(), id="no model"),
        pytest.param(b"<html>welcome</html>", id="a page of a portal"),
    ],
)
def test_a_list_that_is_none_is_refused(web: Files, here: Repository, content: bytes):
    web.answers[f"/models/{NAME}/1/SHA256SUMS"] = body(content)
    assert refused(web.address, here)


@pytest.mark.parametrize(
    "content",
    [
        b"stable = '../../1'",
        b"'../x' = 1",
        b"7 = 1",
        b"stable = 0",
        b"stable = 9999999999",
        b"stable = [",
        b"stable = " + b"[" * 100_000,
        b"\xff",
        b"#" * (300 << 10),
        b"",
    ],
)
def test_aliases_that_are_none_are_refused(web: Files, here: Repository, content: bytes):
    web.answers[f"/models/{NAME}/aliases.toml"] = body(content)
    assert refused(web.address, here)
    assert not list(here.root.iterdir())


@pytest.mark.parametrize("content", [b"retired = [1]", b"retired = 1", b"retired = ['x']", b"retired = [-1]"])
def test_a_version_that_is_retired_at_the_source_does_not_come(web: Files, here: Repository, content: bytes):
    web.answers[f"/models/{NAME}/retired.toml"] = body(content)
    assert "retired" in refused(web.address, here)


def test_a_version_that_is_retired_here_does_not_come_back(web: Files, here: Repository):
    (here.root / NAME).mkdir()
    (here.root / NAME / "retired.toml").write_text("retired = [1]\n")
    assert "is retired in" in refused(web.address, here)


@pytest.mark.parametrize(
    "text", ["../x", "a/b/c", "x/0", "x/-1", "x/01", "", "/1", "x/", ".hidden", "a b", f"x/{10**9}"]
)
def test_what_is_no_name_of_a_model_is_refused(text: str):
    with pytest.raises(PullFailed, match="NAME or NAME/VERSION"):
        choice(text)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_sealed_version_that_the_service_could_not_read_is_not_taken_over(
    here: Repository, tmp_path: Path, damage: str
):
    root = shutil.copytree(SHIPPED, tmp_path / "bad")
    DAMAGES[damage](root / NAME / "1")
    reseal(root / NAME / "1")
    assert "was not taken over" in refused(str(root), here)


def with_link(folder: Path, target: Path) -> None:
    (folder / "state.npz").unlink()
    (folder / "state.npz").symlink_to(target)


def with_folder(folder: Path, target: Path) -> None:
    del target
    (folder / "state.npz").unlink()
    (folder / "state.npz").mkdir()


def with_pipe(folder: Path, target: Path) -> None:
    import os

    del target
    (folder / "state.npz").unlink()
    os.mkfifo(folder / "state.npz")


@pytest.mark.parametrize("replace", [with_link, with_folder, with_pipe])
def test_a_folder_whose_file_is_a_link_a_folder_or_a_pipe_is_refused(
    here: Repository, tmp_path: Path, replace: Callable[[Path, Path], None]
):
    root = shutil.copytree(SHIPPED, tmp_path / "bad")
    replace(root / NAME / "1", SHIPPED / NAME / "1" / "state.npz")
    assert "is not a regular file" in refused(str(root), here)


def test_a_hard_link_is_copied_and_not_kept(here: Repository, tmp_path: Path):
    root = shutil.copytree(SHIPPED, tmp_path / "linked")
    (tmp_path / "other").hardlink_to(root / NAME / "1" / "state.npz")
    pull_from(str(root), here)
    assert (here.root / NAME / "1" / "state.npz").stat().st_nlink == 1


def test_more_bytes_than_allowed_are_refused_by_the_index_before_anything_is_written(here: Repository):
    line = refused(str(SHIPPED), here, PullRequest((Choice(NAME),), max_bytes=1000))
    assert "--max-bytes allows 1000" in line
    assert not list(here.root.iterdir())


def test_a_file_that_is_stated_as_larger_than_it_can_be_is_refused(here: Repository, tmp_path: Path):
    root = shutil.copytree(SHIPPED, tmp_path / "bad")
    with (root / NAME / "1" / "manifest.toml").open("r+b") as file:
        file.truncate(1 << 34)
    assert "larger than such a file can be" in refused(str(root), here)


def test_a_disk_that_is_too_small_is_known_before_anything_is_written(here: Repository, tmp_path: Path):
    root = shutil.copytree(SHIPPED, tmp_path / "large")
    with (root / NAME / "1" / "model.onnx.data").open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).total * 2)
    sums = root / NAME / "1" / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes() + f"{hashlib.sha256().hexdigest()}  model.onnx.data\n".encode())
    assert "bytes free" in refused(str(root), here, PullRequest((Choice(NAME),), max_bytes=1 << 62))


def test_what_lies_here_under_another_name_is_never_touched(here: Repository, web: Files):
    (here.root / "other" / "1").mkdir(parents=True)
    (here.root / "other" / "1" / "SHA256SUMS").write_text("kept")
    pull_from(web.address, here)
    assert files_of(here.root)["other/1/SHA256SUMS"] == b"kept"
