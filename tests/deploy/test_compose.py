"""docker-compose.yml, read without an engine: its form, limits, health checks, secrets and networks."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from service.cli.main import VERBS
from service.settings import PREFIX, Settings
from service.stuck_runs import GRACE_SECONDS
from tests.deploy.engine import DOCKERFILE, ROOT

COMPOSE: Final = ROOT / "docker-compose.yml"
CONTENT: Final[dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = CONTENT["services"]
OWN: Final = sorted(name for name, service in SERVICES.items() if service["image"] == "temperance")
TOOLS: Final = ["audit", "keys"]
SERVERS: Final = sorted(set(OWN) - set(TOOLS))
LONG_LIVED: Final = sorted(set(SERVICES) - set(TOOLS))
HALF_SENT: Final = 2.0
"""Seconds that a body which has not arrived is given at the end."""


def image_environment() -> dict[str, str]:
    """What the image sets."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text(encoding="utf-8"))
    lines = [line.removeprefix("ENV ") for line in text.splitlines() if line.startswith("ENV ")]
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


def mounts(service: str) -> dict[str, str]:
    """What is mounted, by the place in the container; `:ro` stays with what."""
    split = [mount.rsplit(":", 2) if mount.endswith(":ro") else mount.rsplit(":", 1) for mount in _volumes(service)]
    return {parts[1]: ":".join([parts[0], *parts[2:]]) for parts in split}


def _volumes(service: str) -> list[str]:
    found: list[str] = SERVICES[service]["volumes"]
    return found


