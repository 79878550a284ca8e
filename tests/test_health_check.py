"""The health check of the image, against servers of this machine."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service.environment import read_settings
from service.health_check import address_of
from service.settings import PREFIX
from tests.certificates import Pair, make_pair
from tests.conftest import Server


def checked(port: int, **variables: str) -> "subprocess.CompletedProcess[str]":
    """What the check says of a port of this machine."""
    return subprocess.run(
        [sys.executable, "-m", "service.health_check"],
        env={**os.environ, "TEMPERANCE_PORT": str(port), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def port_of(server: Server) -> int:
    port = server.client.base_url.port
    assert port is not None
    return port


@contextmanager
def answering(status: int, pair: Pair | None = None) -> Iterator[int]:
    """The port of a server, with TLS or without, that answers /readyz with one status and all else with 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"text")

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_is_ready_passes(server: Server) -> None:
    done = checked(port_of(server))
    assert (done.returncode, done.stderr) == (0, "")


def test_no_proxy_is_used(server: Server) -> None:
    assert checked(port_of(server), http_proxy="http://127.0.0.1:9", no_proxy="").returncode == 0


@pytest.mark.parametrize("status", [404, 500, 503])
def test_any_other_status_fails_with_a_line_that_gives_it(status: int) -> None:
    with answering(status) as port:
        done = checked(port)
    assert (done.returncode, done.stderr) == (1, f"not ready: status {status}: text\n")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_check_follows_the_service_to_tls(tmp_path: Path, status: int, code: int) -> None:
    pair = make_pair(tmp_path, "of-another-host")
    with answering(status, pair) as port:
        assert checked(port, TEMPERANCE_SSL_CERTFILE=str(pair.certificate)).returncode == code


def test_a_port_on_which_nothing_listens_fails_with_one_line() -> None:
    with answering(200) as port:
        assert checked(port).returncode == 0
    done = checked(port)
    assert done.returncode == 1
    assert done.stderr.startswith("no answer: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PORT": "8080"},
        {"PORT": "8080", "TEMPERANCE_PORT": "9000"},
        {"PORT": "8080", "TEMPERANCE_PORT": "tcp://10.0.0.1:8000"},
        {"TEMPERANCE_PORT": "tcp://10.0.0.1:8000"},
    ],
)
def test_the_port_is_the_one_that_the_service_listens_on(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name == "PORT" or name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert address_of(variables) == ("localhost", read_settings().port)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "localhost"), ("::", "localhost"), ("10.0.0.7", "10.0.0.7")],  # noqa: S104
)
def test_the_address_is_one_that_the_service_listens_on(host: str, expected: str) -> None:
    assert address_of({"TEMPERANCE_HOST": host})[0] == expected


def test_little_is_imported() -> None:
    code = "import sys, service.health_check; print({'numpy', 'pydantic', 'onnxruntime', 'click'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
