"""Where the service listens: the same with one worker and with many, on addresses and on a Unix domain socket."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.listening import bound, bound_to_path, urls
from service.errors import SettingsInvalid
from tests.shipped_model import SHIPPED

Serving = Callable[..., AbstractContextManager[Any]]
TEMPERANCE = Path(sys.executable).with_name("temperance")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "temperance.sock"


def closed_after(sockets: list[socket.socket]) -> Iterator[socket.socket]:
    for one in sockets:
        with one:
            yield one


def test_an_address_is_bound_and_does_not_listen_yet() -> None:
    for one in closed_after(bound("127.0.0.1", 0)):
        with socket.socket() as client:
            assert client.connect_ex(one.getsockname()) != 0
        assert urls([one], is_tls=False) == [f"http://127.0.0.1:{one.getsockname()[1]}"]


def test_every_address_is_those_of_ipv4_too() -> None:
    (one,) = bound("::", 0)
    with one:
        one.listen()
        port = one.getsockname()[1]
        assert urls([one], is_tls=True) == [f"https://[::]:{port}"]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


def test_one_ipv6_address_is_no_ipv4_address() -> None:
    (one,) = bound("::1", 0)
    with one:
        assert one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_all_addresses_of_a_name_have_one_port() -> None:
    ports = {one.getsockname()[1] for one in closed_after(bound("localhost", 0))}
    assert len(ports) == 1


def test_a_port_in_use_is_refused_by_its_number() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            bound("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a b"])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(SettingsInvalid, match="cannot listen on"):
        bound(host, 0)


def test_a_socket_is_its_owners_and_its_groups_and_goes_with_its_process(path: Path) -> None:
    with bound_to_path(path) as made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert urls([made], is_tls=False) == [f"unix:{path}"]
    assert not path.exists()


def test_a_socket_that_a_killed_process_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()
    with bound_to_path(path):
        assert path.is_socket()


def test_a_socket_that_a_process_listens_on_stays(path: Path) -> None:
    with bound_to_path(path) as made:
        made.listen()
        with pytest.raises(SettingsInvalid, match="another process does"), bound_to_path(path):
            pass
        assert path.is_socket()


def test_a_file_that_is_no_socket_stays(path: Path) -> None:
    path.write_text("kept")
    with pytest.raises(SettingsInvalid, match="no socket"), bound_to_path(path):
        pass
    assert path.read_text() == "kept"


def test_a_socket_of_another_process_is_not_removed(path: Path) -> None:
    with bound_to_path(path):
        path.unlink()
        path.write_text("another's")
    assert path.exists()


@pytest.mark.parametrize("name", ["missing/temperance.sock", "x" * 200])
def test_a_path_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot listen on"), bound_to_path(tmp_path / name):
        pass


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_is_reached_through_a_unix_domain_socket(workers: str, path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    command = [str(TEMPERANCE), "serve", "--models", str(SHIPPED), "--uds", str(path), "--workers", workers]
    with (
        subprocess.Popen(command, env=clean, stderr=subprocess.DEVNULL) as process,
        httpx.Client(transport=httpx.HTTPTransport(uds=str(path), retries=0), base_url="http://x") as client,
    ):
        wait_until_it_listens(path)
        assert client.get("/readyz").status_code == 200
        assert client.get("/v1/models").json() == {"models": ["breast-cancer"]}
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    assert not path.exists()


def wait_until_it_listens(path: Path) -> None:
    deadline = time.monotonic() + 60
    with socket.socket(socket.AF_UNIX) as client:
        while client.connect_ex(str(path)) != 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_address_means_the_same_with_one_worker_and_with_many(workers: str, serving: Serving) -> None:
    with serving(SHIPPED, "--host", "::", "--insecure", "--workers", workers) as server:
        port = server.client.base_url.port
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/livez").status_code == 200


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--uds", "/tmp/x.sock", "--port", "8000"), "TEMPERANCE_UDS takes the place of"),  # noqa: S108  # never made
        (("--host", ""), "TEMPERANCE_HOST"),
    ],
)
def test_what_cannot_be_listened_on_stops_the_start(flags: tuple[str, ...], line: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    done = subprocess.run(
        [str(TEMPERANCE), "serve", "--models", str(SHIPPED), *flags],
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert line in done.stderr
