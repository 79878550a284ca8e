"""TLS: certificates that are renewed while connections last, and the same protocol inside."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.api.tls import CertificateFiles, Tls
from service.errors import SettingsInvalid
from service.main import tls_of
from service.settings import Settings
from tests.certificates import Pair, make_pair

TEMPERANCE = Path(sys.executable).with_name("temperance")
ROOT = Path(__file__).parents[2]
CANARY = "zq7canary"
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "first")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """The certificate that a client is shown, in memory."""
    ends = [ssl.MemoryBIO() for _ in range(4)]
    inside = server.wrap_bio(ends[0], ends[1], server_side=True)
    outside = client.wrap_bio(ends[2], ends[3], server_hostname="127.0.0.1")
    for _ in range(6):
        for side, source, target in ((outside, ends[3], ends[0]), (inside, ends[1], ends[2])):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
            target.write(source.read())
    shown = outside.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def knowing(*pairs: Pair) -> ssl.SSLContext:
    """A client that knows these certificates."""
    context = ssl.create_default_context()
    for pair in pairs:
        context.load_verify_locations(pair.certificate)
    return context


def context_of(tls: Tls) -> ssl.SSLContext:
    return tls(None, ssl.create_default_context)  # type: ignore[arg-type]  # its parameters are not looked at


def test_new_connections_get_the_certificate_that_the_files_hold(pair: Pair, tmp_path: Path) -> None:
    tls = Tls(CertificateFiles(pair.certificate, pair.key))
    context = context_of(tls)
    before = shake_hands(context, knowing(pair))
    shutil.copy(make_pair(tmp_path, "second").certificate, pair.certificate)
    shutil.copy(tmp_path / "second.key", pair.key)
    tls.reload()
    assert shake_hands(context, knowing(pair)) != before


@pytest.mark.parametrize("damaged", ["certificate", "key"])
def test_files_that_cannot_be_used_change_nothing(
    damaged: str, pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = knowing(pair)
    tls = Tls(CertificateFiles(pair.certificate, pair.key))
    context = context_of(tls)
    before = shake_hands(context, client)
    other = make_pair(tmp_path, "second")
    shutil.copy(getattr(other, damaged), getattr(pair, damaged))  # half of a renewal
    tls.reload()
    assert shake_hands(context, client) == before
    assert "the certificate in use stays" in caplog.text


def test_a_key_with_a_password_is_read(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "locked", password=CANARY)
    password = tmp_path / "password"
    password.write_text(CANARY + "\n")
    context = CertificateFiles(pair.certificate, pair.key, password).context()
    assert shake_hands(context, knowing(pair))


def test_older_versions_than_1_2_are_refused(pair: Pair) -> None:
    assert CertificateFiles(pair.certificate, pair.key).context().minimum_version == ssl.TLSVersion.TLSv1_2


def test_clients_need_a_certificate_of_the_authorities(pair: Pair, tmp_path: Path) -> None:
    known = make_pair(tmp_path, "client")
    context = CertificateFiles(pair.certificate, pair.key, authorities=known.certificate).context()
    with pytest.raises(ssl.SSLError):
        shake_hands(context, knowing(pair))
    client = knowing(pair)
    client.load_cert_chain(known.certificate, known.key)
    assert shake_hands(context, client)


def wrong(folder: Path) -> dict[str, dict[str, Path]]:
    """Settings that must not start, by what is wrong."""
    pair, other = make_pair(folder, "own"), make_pair(folder, "other")
    locked = make_pair(folder, "locked", password=CANARY)
    text = folder / "text"
    text.write_text(CANARY)
    whole = {"ssl_certfile": pair.certificate, "ssl_keyfile": pair.key}
    return {
        "a key alone": {"ssl_keyfile": pair.key},
        "authorities alone": {"ssl_ca_certs": pair.certificate},
        "no such file": {"ssl_certfile": folder / "missing"},
        "no certificate": {"ssl_certfile": text},
        "a certificate without its key": {"ssl_certfile": pair.certificate},
        "the key of another": {"ssl_certfile": pair.certificate, "ssl_keyfile": other.key},
        "a key that is locked": {"ssl_certfile": locked.certificate, "ssl_keyfile": locked.key},
        "a wrong password": {
            "ssl_certfile": locked.certificate,
            "ssl_keyfile": locked.key,
            "ssl_keyfile_password_file": pair.certificate,
        },
        "no password": {**whole, "ssl_keyfile_password_file": folder / "missing"},
        "no authorities": {**whole, "ssl_ca_certs": text},
    }


KINDS = (
    "a key alone",
    "authorities alone",
    "no such file",
    "no certificate",
    "a certificate without its key",
    "the key of another",
    "a key that is locked",
    "a wrong password",
    "no password",
    "no authorities",
)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_do_not_fit_stop_the_start(kind: str, tmp_path: Path) -> None:
    files = wrong(tmp_path)[kind]
    with pytest.raises(SettingsInvalid) as refused:
        tls_of(Settings.model_validate(files))
    named = {str(path) for path in files.values()} | {f"TEMPERANCE_{name.upper()}" for name in files}
    assert any(name in refused.value.detail for name in named)
    assert CANARY not in refused.value.detail


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_of(Settings()) is None


# Against a real server


@dataclass
class Served:
    """A running server on a port, with a log."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def connected(self, *pairs: Pair) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return knowing(*pairs).wrap_socket(plain, server_hostname="127.0.0.1")


