"""How many files a service may have open: raised as far as may be, stated if few, refused if too few to listen."""

import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from service import open_files
from service.api.serving import ACCEPTED_IN_A_TURN
from service.bundle.repository import Repository
from service.errors import SettingsInvalid
from service.open_files import BESIDE_HANDLES, FEWEST, MOST, OpenFiles

TEMPERANCE = Path(sys.executable).with_name("temperance")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((256, 4096), OpenFiles(256, 4096)),
        ((256, 256), OpenFiles(256, 256)),
        ((1024, resource.RLIM_INFINITY), OpenFiles(1024, MOST)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), OpenFiles(MOST, MOST)),
        ((1024, 1 << 30), OpenFiles(1024, MOST)),
        ((1 << 21, 1 << 30), OpenFiles(1 << 21, 1 << 21)),
    ],
)
def test_a_limit_can_be_raised_to_the_hard_one(
    found: tuple[int, int], expected: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: found)
    assert open_files.limits() == expected


@pytest.mark.parametrize("sockets", [1, 2])
def test_a_limit_that_the_sockets_would_take_is_refused(sockets: int) -> None:
    needed = sockets * ACCEPTED_IN_A_TURN + BESIDE_HANDLES
    open_files.check_room(needed, sockets * ACCEPTED_IN_A_TURN)
    with pytest.raises(SettingsInvalid, match=rf"lets {needed - 1} files be open at once, and {needed} are needed"):
        open_files.check_room(needed - 1, sockets * ACCEPTED_IN_A_TURN)


def test_a_server_raises_its_limit(serving: Callable[..., AbstractContextManager[Any]], repository: Repository) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEWEST // 2, before[1]))
    try:
        with serving(repository.root) as server:
            soft, hard = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
            assert "ulimit" not in server.log.read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert soft == min(hard, MOST) >= FEWEST


@pytest.mark.parametrize("limit", [40, 80])
def test_a_server_that_cannot_listen_for_lack_of_files_does_not_start(limit: int, repository: Repository) -> None:
    line = f"ulimit -n {limit}; exec '{TEMPERANCE}' serve --models '{repository.root}' --port 0 --workers 2"
    ended = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    needed = ACCEPTED_IN_A_TURN + BESIDE_HANDLES
    (line,) = ended.stderr.splitlines()
    assert line == f"temperance: `ulimit -n` lets {limit} files be open at once, and {needed} are needed: raise it"
