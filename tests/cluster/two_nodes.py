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
    """The cluster and its second node."""

    cluster: Any
    second: Any

    @property
    def address(self) -> str:
        """Of the head."""
        return str(self.cluster.address)

    def lose_the_second(self) -> None:
        """SIGKILL its processes, and give it no time."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def workers(self) -> list[psutil.Process]:
        """Processes that answer rows at this moment."""
        return [one for one in psutil.Process().children(recursive=True) if "ray::Map" in _title(one)]

    def command(self, *arguments: object) -> Popen[str]:
        """`temperance` as a process that is connected to the cluster."""
        line = [str(COMMAND), *map(str, arguments), "--engine", "ray", "--address", self.address]
        return Popen(line, stdout=PIPE, stderr=PIPE, text=True, env=os.environ)


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """Start the nodes; they end with the context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        prepare()
        from ray.cluster_utils import Cluster  # Ray may be absent, and reads its variables at import

        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            yield Nodes(cluster, cluster.add_node(**NODE))
        finally:
            cluster.shutdown()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
