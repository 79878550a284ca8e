"""What a start says and refuses before it spawns or listens, and where it says that values came from."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.bundle.repository import Repository
from service.environment import Sources, read_settings
from service.errors import BundleDamaged, SettingsInvalid
from service.main import _sockets
from service.runtime.registry import load_registry
from service.settings import Settings
from service.start_checks import check_settings, warn_of_models, writable_place

TEMPERANCE = Path(sys.executable).with_name("temperance")
LINKS = {
    "TEMPERANCE_PORT": "tcp://10.0.0.1:8000",
    "TEMPERANCE_SERVICE_HOST": "10.0.0.1",
    "TEMPERANCE_PORT_8000_TCP_ADDR": "10.0.0.1",
    "TEMPERANCE_API_SERVICE_PORT_HTTP": "80",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TEMPERANCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("PORT", raising=False)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ((), {}, "by default"),
        ((), {"TEMPERANCE_PORT": "1"}, "from the environment"),
        ((), {"temperance_port": "1"}, "from the environment"),
        (("port",), {"TEMPERANCE_PORT": "1"}, "from --port"),
        ((), {"TEMPERANCE_PORT": "tcp://10.0.0.1:8000"}, "by default"),
        ((), {"TEMPERANCE_PORT": "tcp://10.0.0.1:8000", "PORT": "1"}, "from PORT"),
        ((), {"TEMPERANCE_PORT": "1", "PORT": "1"}, "from the environment"),
        (("port",), {"PORT": "1"}, "from --port"),
    ],
)
def test_the_source_of_a_value_is_known(
    options: tuple[str, ...], variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Sources.of_environment(options).of("port") == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SettingsInvalid("TEMPERANCE_KEYS: no"), "TEMPERANCE_KEYS: no (from --keys)"),
        (
            SettingsInvalid("TEMPERANCE_KEYS: needs TEMPERANCE_DATA"),
            "TEMPERANCE_KEYS: needs TEMPERANCE_DATA (TEMPERANCE_KEYS from --keys, TEMPERANCE_DATA by default)",
        ),
        (BundleDamaged("a file"), "a file (TEMPERANCE_MODELS by default, TEMPERANCE_KEYS from --keys)"),
        (PermissionError(13, "denied", "/a"), "/a: denied (TEMPERANCE_MODELS by default, TEMPERANCE_KEYS from --keys)"),
    ],
    ids=["that it names", "all that it names", "those at hand", "of the system"],
)
def test_an_error_names_the_settings_at_fault_and_their_sources(error: Exception, expected: str) -> None:
    with pytest.raises(SettingsInvalid) as caught, Sources(frozenset({"keys"})).named("models", "keys"):
        raise error
    assert str(caught.value) == expected


def test_what_is_no_error_of_ours_is_left_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), Sources().named("models"):
        raise ZeroDivisionError


def test_a_socket_takes_the_place_of_a_platforms_port_without_contradicting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("TEMPERANCE_UDS", str(tmp_path / "socket"))
    sources = Sources.of_environment()
    with _sockets(read_settings(sources), sources) as (made,):
        assert made.family == socket.AF_UNIX


def test_variables_of_kubernetes_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    assert read_settings() == Settings() == Settings.model_construct()
    monkeypatch.setenv("TEMPERANCE_PORTS", "80")
    with pytest.raises(SettingsInvalid, match=r"^TEMPERANCE_PORTS is no setting"):
        read_settings()


@pytest.mark.parametrize(
    ("workers", "shared_metrics"), [("1", "PROMETHEUS_MULTIPROC_DIR"), ("2", "prometheus_multiproc_dir")]
)
def test_a_service_beside_a_service_of_its_name_starts_and_says_so_once(
    workers: str,
    shared_metrics: str,
    serving: Callable[..., AbstractContextManager[Any]],
    repository: Repository,
) -> None:
    foreign = {shared_metrics: "/nowhere/of-another-program"}
    with serving(repository.root, "--workers", workers, **LINKS, **foreign) as server:
        assert "temperance_build_info" in server.client.get("/metrics").text
        server.process.terminate()
        server.process.wait(timeout=30)
        lines = server.log.read_text().splitlines()
    (links,) = [line for line in lines if "Kubernetes" in line]
    # --port has taken the place of TEMPERANCE_PORT
    assert all(name in links for name in LINKS.keys() - {"TEMPERANCE_PORT"})
    assert "enableServiceLinks: false" in links
    (shared,) = [line for line in lines if "PROMETHEUS_MULTIPROC_DIR" in line]
    assert "is ignored" in shared
    assert "10.0.0.1" not in "\n".join(lines)
    assert "/nowhere" not in "\n".join(lines)


def test_the_port_of_a_service_is_not_listened_on(repository: Repository, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    command = [str(TEMPERANCE), "doctor", "--models", str(repository.root), "--json"]
    environment = clean | LINKS | {"TEMPERANCE_DATA": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "127.0.0.1 port 8000" in ended.stdout
    assert "variables that Kubernetes sets: TEMPERANCE_API_SERVICE_PORT_HTTP, TEMPERANCE_PORT, " in ended.stdout
    assert ended.stderr == ""


def test_a_model_without_stable_is_stated_at_the_start(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_models(repository, load_registry(repository))
    assert logged(caplog) == []
    (repository.root / "breast-cancer" / "aliases.toml").write_text("candidate = 1\n")
    warn_of_models(repository, load_registry(repository))
    (line,) = logged(caplog)
    assert line.startswith("breast-cancer has no alias 'stable', so requests that name no version are 404")
    assert "temperance alias breast-cancer stable VERSION" in line


def test_a_data_folder_that_cannot_be_written_to_is_stated_and_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir("/proc")  # where not even root can write
    check_settings(Settings(), Sources())
    (line,) = logged(caplog)
    assert line.startswith("the data folder .temperance cannot be written to (")
    caplog.clear()
    monkeypatch.chdir(tmp_path)
    check_settings(Settings(), Sources())
    assert logged(caplog) == []
    assert list(tmp_path.iterdir()) == []  # it is made on first use


def test_a_data_folder_that_is_named_and_cannot_be_made_stops_the_start() -> None:
    with pytest.raises(SettingsInvalid, match=r"^the data folder /proc/data cannot be made: .*TEMPERANCE_DATA"):
        check_settings(Settings(data=Path("/proc/data")), Sources(variables=frozenset({"data"})))


def test_where_a_folder_would_be_made_is_found(tmp_path: Path) -> None:
    assert writable_place(tmp_path / "one" / "two") == tmp_path
    assert writable_place(tmp_path) == tmp_path
    with pytest.raises(OSError, match="Not a directory"):
        writable_place(Path("/dev/null/one"))


ISSUERS = '[{"issuer": "https://id.example", "audience": "a", "jwks_url": "https://id.example/keys"}]'


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"TEMPERANCE_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-17"},
            "TEMPERANCE_OTLP_ENDPOINT: OpenTelemetry cannot use the value of OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        ),
        (
            {"TEMPERANCE_JWT_ISSUERS": ISSUERS, "SSL_CERT_FILE": "/nowhere/-17"},
            "TEMPERANCE_JWT_ISSUERS: the authorities that SSL_CERT_FILE and SSL_CERT_DIR name cannot be read",
        ),
    ],
    ids=["a collector", "issuers"],
)
def test_what_a_worker_would_meet_in_other_programs_variables_is_met_before_one_is_started(
    variables: dict[str, str], expected: str, repository: Repository, tmp_path: Path
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPERANCE_", "OTEL_"))}
    command = [str(TEMPERANCE), "serve", "--models", str(repository.root), "--port", "0", "--workers", "2"]
    environment = clean | variables | {"TEMPERANCE_DATA": str(tmp_path), "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line.startswith(f"temperance: {expected}")
    assert line.endswith(" (from the environment)")
    assert "listening on" not in ended.stderr
    assert "-17" not in ended.stderr