def test_the_file_fits_the_schema_of_compose() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_two_replicas_differ_in_their_data_folder_alone() -> None:
    one, two = ({**SERVICES[f"temperance-{number}"]} for number in (1, 2))
    first, second = one.pop("volumes"), two.pop("volumes")
    assert one == two
    assert [mount for mount in first if mount not in second] == ["data-1:/data"]
    assert [mount for mount in second if mount not in first] == ["data-2:/data"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_limits_and_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert 0 < service["cpus"] <= 1.0  # an engine refuses more processors than its machine has
    assert service["pids_limit"] > 0
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"}


@pytest.mark.parametrize("name", LONG_LIVED)
def test_what_runs_on_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_keeps_the_images_health_check_user_and_command(name: str) -> None:
    (rest,) = re.findall(r"^HEALTHCHECK (.*) CMD ", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    times = {key.replace("-", "_"): value for key, value in re.findall(r"--([\w-]+)=(\S+)", rest)}
    declared = {key: str(value) for key, value in SERVICES[name]["healthcheck"].items()}
    assert declared == times
    assert not SERVICES[name].keys() & {"user", "command", "entrypoint"}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_time_to_end_before_it_is_killed(name: str) -> None:
    seconds = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    drain = float(image_environment()["TEMPERANCE_DRAIN_SECONDS"])
    assert seconds > drain + Settings.model_fields["deadline"].default + HALF_SENT + GRACE_SECONDS


@pytest.mark.parametrize("name", OWN)
def test_our_containers_are_built_of_our_dockerfile_with_settings_that_exist(name: str) -> None:
    assert SERVICES[name]["build"] == {"context": ".", "dockerfile": DOCKERFILE.relative_to(ROOT).as_posix()}
    own = {key.removeprefix(PREFIX).lower() for key in SERVICES[name]["environment"]}
    assert own <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_reads_models_and_keys_and_writes_its_data_folder(name: str) -> None:
    image = image_environment()
    found = mounts(name)
    assert found[image["TEMPERANCE_MODELS"]] == "${MODELS:-./models}:ro"
    assert found[str(Path(SERVICES[name]["environment"]["TEMPERANCE_KEYS"]).parent)] == "keys:ro"
    assert re.fullmatch(r"data-\w+", found[image["TEMPERANCE_DATA"]])
    assert SERVICES[name]["tmpfs"] == ["/tmp"]  # noqa: S108  # the one other place that it may write


def test_replicas_share_the_store_and_the_secrets_of_the_record() -> None:
    replica, tool = SERVICES["temperance-1"], SERVICES["audit"]
    for name in ("TEMPERANCE_STORE", "TEMPERANCE_STORE_PASSWORD_FILE", "TEMPERANCE_SECRETS"):
        assert replica["environment"][name] == tool["environment"][name]
    assert replica["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres-password"  # noqa: S105  # a path


def test_passwords_are_files_and_none_has_a_default() -> None:
    assert CONTENT["secrets"] == {
        name: {"file": f"./secrets/{name}"} for name in ("postgres-password", "grafana-password")
    }
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", key):
                assert value.startswith(("/run/secrets/", "/keys/"))
            assert not re.search(r"://[^/@]*:[^/@]*@", value)


def test_a_secret_reaches_only_the_containers_that_need_it() -> None:
    holders = {name: service.get("secrets", []) for name, service in SERVICES.items() if "secrets" in service}
    database = ["postgres-password"]
    assert holders == {
        **dict.fromkeys(("temperance-1", "temperance-2", "postgres", "audit"), database),
        "grafana": ["grafana-password"],
    }
    assert {"/secrets/", "/backup/"} <= set((ROOT / ".gitignore").read_text(encoding="utf-8").splitlines())


def test_every_port_is_published_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "haproxy": ["127.0.0.1:${HTTP_PORT:-8000}:8000"],
        "prometheus": ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
        "lite": [f"127.0.0.1:${{HTTP_PORT:-8000}}:{image_environment()['PORT']}"],
    }


def test_replicas_and_database_have_no_way_out_and_meet_whom_they_need() -> None:
    assert CONTENT["networks"] == {"public": None, "serving": {"internal": True}, "record": {"internal": True}}
    joined = {name: set(service.get("networks", [])) for name, service in SERVICES.items()}
    assert joined["temperance-1"] == {"serving", "record"}
    assert joined["postgres"] == joined["audit"] == {"record"}
    assert joined["haproxy"] == joined["prometheus"] == {"public", "serving"}
    assert joined["grafana"] == joined["lite"] == {"public"}
    assert joined.keys() - {name for name, found in joined.items() if found} == {"keys"}  # none joins the default one
    assert SERVICES["keys"]["network_mode"] == "none"


@pytest.mark.parametrize("name", TOOLS)
def test_tools_start_only_on_request_and_serve_nothing(name: str) -> None:
    tool = SERVICES[name]
    assert tool["profiles"] == ["tools"]
    assert tool["entrypoint"] == ["temperance", name]
    assert name in VERBS
    assert "ports" not in tool
    assert mounts(name)["/keys"] == "keys"


def test_lite_needs_neither_a_database_nor_a_password() -> None:
    lite = SERVICES["lite"]
    assert lite["profiles"] == ["lite"]
    assert not lite.keys() & {"secrets", "depends_on"}
    assert lite["environment"].keys() == {"TEMPERANCE_KEYS"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(OWN)))
def test_images_of_others_are_official_and_named_by_a_release(name: str) -> None:
    repository, _, tag = SERVICES[name]["image"].partition(":")
    assert repository in {"haproxy", "postgres", "prom/prometheus", "grafana/grafana"}
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag)


def test_the_file_names_no_registry_and_no_place_of_one_machine() -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S+", text) == []
    assert re.findall(r"(?:/home|/root|/work|/Users|registry\.)", text) == []


def test_the_first_lines_of_the_file_are_the_first_run_of_the_guide() -> None:
    head = COMPOSE.read_text(encoding="utf-8").partition("x-limits:")[0]
    commands = [line.removeprefix("#   ") for line in head.splitlines() if line.startswith("#   ")]
    guide = (ROOT / "docs" / "guide" / "stack.md").read_text(encoding="utf-8")
    assert len(commands) == 7
    for command in commands:
        assert command.replace("NAME", "ehr") in guide
