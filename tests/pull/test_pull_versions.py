"""Pulls as processes: killed at any point, several at once, and again; a version is whole or it is not there."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.repository import Repository
from service.pull.pull_errors import PullFailed
from service.pull.pull_plan import Choice, PullRequest
from service.pull.pull_versions import pull
from service.pull.source_kinds import open_source
from tests.certificates import make_pair
from tests.damaged_versions import reseal
from tests.pull.file_server import Files, file_server, wait_until
from tests.shipped_model import NAME, SHIPPED

TEMPERANCE = Path(sys.executable).with_name("temperance")
BYTES = 600_000
SYSCALLS = ("rename", "fsync", "mkdir", "write", "unlink,rmdir", "unlinkat")
STRACE = shutil.which("strace")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one uncalibrated version that has external data."""
    root = shutil.copytree(SHIPPED, tmp_path_factory.mktemp("large") / "models")
    version = root / NAME / "1"
    for name in ("calibration.json", "state.npz"):
        (version / name).unlink()
    (version / "model.onnx.data").write_bytes(np.random.default_rng(0).bytes(BYTES))
    reseal(version)
    return root


@pytest.fixture
def far(large: Path, tmp_path: Path) -> Iterator[tuple[Files, dict[str, str]]]:
    """A web server with that repository, and the environment of who pulls from it."""
    pair = make_pair(tmp_path, "web")
    with file_server(large, pair) as files:
        yield files, {**os.environ, "SSL_CERT_FILE": str(pair.certificate)}


def command(address: str, here: Repository, *more: str) -> list[str]:
    return [str(TEMPERANCE), "pull", address, NAME, "--models", str(here.root), *more]


def is_whole_or_absent(here: Repository, large: Path) -> bool:
    """Whether the version is here; it then has every byte."""
    assert here.versions(NAME) in ([], [1])
    if not here.versions(NAME):
        assert here.aliases(NAME) == {}
        return False
    assert here.bundle(NAME, 1).digest == Repository(large).bundle(NAME, 1).digest
    return True


def left_by_the_last(here: Repository) -> dict[str, int | None]:
    """Bytes of the parts that a pull left, by file; None for those that it finished."""
    parts = {path.name: path.stat().st_size for path in here.root.glob(f"{NAME}/.pulling-1-*/parts/*")}
    return {**parts, **{path.name: None for path in here.root.glob(f"{NAME}/.pulling-1-*/files/*")}}


def assert_continued(requests: list[tuple[str, str]], left: dict[str, int | None]) -> None:
    """Files that were finished are not requested again, and others from the byte where they ended."""
    for path, part in requests:
        name = path.rpartition("/")[2]
        if name in left:
            assert left[name] is not None
            assert part == (f"bytes={left[name]}-" if left[name] else "")


