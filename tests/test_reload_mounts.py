"""Reload on the mounts that clusters make: what is served follows them under load, and no request fails."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from service.bundle.repository import Repository
from service.errors import BundleDamaged
from tests.shipped_model import NAME, SHIPPED
from tests.test_main import publish_another_price, wait_for

Serving = Callable[..., AbstractContextManager[Any]]
LAST: Final = 3
JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with versions 1 to LAST."""
    root = shutil.copytree(SHIPPED, tmp_path_factory.mktemp("releases") / "models")
    for version in range(2, LAST + 1):
        assert publish_another_price(Repository(root), 50 + version) == version
    return root


def lay_out(releases: Path, root: Path, version: int) -> None:
    """A repository as a release has it: versions up to one, which is stable."""
    for number in range(1, version + 1):
        shutil.copytree(releases / NAME / str(number), root / NAME / str(number), dirs_exist_ok=True)
    new = root / NAME / ".new"
    new.write_text(f"stable = {version}\n")
    new.replace(root / NAME / "aliases.toml")


def swap(link: Path, target: str) -> None:
    """Point a link at something else in one step, as the kubelet and git-sync do."""
    aside = link.with_name(f"{link.name}_tmp")
    aside.symlink_to(target)
    aside.replace(link)


class Mount:
    """A place that a repository is deployed to, and the path under which it is served."""

    def __init__(self, releases: Path, folder: Path) -> None:
        self.releases, self.folder = releases, folder
        self.path = folder / "mounted"

    @contextmanager
    def mounted(self) -> Iterator[None]:
        yield

    def deploy(self, version: int) -> None:
        raise NotImplementedError


class Projected(Mount):
    """A projected volume: every top entry is a link through `..data`, which moves from one folder to the next."""

    def deploy(self, version: int) -> None:
        self.path.mkdir(exist_ok=True)
        new = self.path / f"..2026_11_27_00_00_0{version}.1"
        lay_out(self.releases, new, version)
        before = (self.path / "..data").readlink() if (self.path / "..data").is_symlink() else None
        swap(self.path / "..data", new.name)
        if not (self.path / NAME).is_symlink():
            (self.path / NAME).symlink_to(f"..data/{NAME}")
        if before is not None:
            shutil.rmtree(self.path / before)


class GitSync(Mount):
    """A folder of git-sync: a link that moves to the next worktree, after which the last one is removed."""

    def __init__(self, releases: Path, folder: Path) -> None:
        super().__init__(releases, folder)
        self.path = folder / "git" / "current" / "models"

    def deploy(self, version: int) -> None:
        new = self.folder / "git" / ".worktrees" / f"commit-{version}"
        lay_out(self.releases, new / "models", version)
        swap(self.folder / "git" / "current", f".worktrees/{new.name}")
        shutil.rmtree(self.folder / "git" / ".worktrees" / f"commit-{version - 1}", ignore_errors=True)


class ConfigMapOfAliases(Mount):
    """Versions on a volume, and `aliases.toml` in a ConfigMap."""

    def deploy(self, version: int) -> None:
        lay_out(self.releases, self.path, version)
        folder = self.path / NAME
        (folder / f"..{version}").mkdir()
        (folder / "aliases.toml").replace(folder / f"..{version}" / "aliases.toml")
        swap(folder / "..data", f"..{version}")
        (folder / "aliases.toml").symlink_to("..data/aliases.toml")
        shutil.rmtree(folder / f"..{version - 1}", ignore_errors=True)


class ReadOnly(Mount):
    """A volume that is mounted read-only, and written to from another place."""

    @contextmanager
    def mounted(self) -> Iterator[None]:
        self.path.mkdir()
        (self.folder / "written").mkdir(exist_ok=True)
        bind = subprocess.run(["mount", "--bind", self.folder / "written", self.path], capture_output=True, check=False)
        if bind.returncode:
            pytest.skip("nothing may be mounted here (CAP_SYS_ADMIN is missing)")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", self.path], check=True)
            with pytest.raises(OSError, match="Read-only"):
                (self.path / "x").write_text("x")
            yield
        finally:
            subprocess.run(["umount", "--lazy", self.path], check=True)

    def deploy(self, version: int) -> None:
        lay_out(self.releases, self.folder / "written", version)


