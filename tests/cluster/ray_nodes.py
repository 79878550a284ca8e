"""A Ray cluster of two nodes on this machine, with one processor each; a node can be killed, and another added."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Final

import psutil
import pytest

from service.cluster.connection import prepare

NODE: Final[dict[str, Any]] = {"num_cpus": 1, "object_store_memory": 80 << 20}
COMMAND: Final = Path(sys.executable).with_name("temperance")


@dataclass(frozen=True, slots=True)
class Nodes:
    """The cluster: its head and, where it has one, its second node."""

    cluster: Any

    @property
    def address(self) -> str:
        """Of the head."""
        return str(self.cluster.address)

    def add_the_second(self) -> None:
        """Until it is ready."""
        self.cluster.add_node(**NODE)

    def lose_the_second(self) -> None:
        """SIGKILL its processes, and give it no time."""
        for node in [*self.cluster.worker_nodes]:
            self.cluster.remove_node(node, allow_graceful=False)

    def lose_a_process(self) -> bool:
        """SIGKILL one that answers rows; False if none does at this moment."""
        at_work = [one for one in psutil.Process().children(recursive=True) if "ray::Map" in _title(one)]
        for process in at_work[:1]:
            process.kill()
        return bool(at_work)

    def command(self, *arguments: object) -> Popen[str]:
        """`temperance` as a process that is connected to the cluster."""
        line = [str(COMMAND), *map(str, arguments), "--engine", "ray", "--address", self.address]
        return Popen(line, stdout=PIPE, stderr=PIPE, text=True, env=os.environ)


@contextmanager
def head_node() -> Iterator[Nodes]:
    """Start a cluster of one node; all of its nodes end with the context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        prepare()
        from ray.cluster_utils import Cluster  # Ray may be absent, and reads its variables at import

        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