def test_a_pull_that_is_killed_at_any_byte_leaves_nothing_half_and_the_next_one_fetches_only_the_rest(
    far: tuple[Files, dict[str, str]], here: Repository, large: Path
):
    files, environment = far
    total = sum(path.stat().st_size for path in (large / NAME / "1").iterdir())
    kills = sorted(np.random.default_rng(17).integers(10_000, total - 10_000, 4))
    for bytes_before in kills:
        files.pause_after = bytes_before
        files.paused.clear()
        files.hold.clear()
        begun, finished = left_by_the_last(here), len(files.requests)
        with subprocess.Popen(command(files.address, here), env=environment) as process:
            wait_until(files.paused.is_set)
            process.send_signal(signal.SIGKILL)
            process.wait()
        files.hold.set()
        assert not is_whole_or_absent(here, large)
        assert_continued(files.requests[finished:], begun)
    files.pause_after, finished, begun = None, len(files.requests), left_by_the_last(here)
    done = subprocess.run(command(files.address, here), env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_whole_or_absent(here, large)
    assert begun["model.onnx.data"]
    assert_continued(files.requests[finished:], begun)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed (apt-get install strace)")
@pytest.mark.parametrize(
    ("syscall", "every"),
    [("rename", 5), ("unlinkat", 2), *(pytest.param(one, 1, marks=pytest.mark.long) for one in SYSCALLS)],
)
def test_a_pull_that_is_killed_at_any_system_call_is_finished_by_the_next_one(
    large: Path, here: Repository, syscall: str, every: int
):
    for count in range(1 + every // 2, 400, every):
        shutil.rmtree(here.root)
        traced = [str(STRACE), "-f", "-o", "/dev/null", "-e", f"trace={syscall}"]
        inject = ["-e", f"inject={syscall}:signal=SIGKILL:when={count}"]
        killed = subprocess.run([*traced, *inject, *command(str(large), here)], capture_output=True, check=False)
        if b"Operation not permitted" in killed.stderr:
            pytest.skip("processes may not be traced here")
        is_whole_or_absent(here, large)
        with open_source(str(large)) as source:
            pull(source, here, PullRequest((Choice(NAME),)))
        assert is_whole_or_absent(here, large)
        assert here.aliases(NAME) == {"stable": 1}
        assert not list((here.root / NAME).glob(".pulling-1*"))
        if killed.returncode == 0:
            return
    raise AssertionError(syscall)


def test_pulls_at_once_bring_one_version_and_each_succeeds(
    far: tuple[Files, dict[str, str]], here: Repository, large: Path
):
    files, environment = far
    running = [
        subprocess.Popen(command(files.address, here, "--json"), env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 3
    assert sorted('"state": "pulled"' in output for output in outputs) == [False, False, True]
    assert is_whole_or_absent(here, large)


def test_without_locks_pulls_do_not_share_a_folder_and_the_slower_one_finds_the_version(
    here: Repository, monkeypatch: pytest.MonkeyPatch
):
    import errno
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (here.root / NAME / ".pulling-1-of-another").mkdir(parents=True)
    with open_source(str(SHIPPED)) as source:
        assert pull(source, here, PullRequest((Choice(NAME),)))[0].versions[0].state == "pulled"
    assert {path.name for path in (here.root / NAME).iterdir()} == {
        "1", "aliases.toml", ".pulling-lock", ".pulling-1-of-another",
    }  # fmt: skip


def test_aliases_that_a_person_removed_stay_removed(here: Repository):
    (here.root / NAME).mkdir()
    (here.root / NAME / "aliases.toml").write_text("# every alias was removed: no version is served\n")
    with open_source(str(SHIPPED)) as source:
        pulled = pull(source, here, PullRequest((Choice(NAME),)))
    assert (pulled[0].aliases, pulled[0].aliases_set, pulled[0].differ) == ({}, False, True)


def test_a_version_that_no_alias_names_there_becomes_stable_in_a_new_model(here: Repository, tmp_path: Path):
    root = shutil.copytree(SHIPPED, tmp_path / "without")
    (root / NAME / "aliases.toml").unlink()
    with open_source(str(root)) as source:
        pulled = pull(source, here, PullRequest((Choice(NAME, 1),)))
    assert pulled[0].aliases == {"stable": 1}
    with open_source(str(root)) as source, pytest.raises(PullFailed, match="which --aliases set needs"):
        pull(source, here, PullRequest((Choice(NAME, 1),), aliases="set"))


def test_aliases_are_not_set_to_versions_that_do_not_come(here: Repository, repository: Repository, publish_again):
    publish_again()
    (repository.root / NAME / "aliases.toml").write_text("stable = 2\nold = 1\n")
    with open_source(str(repository.root)) as source:
        with pytest.raises(PullFailed, match="name version 1, which does not come"):
            pull(source, here, PullRequest((Choice(NAME, 2),), aliases="set"))
        kept = pull(source, here, PullRequest((Choice(NAME, 2),), aliases="keep"))
        assert (kept[0].aliases, kept[0].aliases_set) == ({}, False)
        assert pull(source, here, PullRequest((Choice(NAME, 2),)))[0].aliases == {"stable": 2}


def test_aliases_are_not_set_to_a_version_here_whose_files_are_not_those_of_the_source(
    here: Repository, repository: Repository, publish_again
):
    publish_again()
    (repository.root / NAME / "aliases.toml").write_text("stable = 2\nold = 1\n")
    _edit(repository.root / NAME / "2")
    shutil.copytree(SHIPPED / NAME, here.root / NAME)
    request = PullRequest((Choice(NAME, 2),), aliases="set")
    with open_source(str(repository.root)) as source:
        only = frozenset({str(repository.bundle(NAME, 2).digest)})
        with pytest.raises(PullFailed, match=r"version 1 is sha256:.*, which no --digest allows"):
            pull(source, here, PullRequest((Choice(NAME, 2),), aliases="set", digests=only))
        _edit(here.root / NAME / "1")
        with pytest.raises(PullFailed, match="a version never changes"):
            pull(source, here, request)
        assert here.aliases(NAME) == {"stable": 1}
        shutil.rmtree(here.root / NAME)
        shutil.copytree(SHIPPED / NAME, here.root / NAME)
        assert pull(source, here, request)[0].aliases == {"stable": 2, "old": 1}


def _edit(version: Path) -> None:
    manifest = version / "manifest.toml"
    manifest.write_text(manifest.read_text() + "\n# another\n")
    reseal(version)


def test_a_damaged_version_here_is_named_and_left_to_a_person(here: Repository):
    request = PullRequest((Choice(NAME),))
    with open_source(str(SHIPPED)) as source:
        pull(source, here, request)
        (here.root / NAME / "1" / "state.npz").write_bytes(b"damaged")
        with pytest.raises(Exception, match=r"state.npz does not match its sum"):
            pull(source, here, request)


def test_a_repository_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with open_source(str(SHIPPED)) as source, pytest.raises(Exception, match=r"file/models"):
        pull(source, Repository(tmp_path / "file" / "models"), PullRequest((Choice(NAME),)))
