"""How uvicorn runs the service; what concerns connections is in `test_http_protocol.py`, the rest in `test_main.py`."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.api.http_limits import HttpLimits
from service.api.serving import Serving
from service.api.tls import CertificateFiles, Tls
from tests.shipped_model import SHIPPED

TEMPERANCE = Path(sys.executable).with_name("temperance")
Started = Callable[..., AbstractContextManager[Any]]


def test_workers_get_the_limits_of_their_parent() -> None:
    serving = Serving(HttpLimits(header_seconds=1.5), 30.0, Tls(CertificateFiles(Path("chain"))))
    again = pickle.loads(pickle.dumps(serving))  # noqa: S301  # what uvicorn does to start a worker
    assert again.limits == HttpLimits(header_seconds=1.5)
    assert again.deadline == 30.0


@pytest.mark.parametrize(("keep_alive", "advertised"), [(75.0, 70), (50.0, 45), (20.0, 18), (2.0, 1), (1.0, 0)])
def test_clients_reuse_a_connection_for_less_time_than_it_stays_open(keep_alive: float, advertised: int) -> None:
    assert HttpLimits(keep_alive=keep_alive).advertised == advertised


def test_no_variable_of_the_http_server_counts(serving: Started) -> None:
    with serving(SHIPPED, WEB_CONCURRENCY="two") as server:
        assert server.client.get("/livez").status_code == 200


def test_a_proxy_that_is_no_address_stops_the_start() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    done = subprocess.run(
        [str(TEMPERANCE), "serve", "--models", str(SHIPPED)],
        env=clean | {"TEMPERANCE_PROXIES": "zq7canary"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "TEMPERANCE_PROXIES" in done.stderr
    assert "zq7canary" not in done.stderr


def test_sigterm_ends_a_start_with_exit_code_0(tmp_path: Path) -> None:
    """The first process of a container gets no signal that it does not handle."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    code = (
        "import os, signal\n"
        "from service.start_signals import take_signals\n"
        "take_signals()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "raise SystemExit('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0


def test_workers_that_cannot_start_end_the_process_with_an_exit_code(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    fails = tmp_path / "failing.py"
    fails.write_text("raise SystemExit(3)\n")
    code = (
        "import socket\n"
        "from service.api.http_limits import HttpLimits\n"
        "from service.api.serving import Serving\n"
        "if __name__ == '__main__':\n"
        "    with socket.socket() as one:\n"
        "        one.bind(('127.0.0.1', 0))\n"
        "        Serving(HttpLimits(), 30.0).in_processes('failing:app', 2, [one])\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    done = subprocess.run([sys.executable, str(script)], env=clean | path, timeout=60, check=False, capture_output=True)
    assert done.returncode == 3


def test_sigterm_ends_a_process_that_serves_nothing_with_exit_code_0(serving: Started) -> None:
    with serving(SHIPPED) as server:
        server.client.close()
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0
        assert time.monotonic() - started < 6
