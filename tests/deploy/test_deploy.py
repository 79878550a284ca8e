"""Promises of the container files, checked without a container engine."""

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service.cli.main import VERBS
from service.settings import PREFIX, Settings
from tests.certificates import Pair, make_pair
from tests.conftest import Server
from tests.shipped_model import SHIPPED

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
IGNORED = ROOT / ".dockerignore"
LOCK = ROOT / "requirements.lock"
LOCKED = re.compile(r"[a-z0-9._-]+==\S+( ;.*)?( --hash=sha256:[0-9a-f]{64})+")


def joined(text: str) -> list[str]:
    """Lines without comments and empty ones, continued lines put together."""
    kept = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return re.sub(r"\s*\\\n\s*", " ", kept).splitlines()


def stages() -> list[list[tuple[str, str]]]:
    """Instructions of the Dockerfile by stage, each as its word and the rest."""
    found: list[list[tuple[str, str]]] = []
    for line in joined(DOCKERFILE.read_text(encoding="utf-8")):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def every(word: str) -> list[str]:
    return [rest for stage in stages() for name, rest in stage if name == word]


def final(word: str) -> list[str]:
    return [rest for name, rest in stages()[-1] if name == word]


def environment() -> dict[str, str]:
    """What the last stage sets."""
    return dict(pair.split("=", 1) for rest in final("ENV") for pair in shlex.split(rest))


def health_command() -> list[str]:
    (rest,) = final("HEALTHCHECK")
    command: list[str] = json.loads(rest.split(" CMD ", 1)[1])
    return command


def check_health(port: int, **variables: str) -> int:
    """Exit code of the image's health check against a port of this machine."""
    interpreter, *arguments = health_command()
    assert interpreter == "python"
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, f"{PREFIX}PORT": str(port), **variables},
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=30,
    )
    return done.returncode


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
            self.send_header("Content-Length", "0")
            self.end_headers()

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


def test_every_stage_starts_from_the_python_that_the_lock_was_made_for() -> None:
    names = {rest.split()[0] for rest in every("FROM")}
    assert names == {"python:3.11-slim"}
    assert "--python-version 3.11 " in LOCK.read_text(encoding="utf-8")


def test_pip_installs_the_lock_by_hash_and_the_package_alone() -> None:
    steps = [step.strip() for rest in every("RUN") for step in rest.split("&&")]
    assert [step for step in steps if "install" in step.split()] == [
        "pip install --require-hashes -r requirements.lock",
        "pip install --no-deps --no-build-isolation .",
    ]
    assert {step.split()[0] for step in steps} == {"pip", "python", "mkdir"}
    assert every("ADD") == []


def test_every_requirement_in_the_lock_has_one_version_and_a_hash() -> None:
    entries = joined(LOCK.read_text(encoding="utf-8"))
    assert len(entries) > 20
    assert [entry for entry in entries if not LOCKED.fullmatch(entry)] == []


def test_the_build_context_holds_what_is_copied_and_nothing_by_default() -> None:
    patterns = [line for line in IGNORED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    copied = {source for rest in every("COPY") if "--from" not in rest for source in rest.split()[:-1]}
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert {"models/*/draft", "**/__pycache__"} <= set(patterns)


def test_the_last_stage_runs_nothing_and_copies_only_environment_models_and_empty_folders() -> None:
    assert final("RUN") == []
    assert final("COPY") == [
        "--from=build /opt/temperance /opt/temperance",
        "models /models",
        "--from=build --chown=10001:10001 /data /data",
        "--from=build --chown=10001:10001 /keys /keys",
    ]
    assert "mkdir /data /keys" in every("RUN")


def test_the_process_is_an_unprivileged_user_known_by_number() -> None:
    (user,) = final("USER")
    assert user.split(":")[0] == "10001"


def test_the_command_is_the_packages_own_and_needs_no_shell() -> None:
    (rest,) = final("CMD")
    program, *arguments = json.loads(rest)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert program in scripts
    assert arguments == ["serve"]
    assert "serve" in VERBS
    assert final("ENTRYPOINT") == []


def test_the_image_sets_settings_that_exist_and_switches_telemetry_off() -> None:
    variables = environment()
    set_here = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items() if PREFIX in name}
    own = {"host": "0.0.0.0", "port": "8000"}  # noqa: S104  # a container's own
    assert set_here == own | {"models": "/models", "data": "/data", "drain_seconds": "5"}
    assert set_here.keys() <= Settings.model_fields.keys()
    assert variables["ORT_DISABLE_TELEMETRY"] == "1"