class Share(ReadOnly):
    """A share that shows changes late, whose handles go stale: `tests.late_file_system`."""

    @contextmanager
    def mounted(self) -> Iterator[None]:
        pytest.importorskip("mfusepy", reason="mfusepy or libfuse (apt-get install libfuse3-3) is missing")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("/dev/fuse may not be opened here")
        self.path.mkdir()
        written = self.folder / "written"
        written.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.late_file_system", str(written), str(self.path), "0.3"]
        with (self.folder / "stale").open("w") as stale, subprocess.Popen(command, stdout=stale) as process:
            try:
                wait_for(lambda: process.poll() is not None or self.path.is_mount())
                if not self.path.is_mount():
                    pytest.skip("no FUSE file system can be mounted here")
                yield
                assert (self.folder / "stale").read_text().splitlines()  # else this showed nothing
            finally:
                subprocess.run(["umount", "--lazy", self.path], capture_output=True, check=False)
                process.wait(30)

    def deploy(self, version: int) -> None:
        written = self.folder / "written"
        lay_out(self.releases, written, version)
        again = written / NAME / ".again"  # so that the folder of the model is another one, with another handle
        shutil.copytree(written / NAME, again)
        (written / NAME).rename(written / ".old")
        (written / ".old" / ".again").rename(written / NAME)
        shutil.rmtree(written / ".old")


@dataclass
class Load:
    """Requests one after another, each over a connection of its own or over one that is kept."""

    address: str
    body: bytes
    statuses: list[int] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while not self.ends.is_set():
                answer = client.post(f"/v1/models/{NAME}:decide", content=self.body, headers=JSON)
                self.statuses.append(answer.status_code)
                self.versions.append(answer.json().get("version", ""))


@contextmanager
def under_load(address: str, body: bytes) -> Iterator[Load]:
    load = Load(address, body)
    threads = [threading.Thread(target=load.run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.ends.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("kind", [Projected, GitSync, ConfigMapOfAliases, ReadOnly, Share])
def test_what_is_served_follows_a_mount_under_load_and_no_request_fails(
    kind: type[Mount], serving: Serving, releases: Path, tmp_path: Path, test_rows: list[list[float]]
) -> None:
    mount, body = kind(releases, tmp_path), json.dumps({"instances": test_rows[:1]}).encode()
    with mount.mounted():
        mount.deploy(1)
        with serving(mount.path, TEMPERANCE_RELOAD_SECONDS="0.05") as server:
            with under_load(str(server.client.base_url), body) as load:
                wait_for(lambda: load.versions[-1:] == ["1"])
                for version in range(2, LAST + 1):
                    mount.deploy(version)
                    wait_for(lambda version=version: load.versions[-1:] == [str(version)])  # type: ignore[misc]
                    assert server.client.get("/readyz").status_code == 200
            log = server.log.read_text()
    assert set(load.statuses) == {200}
    assert sorted(set(load.versions)) == [str(version) for version in range(1, LAST + 1)]
    assert "Traceback" not in log


@pytest.mark.parametrize("kind", [Projected, GitSync])
def test_a_whole_repository_that_is_swapped_for_an_older_one_rolls_back(
    kind: type[Mount], serving: Serving, releases: Path, tmp_path: Path, test_rows: list[list[float]]
) -> None:
    mount, body = kind(releases, tmp_path), json.dumps({"instances": test_rows[:1]}).encode()
    mount.deploy(LAST)
    with (
        serving(mount.path, TEMPERANCE_RELOAD_SECONDS="0.05") as server,
        under_load(str(server.client.base_url), body) as load,
    ):
        wait_for(lambda: load.versions[-1:] == [str(LAST)])
        mount.deploy(LAST - 1)
        wait_for(lambda: load.versions[-1:] == [str(LAST - 1)])
    assert set(load.statuses) == {200}


def test_a_config_map_that_is_mounted_as_a_version_is_refused_with_the_place_where_it_belongs(tmp_path: Path) -> None:
    root = shutil.copytree(SHIPPED, tmp_path / "models")
    files = (root / NAME / "1").rename(root / NAME / "..2026_11_27")
    version = root / NAME / "1"
    version.mkdir()
    files = files.rename(version / files.name)
    (version / "..data").symlink_to(files.name)
    for file in files.iterdir():
        (version / file.name).symlink_to(f"..data/{file.name}")
    with pytest.raises(BundleDamaged, match="mount it at the repository's folder"):
        Repository(root).bundle(NAME, 1)
