"""A pod of `deploy/kubernetes` as processes of this machine: its environment, its commands, its volumes as folders.

What stands in: folders for volumes, a PostgreSQL of this machine for the store's server, a free port for 8080. The file
system of the image, its user and what a cluster does with the pod are not here.
"""

import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg

from tests.deploy.manifests import Pod, Resource, image_port
from tests.runtime.test_proofs_of_a_server import wait_for
from tests.shipped_model import SHIPPED
from tests.store.conftest import running_postgresql

TEMPERANCE: Final = Path(sys.executable).with_name("temperance")
VARIABLE: Final = re.compile(r"\$\((\w+)\)")
OWNER: Final = "temperance"
"""Of the store, as the manifests name it."""


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """The URL of a database of PostgreSQL, without a password, as in the manifests."""
    with running_postgresql(folder) as server:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {OWNER} LOGIN")
            connection.execute(f"CREATE DATABASE {OWNER} OWNER {OWNER}")
        yield urlunsplit(urlsplit(server)._replace(netloc=f"{OWNER}@", path=f"/{OWNER}"))


@dataclass(frozen=True)
class Node:
    """Where a pod runs.

    Attributes
    ----------
    pod : Pod
    root : Path
        The root of its file system.
    store : str
        URL of the database that stands in for the one of the manifests.
    port : int
        That stands in for the one of the image.
    """

    pod: Pod
    root: Path
    store: str
    port: int

    @property
    def url(self) -> str:
        """Of the pod."""
        return f"http://127.0.0.1:{self.port}"

    def path(self, inside: str) -> Path:
        """A folder of the pod as a folder here."""
        return self.root / inside.lstrip("/")

    def environment(self, container: Resource) -> dict[str, str]:
        """Variables of a container, with the paths of this machine."""
        own = self.pod.variables(container) | {"PORT": str(self.port), "TMPDIR": "/tmp"}  # noqa: S108  # the pod's
        own.pop("TEMPERANCE_PORT", None)
        found = {name: self._here(value) for name, value in own.items() if name != "PATH"}
        return found | ({"TEMPERANCE_STORE": self.store} if "TEMPERANCE_STORE" in found else {})

    def _here(self, value: str) -> str:
        mounts = [mount["mountPath"] for mount in self.pod.container["volumeMounts"]] + ["/mnt/models"]
        return str(self.path(value)) if any(Path(value).is_relative_to(mount) for mount in mounts) else value

    def make_volumes(self) -> None:
        """The folders of all volumes, empty."""
        for container in [*self.pod.spec["containers"], *self.pod.spec.get("initContainers", [])]:
            for mount in container["volumeMounts"]:
                self.path(mount["mountPath"]).mkdir(parents=True, exist_ok=True)
        self.path("/mnt/models").mkdir(parents=True, exist_ok=True)

    def make_secrets(self) -> str:
        """What the Secrets hold, by the commands that the README names; an API key."""
        settings = self.environment(self.pod.container)
        Path(settings["TEMPERANCE_STORE_PASSWORD_FILE"]).write_text(secrets.token_hex(16))
        self._command("audit", "keys", "create")
        return self._command("keys", "create", "--name", "caller", "--scopes", "predict,metrics").strip()

    def _command(self, *words: str) -> str:
        environment = self.environment(self.pod.container)
        done = subprocess.run(
            [str(TEMPERANCE), *words], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def initialize(self, source: Path = SHIPPED) -> None:
        """Run the init container; where a pod has none, a platform or the image has put the models there."""
        if "initContainers" not in self.pod.spec:
            shutil.copytree(source, self.path("/mnt/models"), dirs_exist_ok=True)
            return
        (container,) = self.pod.spec["initContainers"]
        variables = self.environment(container) | {"MODELS_SOURCE": str(source)}
        words = [VARIABLE.sub(lambda name: variables[name[1]], self._here(word)) for word in container["command"]]
        done = subprocess.run(
            [str(TEMPERANCE), *words[1:]], env=variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert words[0] == "temperance"
        assert done.returncode == 0, done.stderr

    @contextmanager
    def running(self, **variables: str) -> Iterator["subprocess.Popen[str]"]:
        """The container that serves, from its start on; its command is the image's."""
        environment = self.environment(self.pod.container) | variables
        with (self.root / "stdout").open("w") as out, (self.root / "stderr").open("w") as errors:
            process = subprocess.Popen(
                [str(TEMPERANCE), "serve"], env=environment, stdout=out, stderr=errors, text=True
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait(timeout=30)

    def probe(self, name: str) -> int:
        """What the kubelet sees: the status of a probe's answer, 0 if its connection is refused."""
        probe = self.pod.container[name]
        try:
            return httpx.get(self.url + probe["httpGet"]["path"], timeout=probe["timeoutSeconds"] * 10).status_code
        except httpx.ConnectError:
            return 0

    def start(self) -> list[int]:
        """What the startup probe sees until it passes."""
        seen: list[int] = []

        def has_passed() -> bool:
            seen.append(self.probe("startupProbe"))
            return seen[-1] == httpx.codes.OK

        wait_for(has_passed, seconds=120.0)
        return seen


def node(pod: Pod, root: Path, store: str) -> Node:
    """A node with the volumes of a pod."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        made = Node(pod, root, store, found.getsockname()[1])
    made.make_volumes()
    assert image_port() != made.port
    return made
