"""docker-compose.yml, run by a real Compose on a real engine: stand-ins for images, free ports, faster looks.

What is run is the file of this repository with an override beside it, which names images and changes nothing else, in a
copy of the folders that it mounts. In the copy, Prometheus scrapes every second and alerts fire at once.
"""

import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.deploy.engine import ROOT, Docker
from tests.shipped_model import NAME

HEALTHY_SECONDS: Final = 180.0
WAIT_SECONDS: Final = 90.0
SCOPES: Final = "predict,evaluate,outcomes,audit"


def compose_commands(docker: Docker) -> dict[str, list[str]]:
    """The Composes of this machine by their major version: the plugin of the docker command, and Debian's first one."""
    found = {}
    if docker.result("compose", "version").returncode == 0:
        found["2"] = [docker.program, "compose"]
    if (old := shutil.which("docker-compose")) is not None:
        found["1" if b"version 1." in subprocess.check_output([old, "version"]) else "2"] = [old]
    return found


@dataclass(frozen=True, slots=True)
class Stack:
    """A project of docker-compose.yml.

    Attributes
    ----------
    docker : Docker
    command : list of str
        Of Compose.
    folder : Path
        With docker-compose.yml, its override, and what they mount.
    ports : mapping of str to int
        Published, by the name of the variable that sets one.
    key : str
        An API key; empty until one is made.
    """

    docker: Docker
    command: list[str]
    folder: Path
    ports: Mapping[str, int]
    key: str = ""

    @property
    def project(self) -> str:
        """Before the names of all that it makes."""
        return self.folder.name.lower().replace("_", "-")

    def compose(self, *arguments: str, timeout: float = HEALTHY_SECONDS) -> str:
        """What a command of Compose printed on standard output; it must succeed."""
        done = self.result(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def result(self, *arguments: str, timeout: float = HEALTHY_SECONDS) -> "subprocess.CompletedProcess[str]":
        """What a command of Compose printed and its exit code."""
        own = {**{name: str(port) for name, port in self.ports.items()}, "COMPOSE_PROJECT_NAME": self.project}
        files = ("-f", "docker-compose.yml", "-f", "override.yml")
        return subprocess.run(
            [*self.command, *files, *arguments],
            cwd=self.folder,
            env={**self.docker.environment, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def up(self, *services: str) -> None:
        """As `docker compose up --detach --wait`, with the first Compose too, which knows no --wait."""
        self.compose("up", "--detach", *services)
        until(lambda: all(state == "healthy" for state in self.health().values()), seconds=HEALTHY_SECONDS)

    def containers(self) -> dict[str, str]:
        """Ids of containers, those that have ended too, by the name of their service."""
        label = f"label=com.docker.compose.project={self.project}"
        template = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        lines = self.docker("ps", "--all", "--filter", label, "--format", template).splitlines()
        return {name: identity for name, _, identity in (line.partition(" ") for line in lines)}

    def health(self) -> dict[str, str]:
        """What the engine says of the health of every container, by the name of its service."""
        form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}unchecked{{end}}"
        return {name: self.docker("inspect", "--format", form, one) for name, one in self.containers().items()}

    def client(self) -> httpx.Client:
        """Of the address that HAProxy or `lite` publishes, with the key."""
        header = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports['HTTP_PORT']}", headers=header, timeout=60)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers."""
        url = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}/api/v1/query"
        found: list[dict[str, Any]] = httpx.get(url, params={"query": expression}).json()["data"]["result"]
        return found

    def value(self, expression: str) -> float:
        """A single number of Prometheus; 0 where there is none."""
        return sum(float(one["value"][1]) for one in self.query(expression))

    def firing(self, alert: str) -> set[str]:
        """Instances for which an alert fires."""
        found = self.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
        return {one["metric"].get("instance", "") for one in found}

    def sql(self, statement: str) -> str:
        """What PostgreSQL answers in its container."""
        command = ("psql", "--username=temperance", "--tuples-only", "--no-align", f"--command={statement}")
        return self.docker("exec", self.containers()["postgres"], *command)


def until(condition: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
    """Wait for what other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@contextmanager
def project(docker: Docker, command: list[str], folder: Path, images: Mapping[str, str]) -> Iterator[Stack]:
    """The project in a folder that is filled here, with its passwords and an API key; removed at the end.

    Parameters
    ----------
    docker : Docker
    command : list of str
        Of Compose.
    folder : Path
        An empty one.
    images : mapping of str to str
        Tags by the name of the service; `temperance` is the one of our own.
    """
    _fill(folder, images)
    stack = Stack(docker, command, folder, _free_ports("HTTP_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"))
    try:
        stack.compose("run", "--rm", "audit", "keys", "create")
        key = stack.compose("run", "--rm", "keys", "create", "--name", "ward", "--scopes", SCOPES).strip()
        yield Stack(docker, command, folder, stack.ports, key)
    finally:
        # Without its profile, `lite` would stay.
        stack.result(
            "--profile", "lite", "--profile", "tools", "down", "--volumes", "--remove-orphans", "--timeout", "1"
        )


def _fill(folder: Path, images: Mapping[str, str]) -> None:
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copytree(ROOT / "models" / NAME, folder / "models" / NAME)
    (folder / "override.yml").write_text(yaml.safe_dump({"services": _images(images)}))
    (folder / "secrets").mkdir(mode=0o700)
    for name in ("postgres", "grafana"):
        (folder / "secrets" / f"{name}-password").write_text(secrets.token_hex(24) + "\n")
    prometheus = folder / "deploy" / "prometheus"
    _replace(prometheus / "prometheus.yml", r"(scrape_interval|scrape_timeout|evaluation_interval): \w+", r"\1: 1s")
    _replace(prometheus / "alerts.yml", r"for: \w+", "for: 1s")


def _replace(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, path.read_text())
    assert count
    path.write_text(text)


def _images(images: Mapping[str, str]) -> dict[str, Any]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    own = {name for name, service in services.items() if service["image"] == "temperance"}
    named: dict[str, Any] = {
        name: {"image": images["temperance" if name in own else name]} for name in services if name != "grafana"
    }
    return named | {"grafana": {"profiles": ["not-run"]}}  # it has no stand-in


def _free_ports(*names: str) -> dict[str, int]:
    with_sockets = {name: socket.socket() for name in names}
    for one in with_sockets.values():
        one.bind(("127.0.0.1", 0))
    ports = {name: int(one.getsockname()[1]) for name, one in with_sockets.items()}
    for one in with_sockets.values():
        one.close()
    return ports
