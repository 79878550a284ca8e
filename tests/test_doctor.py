"""What `temperance doctor` finds: each fault that it looks for, made for real."""

import ipaddress
import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import CliRunner, Result

from service.bundle.repository import Repository
from service.cli.main import command
from service.doctor import CHECKS, Finding, examine
from service.runtime import session
from service.settings import Issuer, Settings
from tests.documents import first_cells, reference, section

ISSUER = Issuer(issuer="https://id.example", audience="temperance", jwks_url="https://id.example/keys")
EVERYWHERE = str(ipaddress.IPv4Address(0))


@pytest.fixture
def settings(repository: Repository, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a service that could start, and what else is given."""

    def make(**given: Any) -> Settings:
        usual: dict[str, Any] = {"models": repository.root, "data": tmp_path / "data", "port": free_port()}
        return Settings(**usual | given)

    return make


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def found(settings: Settings, check: str) -> list[Finding]:
    findings = [finding for finding in examine(settings) if finding.check == check]
    assert findings or check in {"TLS", "secrets", "repository", "user"}
    return findings


def states(settings: Settings, check: str) -> set[str]:
    return {finding.state for finding in found(settings, check)}


def test_a_machine_that_can_run_the_service_has_no_failed_check(settings: Callable[..., Settings]) -> None:
    findings = list(examine(settings()))
    assert [finding for finding in findings if finding.state == "failed"] == []
    assert {finding.check for finding in findings} >= {"versions", "onnxruntime", "models", "clock", "port", "access"}


def test_every_finding_that_is_not_ok_says_what_to_do(settings: Callable[..., Settings]) -> None:
    worst = settings(host=EVERYWHERE, insecure=True, metrics_open=True, docs_open=True, models=Path("/nowhere"))
    findings = [finding for finding in examine(worst) if finding.state != "ok"]
    assert len(findings) >= 5
    assert all(finding.advice for finding in findings)


def test_versions_name_what_answers_depend_on(settings: Callable[..., Settings]) -> None:
    (finding,) = found(settings(), "versions")
    assert all(name in finding.detail for name in ("Python", "temperance", "numpy", "onnxruntime"))
    assert f"SQLite {apsw.sqlite_lib_version()}" in finding.detail  # the one that keeps the record


def test_a_runtime_that_answers_wrongly_is_seen(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = session.Session.run
    monkeypatch.setattr(session.Session, "run", lambda *given, **named: right(*given, **named) + 1.0)
    assert states(settings(models=Path("/nowhere")), "onnxruntime") == {"failed"}


def test_a_damaged_model_is_seen(settings: Callable[..., Settings], repository: Repository) -> None:
    (repository.root / "breast-cancer" / "1" / "calibration.json").write_text("{}")
    (finding,) = found(settings(), "models")
    assert finding.state == "failed"
    assert "breast-cancer" in finding.detail


def test_a_folder_that_cannot_be_written_to_is_seen(settings: Callable[..., Settings]) -> None:
    assert states(settings(data=Path("/proc/temperance")), "data folder") == {"failed"}


@pytest.mark.parametrize(
    ("limits", "state", "says"),
    [((512, 512), "warning", "512 may"), ((512, 4096), "ok", "raises that to 4096"), ((4096, -1), "ok", "4096 may")],
)
def test_few_open_files_are_seen(
    settings: Callable[..., Settings],
    limits: tuple[int, int],
    state: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    (finding,) = found(settings(), "open files")
    assert finding.state == state
    assert says in finding.detail


def test_variables_that_count_for_nothing_are_stated(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPERANCE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    valid, *ignored = found(settings(), "settings")
    assert valid.state == "ok"
    assert [finding.state for finding in ignored] == ["warning", "warning"]
    assert "TEMPERANCE_SERVICE_HOST" in ignored[0].detail
    assert "PROMETHEUS_MULTIPROC_DIR" in ignored[1].detail


def test_a_model_without_stable_is_seen(settings: Callable[..., Settings], repository: Repository) -> None:
    assert not any(finding.check == "aliases" for finding in examine(settings()))
    (repository.root / "breast-cancer" / "aliases.toml").write_text("candidate = 1\n")
    (finding,) = found(settings(), "aliases")
    assert finding.state == "warning"
    assert "breast-cancer has no alias 'stable'" in finding.detail


def test_a_refused_model_is_seen_where_it_does_not_stop_the_start(
    settings: Callable[..., Settings], repository: Repository
) -> None:
    (repository.root / "breast-cancer" / "1" / "calibration.json").write_text("{}")
    served, refused = found(settings(strict_start=False), "models")
    assert (served.state, refused.state) == ("ok", "warning")
    assert refused.detail.startswith("breast-cancer is refused: ")


def test_more_threads_than_processors_are_seen(settings: Callable[..., Settings]) -> None:
    assert states(settings(workers=256), "processors") == {"warning"}


def test_a_port_in_use_is_seen(settings: Callable[..., Settings]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert states(settings(port=other.getsockname()[1]), "port") == {"warning"}
    assert states(settings(), "port") == {"ok"}


def test_a_socket_in_a_folder_that_is_writable_is_fine(settings: Callable[..., Settings], tmp_path: Path) -> None:
    assert states(settings(uds=tmp_path / "temperance.sock"), "socket") == {"ok"}


def test_where_traces_go_is_stated(settings: Callable[..., Settings]) -> None:
    (finding,) = found(settings(otlp_endpoint="http://collector:4318"), "telemetry")
    assert finding.detail.endswith("http://collector:4318")


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, "ok"),
        ({"host": "::1"}, "ok"),
        ({"host": "localhost"}, "ok"),
        ({"host": EVERYWHERE}, "failed"),
        ({"host": "::"}, "failed"),
        ({"host": "service.example"}, "failed"),
        ({"host": EVERYWHERE, "insecure": True}, "warning"),
        ({"host": EVERYWHERE, "client_certificate_header": "X-Subject", "proxies": ("10.0.0.1",)}, "ok"),
    ],
)
def test_access_without_a_credential_is_fine_on_this_machine_alone(
    settings: Callable[..., Settings], given: dict[str, Any], state: str
) -> None:
    assert states(settings(**given), "access") == {state}


def test_what_is_exposed_beyond_this_machine_is_seen(settings: Callable[..., Settings], tmp_path: Path) -> None:
    exposed = settings(host=EVERYWHERE, metrics_open=True, docs_open=True, jwt_issuers=(ISSUER,))
    assert states(exposed, "TLS") == {"warning"}
    assert len(found(exposed, "access")) == 3
    assert found(settings(host=EVERYWHERE, ssl_certfile=tmp_path / "certificate.pem"), "TLS") == []


def test_a_file_of_keys_that_others_can_read_is_seen(settings: Callable[..., Settings], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    assert found(settings(keys=keys), "secrets") == []
    keys.chmod(0o640)
    assert states(settings(keys=keys), "secrets") == {"warning"}


def test_a_repository_that_the_service_could_change_is_seen(settings: Callable[..., Settings]) -> None:
    assert states(settings(), "repository") == {"warning"}
    assert (found(settings(), "user") == []) == (os.geteuid() != 0)


@contextmanager
def only(**variables: str) -> Iterator[None]:
    """The environment with no other settings; the verb adds its flags to it."""
    before = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith("TEMPERANCE_")]:
            del os.environ[name]
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def doctor(*flags: object, **variables: str) -> Result:
    with only(**variables):
        return CliRunner().invoke(command, ["doctor", *map(str, flags)])


def test_the_command_ends_with_0_where_nothing_failed(repository: Repository) -> None:
    ended = doctor("--models", repository.root, "--port", free_port())
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith("ok       versions")


def test_the_command_ends_with_1_where_a_check_failed(tmp_path: Path) -> None:
    ended = doctor("--models", tmp_path, "--json")
    assert ended.exit_code == 1
    failed = [finding for finding in json.loads(ended.output)["findings"] if finding["state"] == "failed"]
    assert [finding["check"] for finding in failed] == ["models"]


def test_settings_that_cannot_be_read_are_a_finding() -> None:
    ended = doctor("--json", TEMPERANCE_PORT="many")
    assert ended.exit_code == 1
    (finding,) = json.loads(ended.output)["findings"]
    assert (finding["check"], finding["state"]) == ("settings", "failed")
    assert "TEMPERANCE_PORT" in finding["detail"]


def test_every_check_is_documented(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "keys.json").touch(mode=0o644)
    many = settings(host=EVERYWHERE, keys=tmp_path / "keys.json"), settings(uds=tmp_path / "socket")
    names = {finding.check for one in many for finding in examine(one)}
    documented = first_cells(section(reference("command"), "temperance doctor"))
    assert names <= documented
    assert len(CHECKS) > 10
