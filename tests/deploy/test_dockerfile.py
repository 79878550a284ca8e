"""What deploy/Dockerfile and its parts are, read and linted; tests/deploy/test_image.py runs what they make."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service.cli.main import VERBS
from service.settings import PREFIX, Settings
from service.stuck_runs import GRACE_SECONDS
from tests.deploy.dockerfile import Stage, joined, stages
from tests.deploy.engine import DOCKERFILE, OFFICIAL, ROOT
from tests.shipped_model import SHIPPED

IGNORED = ROOT / ".dockerignore"
LOCK = ROOT / "requirements.lock"
PRUNE = ROOT / "deploy" / "prune.py"
LOCKED = re.compile(r"[a-z0-9._-]+==\S+( ;.*)?( --hash=sha256:[0-9a-f]{64})+")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def build() -> Stage:
    return stages()["build"]


@pytest.fixture(scope="module")
def serving() -> Stage:
    return stages()["serving"]


def test_every_stage_starts_from_the_python_that_the_lock_was_made_for() -> None:
    assert joined(DOCKERFILE)[0] == f"ARG PYTHON_IMAGE={OFFICIAL}"
    assert {name: stage.base for name, stage in stages().items()} == {
        "build": "${PYTHON_IMAGE}",
        "serving": "${PYTHON_IMAGE}",
        "demo": "serving",
        "default": "serving",
    }
    assert "--python-version 3.11 " in LOCK.read_text(encoding="utf-8")


def test_hadolint_finds_nothing() -> None:
    lint = [Path(sys.executable).with_name("hadolint"), DOCKERFILE]
    done = subprocess.run(lint, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_pip_installs_the_lock_by_hash_and_the_package_alone(build: Stage) -> None:
    steps = [step.strip() for rest in build.every("RUN") for step in rest.split("&&")]
    assert [step for step in steps if "install" in step.split()] == [
        "pip install --quiet --require-hashes -r requirements.lock",
        "pip install --quiet --no-deps --no-build-isolation .",
    ]
    assert {step.split()[0] for step in steps} == {"pip", "python", "find", "mkdir"}
    assert build.every("ADD") == []


def test_every_requirement_in_the_lock_has_one_version_and_a_hash() -> None:
    entries = joined(LOCK)
    assert len(entries) > 20
    assert [entry for entry in entries if not LOCKED.fullmatch(entry)] == []


def test_the_build_context_holds_what_is_copied_and_nothing_by_default() -> None:
    patterns = [line for line in IGNORED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    copies = [rest for stage in stages().values() for rest in stage.every("COPY") if "--from" not in rest]
    copied = {source for rest in copies for source in rest.split()[:-1]}
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert {"models/*/draft", "**/__pycache__"} <= set(patterns)


def test_what_serves_runs_nothing_and_copies_only_the_installation_and_empty_folders(
    build: Stage, serving: Stage
) -> None:
    assert serving.every("RUN") == []
    assert serving.every("COPY") == [
        "--from=build /opt/temperance /opt/temperance",
        "--from=build --chown=10001:10001 /data /data",
        "--from=build --chown=10001:10001 /keys /keys",
    ]
    assert "mkdir /data /keys" in build.every("RUN")


def test_models_are_in_the_demonstration_alone() -> None:
    assert stages()["demo"].instructions == (("COPY", "models /mnt/models"),)
    assert stages()["default"].instructions == ()


def test_the_process_is_an_unprivileged_user_known_by_number(serving: Stage) -> None:
    assert serving.every("USER") == ["10001:10001"]


def test_the_command_is_the_packages_own_and_needs_no_shell(serving: Stage) -> None:
    (rest,) = serving.every("CMD")
    program, *arguments = json.loads(rest)
    assert program in PROJECT["scripts"]
    assert arguments == ["serve"]
    assert "serve" in VERBS
    assert serving.every("ENTRYPOINT") == []


def test_the_image_sets_settings_that_exist_and_switches_telemetry_off(serving: Stage) -> None:
    variables = serving.pairs("ENV")
    set_here = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items() if PREFIX in name}
    assert set_here == {
        "host": "0.0.0.0",  # noqa: S104  # a container's own
        "models": "/mnt/models",
        "data": "/data",
        "drain_seconds": "5",
    }
    assert set_here.keys() <= Settings.model_fields.keys()
    assert variables["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_port_is_the_conventional_one_and_a_platform_can_set_another(serving: Stage) -> None:
    assert serving.pairs("ENV")["PORT"] == "8080"
    assert serving.every("EXPOSE") == ["8080"]


def test_the_health_check_needs_no_shell_and_runs_often_enough_to_follow_the_drain(serving: Stage) -> None:
    (rest,) = serving.every("HEALTHCHECK")
    times, _, command = rest.partition(" CMD ")
    assert json.loads(command) == ["python", "-m", "service.health_check"]
    assert dict(re.findall(r"--([\w-]+)=(\S+)", times))["interval"] == "5s"


def test_the_labels_are_those_of_the_project(serving: Stage) -> None:
    labels = {name.rpartition(".")[2]: value for name, value in serving.pairs("LABEL").items()}
    assert labels["title"] == PROJECT["name"]
    assert labels["licenses"] == PROJECT["license"]
    assert serving.pairs("ARG")["VERSION"] == PROJECT["version"]
    assert {name: labels[name] for name in ("version", "revision", "source")} == {
        "version": "${VERSION}",
        "revision": "${REVISION}",
        "source": "${SOURCE}",
    }


def test_the_grace_that_the_file_states_is_longer_than_the_end_of_the_service(serving: Stage) -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    (ended,) = re.findall(r"TEMPERANCE_DRAIN_SECONDS \+ TEMPERANCE_DEADLINE \+ 2 seconds after it: (\d+),", text)
    (grace,) = re.findall(r"--stop-timeout (\d+)", text)
    half_sent = 2.0  # seconds more for a body that has not arrived
    end = (
        float(serving.pairs("ENV")["TEMPERANCE_DRAIN_SECONDS"]) + Settings.model_fields["deadline"].default + half_sent
    )
    assert float(ended) == end
    assert float(grace) > end + GRACE_SECONDS
    assert serving.every("STOPSIGNAL") == ["SIGTERM"]


def started_as_in_the_image(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`temperance` with the image's settings, with folders of this machine in the place of its own."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    image = {key: value for key, value in stages()["serving"].pairs("ENV").items() if key.startswith(PREFIX)}
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


@pytest.mark.parametrize("path", [DOCKERFILE, IGNORED, PRUNE], ids=lambda path: path.name)
def test_a_file_of_the_image_names_no_registry_and_no_place_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S+", text) == []
    assert re.findall(r"(?:/home|/root|/work|/Users|index-url|find-links|registry\.|syntax=)", text) == []