@contextmanager
def served(pair: Pair, folder: Path, *flags: str) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    own = ["--ssl-certfile", str(pair.certificate), "--ssl-keyfile", str(pair.key), "--port", str(port), *flags]
    times = {"TEMPERANCE_HEADER_SECONDS": "1", "TEMPERANCE_DEADLINE": "2", "TEMPERANCE_DATA": str(folder / "data")}
    log = folder / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen([str(TEMPERANCE), "serve", *own], env=clean | times, stderr=written, cwd=ROOT) as process,
    ):
        try:
            wait_for(lambda: "Application startup complete" in log.read_text())
            yield Served(process, port, log)
        finally:
            process.terminate()
            process.wait(timeout=30)


def ask(connection: ssl.SSLSocket, sent: bytes = GET) -> bytes:
    """The answer to one request, up to the end of its JSON."""
    connection.sendall(sent)
    received = b""
    while b"}" not in received:
        data = connection.recv(1 << 16)
        assert data, received
        received += data
    return received


def test_a_certificate_is_renewed_on_sighup_while_connections_last(pair: Pair, tmp_path: Path) -> None:
    with served(pair, tmp_path) as server, server.connected(pair) as lasting:
        assert ask(lasting).startswith(b"HTTP/1.1 200")
        first = lasting.getpeercert(binary_form=True)
        second = make_pair(tmp_path, "second")
        shutil.copy(second.certificate, pair.certificate)
        shutil.copy(second.key, pair.key)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the certificate was loaded again" in server.log.read_text())
        with server.connected(second) as renewed:
            assert ask(renewed).startswith(b"HTTP/1.1 200")
            assert renewed.getpeercert(binary_form=True) != first
        assert ask(lasting).startswith(b"HTTP/1.1 200")
        pair.certificate.write_text("no certificate")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the certificate in use stays" in server.log.read_text())
        with server.connected(second) as same:
            assert ask(same).startswith(b"HTTP/1.1 200")


@pytest.mark.long
def test_several_workers_are_replaced_and_have_the_new_certificate(pair: Pair, tmp_path: Path) -> None:
    with served(pair, tmp_path, "--workers", "2") as server:
        second = make_pair(tmp_path, "second")
        with server.connected(pair) as first:
            assert ask(first).startswith(b"HTTP/1.1 200")
            shown = first.getpeercert(binary_form=True)
        shutil.copy(second.certificate, pair.certificate)
        shutil.copy(second.key, pair.key)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.log.read_text().count("Finished server process") == 2)
        for _ in range(10):
            with server.connected(second) as renewed:
                assert ask(renewed).startswith(b"HTTP/1.1 200")
                assert renewed.getpeercert(binary_form=True) != shown


def test_the_protocol_is_as_strict_within_tls(pair: Pair, tmp_path: Path) -> None:
    with served(pair, tmp_path) as server:
        with server.connected(pair) as refused:
            assert ask(refused, b"GET /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
        with server.connected(pair) as half:
            assert ask(half, b"GET /livez HT").startswith(b"HTTP/1.1 408")
        with server.connected(pair) as large:  # its answer arrives though it sends on
            head = b"POST /v1/models/breast-cancer:decide HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n"
            head += b"Content-Type: application/json\r\n\r\n"
            assert ask(large, head + bytes(1_000_000)).startswith(b"HTTP/1.1 413")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(GET)
            assert not plain.recv(1 << 16).startswith(b"HTTP")
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address), server.connected(pair) as idle:  # one never shakes hands
            assert ask(idle).startswith(b"HTTP/1.1 200")
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(timeout=10)
            assert time.monotonic() - started < 9


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
