"""The image, built and run by a real Docker Engine."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.main import VERBS
from tests.cli.test_extras import OFFLINE, UNAVAILABLE
from tests.deploy.container import HARDENED, Container, Load, running
from tests.deploy.engine import ROOT, Docker, Engine
from tests.shipped_model import NAME, SHIPPED

LARGEST = 200e6
"""Bytes of ours; 188 million were measured."""
DECIDE = f"/v1/models/{NAME}:decide"
OPEN = "--env=TEMPERANCE_INSECURE=true"
PART = "/opt/temperance"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one shipped model, which any user can read."""
    folder = tmp_path_factory.mktemp("mounted") / "models"
    shutil.copytree(SHIPPED / NAME, folder / NAME)
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def mounted(models: Path) -> str:
    """The option that mounts it."""
    return f"--volume={models}:/mnt/models:ro"


@dataclass(frozen=True, slots=True)
class Started:
    """A container, and the seconds from its start until it was healthy."""

    container: Container
    seconds: float


@pytest.fixture(scope="module")
def started(docker: Docker, image: str, mounted: str) -> Iterator[Started]:
    """A healthy container that can do as little as possible."""
    with running(docker, image, *HARDENED, "--volume=/data", "--restart=unless-stopped", mounted, OPEN) as container:
        yield Started(container, container.wait_until_healthy())


@pytest.fixture
def hardened(started: Started) -> Container:
    """The same."""
    return started.container


@pytest.fixture(scope="module")
def body(server: Any) -> dict[str, Any]:
    """A request to decide on one row."""
    names = [entry["name"] for entry in server.client.get(f"/v1/models/{NAME}").json()["inputs"][0]["features"]]
    return {"instances": [dict.fromkeys(names, 1.0)]}


def shell(docker: Docker, image: str, script: str) -> str:
    """Standard output of a script that reads all files of an image."""
    return docker("run", "--rm", "--user=0", "--entrypoint=sh", image, "-c", script)


def test_our_part_is_small_and_holds_nothing_that_only_offline_work_needs(docker: Docker, image: str) -> None:
    size, *packages = shell(
        docker,
        image,
        f"du --summarize --apparent-size --bytes {PART} | cut -f1; ls {PART}/lib/python3.11/site-packages",
    ).splitlines()
    assert float(size) <= LARGEST
    assert "onnxruntime" in packages
    assert set(packages).isdisjoint({*OFFLINE, "ml_dtypes", "pip", "setuptools"})


def test_no_secret_no_test_no_model_and_no_recipe_is_in_the_image(docker: Docker, image: str) -> None:
    found = shell(docker, image, f"find {PART} /data /keys /mnt /srv /home /root /tmp -type f").splitlines()
    assert len(found) > 1000
    suffixes = (".key", ".onnx", ".db", ".csv", ".ipynb", ".lock")
    names = ("keys.json", "secrets.json", "recipe.py", "conftest.py", ".env", ".netrc", "pip.conf", "Dockerfile")
    assert [path for path in found if path.endswith(suffixes) or Path(path).name in names] == []
    assert [path for path in found if "/tests/" in path or "/.git" in path] == []


def test_no_build_argument_or_variable_of_a_build_holds_a_credential(docker: Docker, image: str) -> None:
    config = json.loads(docker("inspect", "--format={{json .Config}}", image))
    assert [
        entry for entry in config["Env"] if any(word in entry.upper() for word in ("TOKEN", "PASSW", "SECRET"))
    ] == []
    history = docker("history", "--no-trunc", "--format={{.CreatedBy}}", image)
    assert "index-url" not in history


def test_the_image_says_what_it_is(docker: Docker, engine: Engine) -> None:
    arguments = {"VERSION": "9.8.7", "REVISION": "0" * 40, "SOURCE": "https://code.example/temperance"}
    with engine.temperance(**arguments) as tag:
        config = json.loads(docker("inspect", "--format={{json .Config}}", tag))
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["title"] == "temperance"
    assert labels["licenses"] == "Apache-2.0"
    assert [labels[name.lower()] for name in arguments] == list(arguments.values())
    assert (config["StopSignal"], config["User"]) == ("SIGTERM", "10001:10001")


def test_a_container_becomes_healthy_soon(started: Started) -> None:
    assert started.seconds < 60  # 6 were measured on an idle machine: the engine looks every 5