def test_one_port_is_set_and_exposed() -> None:
    port = environment()["TEMPERANCE_PORT"]
    assert final("EXPOSE") == [port]


def test_the_health_check_passes_on_a_server_that_is_ready(server: Server) -> None:
    assert check_health(port_of(server)) == 0


def test_the_health_check_asks_no_proxy(server: Server) -> None:
    assert check_health(port_of(server), http_proxy="http://127.0.0.1:9", no_proxy="") == 0


@pytest.mark.parametrize("status", [404, 500, 503])
def test_the_health_check_fails_on_any_other_answer_of_readyz(status: int) -> None:
    with answering(status) as port:
        assert check_health(port) == 1


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_follows_the_service_to_tls(tmp_path: Path, status: int, code: int) -> None:
    pair = make_pair(tmp_path, "of-another-host")
    with answering(status, pair) as port:
        assert check_health(port, TEMPERANCE_SSL_CERTFILE=str(pair.certificate)) == code


def test_the_health_check_fails_where_nothing_listens() -> None:
    with answering(200) as port:
        assert check_health(port) == 0
    assert check_health(port) == 1


def started_as_in_the_image(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`temperance` with the image's settings, with folders of this machine in the place of its own."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    image = {key: value for key, value in environment().items() if key.startswith(PREFIX)}
    places = {f"{PREFIX}MODELS": str(SHIPPED), f"{PREFIX}DATA": str(folder / "data")}
    return subprocess.run(
        [Path(sys.executable).with_name("temperance"), *arguments],
        env=own | image | places | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_image_does_not_start_without_a_credential_and_says_how_to_make_one(tmp_path: Path) -> None:
    done = started_as_in_the_image(tmp_path, "serve")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert f"temperance keys create --name NAME --scopes predict --keys {tmp_path}/data/keys.json" in line


def test_compose_without_a_key_stops_with_the_command_that_makes_one(tmp_path: Path) -> None:
    keys = tmp_path / "keys" / "keys.json"
    done = started_as_in_the_image(tmp_path, "serve", TEMPERANCE_KEYS=str(keys))
    (line,) = done.stderr.splitlines()
    assert f"there is no file {keys}" in line
    assert "docker compose run --rm keys create --name NAME" in line
    made = started_as_in_the_image(tmp_path, "keys", "create", "--name", "ehr", TEMPERANCE_KEYS=str(keys))
    assert made.returncode == 0
    assert keys.exists()


def test_compose_with_no_key_but_a_revoked_one_stops_with_the_same_command(tmp_path: Path) -> None:
    keys = str(tmp_path / "keys" / "keys.json")
    for arguments in (("create", "--name", "ehr"), ("revoke", "ehr")):
        assert started_as_in_the_image(tmp_path, "keys", *arguments, TEMPERANCE_KEYS=keys).returncode == 0
    done = started_as_in_the_image(tmp_path, "serve", TEMPERANCE_KEYS=keys)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert f"no key in {keys} is usable" in line
    assert "docker compose run --rm keys create --name NAME" in line


@pytest.mark.parametrize("path", [DOCKERFILE, IGNORED], ids=lambda path: path.name)
def test_a_container_file_names_no_registry_and_no_place_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S+", text) == []
    assert re.findall(r"(?:/home|/root|/work|/Users|index-url|find-links|registry\.|syntax=)", text) == []
