"""A Ray cluster of two machines and a PostgreSQL, and the service on it."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.cluster.machines import Machine, machines

ROOT = Path(__file__).parents[2]
MODELS = ("breast-cancer", "thyroid", "yeast-genes")
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 180.0
GCS_PORT = 6380
PORT = 8000
PROCESSORS = 4
"""That each machine says it has: replicas are placed by them."""


@dataclass(frozen=True)
class Cluster:
    """Machines of which the first is Ray's head."""

    machines: list[Machine]

    @property
    def head(self) -> Machine:
        return self.machines[0]

    def logs(self) -> str:
        return "\n".join(f"== {machine.name}\n{machine.log.read_text()}" for machine in self.machines)

    def url(self, machine: Machine) -> str:
        return f"http://{machine.address}:{PORT}"

    def join(self, machine: Machine) -> None:
        """Make a machine a node of the cluster."""
        is_head = machine is self.head
        place = ["--head", f"--port={GCS_PORT}", "--include-dashboard=false"] if is_head else [f"--address={self._gcs}"]
        own = [f"--node-ip-address={machine.address}", f"--num-cpus={PROCESSORS}", "--object-store-memory=100000000"]
        machine.start([str(PROGRAMS / "ray"), "start", *place, *own, "--disable-usage-stats", "--block"])

    def wait_for(self, machine: Machine) -> None:
        """Wait until a machine is a node."""
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in machine.log.read_text():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    @contextlib.contextmanager
    def serving(self, *options: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
        """`temperance ray` on the head, in front of which every machine answers."""
        command = [str(PROGRAMS / "temperance"), "ray", "--address", self._gcs, *options]
        process = self.head.start(command, **environment)
        try:
            self._wait_until_served(process)
            yield process
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)

    def _wait_until_served(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if "serving on Ray" in self.head.log.read_text() and all(map(self.is_ready, self.machines)):
                return
            time.sleep(0.2)
        raise AssertionError(self.logs())

    def is_ready(self, machine: Machine) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url(machine)}/readyz", timeout=5).status_code == 200
        return False

    @property
    def _gcs(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"


def environment(folder: Path) -> dict[str, str]:
    """Of every process of the cluster: settings, a token, no statistics, and requests that go to every node."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPERANCE_", "RAY_"))}
    return clean | {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
        "TEMPERANCE_DATA": str(folder),
        "TEMPERANCE_MODELS": str(models_in(folder)),
        "TEMPERANCE_HOST": "0.0.0.0",  # noqa: S104  # of machines of their own
    }


def models_in(folder: Path) -> Path:
    """A repository of a few of the shipped models."""
    for name in MODELS:
        shutil.copytree(ROOT / "models" / name, folder / "models" / name, ignore=shutil.ignore_patterns("*.py"))
    return folder / "models"


@contextlib.contextmanager
def ray_cluster(folder: Path, count: int = 2) -> Iterator[Cluster]:
    """Running nodes; whatever runs on them ends with the context."""
    with machines(count, environment(folder)) as made:
        cluster = Cluster(made)
        for machine in made:
            cluster.join(machine)
            cluster.wait_for(machine)
        yield cluster


def command(cluster: Cluster, *words: str, **more: str) -> str:
    """The output of a `temperance` command on the head."""
    return run([str(PROGRAMS / "temperance"), *words], {**cluster.head.environment, **more})


def run(words: Sequence[str], own: dict[str, str]) -> str:
    return subprocess.run(words, env=own, check=True, capture_output=True, text=True).stdout