def test_a_hardened_container_answers_and_keeps_the_record(hardened: Container, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{hardened.url}{DECIDE}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    prediction = answer.json()["predictions"][0]["prediction_id"]
    assert prediction in hardened.run("temperance", "audit", "show", prediction)
    assert "audit.db" in hardened.run("ls", "/data")


def test_its_process_has_no_rights(hardened: Container) -> None:
    status = dict(line.split(":\t", 1) for line in hardened.run("cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_it_takes_a_part_of_its_memory(hardened: Container) -> None:
    used = int(hardened.run("cat", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes"))
    assert used < 512 << 20
    assert hardened.state["OOMKilled"] is False


@pytest.mark.parametrize("place", ["/etc/x", "/opt/temperance/x", "/mnt/x", "/keys/x", "/mnt/models/x"])
def test_its_file_system_cannot_be_written_to(hardened: Container, place: str) -> None:
    done = hardened.docker.result("exec", hardened.name, "touch", place)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_nothing_is_written_but_data_and_temporary_files_where_more_could_be(
    docker: Docker, image: str, mounted: str, body: dict[str, Any]
) -> None:
    # On a port that a platform sets: the health check follows it.
    with running(docker, image, "--env=PORT=9123", mounted, OPEN, port=9123) as container:
        container.wait_until_healthy()
        assert httpx.post(f"{container.url}{DECIDE}", json=body, timeout=30).status_code == 200
        changed = [line.split(maxsplit=1)[1] for line in docker("diff", container.name).splitlines()]
    written = [path for path in changed if not path.startswith(("/data", "/tmp"))]  # noqa: S108
    assert [path for path in written if path not in {"/mnt", "/mnt/models"}] == []  # where the mount was made
    assert "/data/audit.db" in changed


def test_the_command_lists_every_verb_and_which_of_them_need_more(hardened: Container) -> None:
    listed = hardened.run("temperance", "--help").partition("Commands:")[2]
    lines = dict(re.findall(r"^  (\w+) +(.+)$", listed, re.MULTILINE))
    assert lines.keys() == VERBS.keys()
    assert {verb for verb, text in lines.items() if text == "(needs temperance[offline])"} == UNAVAILABLE


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("inspect", NAME),
        ("verify", NAME),
        ("doctor", "--json"),
        ("keys", "list"),
        ("audit", "verify"),
        ("audit", "keys", "list"),
        ("alarms", "list"),
        ("performance", NAME, "--json"),
    ],
    ids=" ".join,
)
def test_a_verb_of_operation_does_its_work_in_the_image(hardened: Container, command: tuple[str, ...]) -> None:
    hardened.run("temperance", *command)


def test_a_killed_process_is_healthy_again_without_help(hardened: Container, body: dict[str, Any]) -> None:
    started_at = hardened.state["StartedAt"]
    os.kill(hardened.state["Pid"], signal.SIGKILL)  # the engine would not restart what it was asked to kill
    hardened.wait(lambda own: own.state["StartedAt"] != started_at and own.health == "healthy")
    assert httpx.post(f"{hardened.url}{DECIDE}", json=body, timeout=30).status_code == 200


def test_a_container_ends_under_load_without_a_failed_request(
    docker: Docker, image: str, mounted: str, body: dict[str, Any]
) -> None:
    with running(docker, image, *HARDENED, "--volume=/data", mounted, OPEN) as container:
        container.wait_until_healthy()
        with Load(container.url, DECIDE, body) as load:
            container.wait(lambda _: load.answered > 50)
            docker("stop", "--time=60", container.name)
        assert load.failed == []
        assert (container.state["ExitCode"], container.state["OOMKilled"]) == (0, False), container.log


@pytest.mark.parametrize("mount", [(), ("--tmpfs=/mnt/models",)], ids=["no mount", "an empty one"])
def test_a_container_without_models_does_not_start_and_says_where_they_belong(
    docker: Docker, image: str, mount: tuple[str, ...]
) -> None:
    done = docker.result("run", "--rm", "--tmpfs=/data:uid=10001", *mount, OPEN, image)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("temperance: ")]
    assert done.returncode == 1
    assert "/mnt/models" in line
    assert "(TEMPERANCE_MODELS from the environment)" in line


def test_only_the_demonstration_holds_models_and_a_mount_takes_their_place(docker: Docker, demo_image: str) -> None:
    listed = docker("run", "--rm", demo_image, "temperance", "list")
    shipped = {path.parent.name for path in (ROOT / "models").glob("*/aliases.toml")}
    assert {line.partition(":")[0] for line in listed.splitlines()} == shipped
    done = docker.result("run", "--rm", "--tmpfs=/mnt/models", OPEN, demo_image)
    assert done.returncode == 1
    assert "/mnt/models" in done.stderr
