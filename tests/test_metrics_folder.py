"""The folder in which workers count: gone with its service, and cleared if that was killed, never if it lives."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.bundle.repository import Repository
from service.errors import SettingsInvalid
from service.metrics_folder import LOCK, NAMED, check_room, clear_left_over, metrics_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed_in_its_folder(temporary: Path) -> Path:
    """The folder that a process leaves which is killed within it."""
    code = "from service.metrics_folder import *; import os\nwith metrics_folder(2): os.kill(os.getpid(), 9)"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    (folder,) = temporary.glob(f"{NAMED}*")
    return folder


def test_the_folder_goes_with_its_context(temporary: Path) -> None:
    with metrics_folder(2) as folder:
        assert [str(path) for path in temporary.iterdir()] == [folder]
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_process_is_cleared(temporary: Path) -> None:
    folder = killed_in_its_folder(temporary)
    (folder / "counter_1.db").touch()
    assert clear_left_over() == 1
    assert not folder.exists()


def test_the_folder_of_a_living_process_stays() -> None:
    with metrics_folder(2) as folder:
        assert clear_left_over() == 0
        assert Path(folder, LOCK).exists()


def test_the_folder_of_a_worker_that_outlived_its_parent_stays(temporary: Path) -> None:
    folder = killed_in_its_folder(temporary)
    with (folder / "quotas.0.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert clear_left_over() == 0
    assert clear_left_over() == 1


def test_what_is_no_folder_of_ours_stays(temporary: Path) -> None:
    folder = killed_in_its_folder(temporary)
    kept = temporary / "kept"
    folder.rename(kept)
    (temporary / f"{NAMED}link").symlink_to(kept)
    (temporary / f"{NAMED}file").touch()
    (temporary / f"{NAMED}just-made").mkdir()
    earlier = temporary / f"{NAMED}of-an-earlier-release"
    earlier.mkdir()
    (earlier / "quotas.0.lock").touch()
    shutil.copytree(kept, temporary / f"{NAMED}odd")
    (temporary / f"{NAMED}odd" / LOCK).unlink()
    (temporary / f"{NAMED}odd" / LOCK).symlink_to(kept / LOCK)
    before = sorted(temporary.rglob("*"))
    assert clear_left_over() == 0
    assert sorted(temporary.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_stays(temporary: Path) -> None:
    folder = killed_in_its_folder(temporary)
    os.chown(folder, 12345, 12345)
    assert clear_left_over() == 0
    assert folder.exists()


def test_a_place_with_too_few_bytes_is_refused(temporary: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"^TMPDIR: .* MiB left, and \d+ workers need"):
        check_room(temporary, workers=1 << 40)


def test_no_place_at_all_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/temperance-has-no-such-folder")
    with pytest.raises(SettingsInvalid, match=r"^TMPDIR: "), metrics_folder(2):
        pass


def test_a_start_clears_what_a_killed_service_left(
    serving: Callable[..., AbstractContextManager[Any]], repository: Repository, tmp_path: Path
) -> None:
    own = tmp_path / "temporary"
    own.mkdir()
    with serving(repository.root, "--workers", "2", TMPDIR=str(own)) as server:
        (left,) = own.glob(f"{NAMED}*")
        workers = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        for worker in workers:
            if worker.is_running():
                worker.kill()
        psutil.wait_procs(workers, timeout=10)
    with serving(repository.root, TMPDIR=str(own)) as server:
        assert "removed folders that killed services left for their counts: 1" in server.log.read_text()
        assert not left.exists()
