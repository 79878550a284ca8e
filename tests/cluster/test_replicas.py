"""The replicas of a group, where Ray gives no answer."""

import asyncio
import subprocess
import sys
from importlib.util import find_spec

import pytest

from service.cluster.connection import prepare
from service.cluster.forwarded import Forwarded
from service.cluster.replicas import RayReplicas
from service.errors import NotReady


class Silent:
    """Stands in for Ray's handle: its replicas do not answer in time."""

    def options(self, **_: str) -> "Silent":
        return self

    def broadcast(self, _method: str, _request: Forwarded) -> "Silent":
        return self

    async def results_async(self, *, timeout_s: float) -> list[object]:
        raise TimeoutError(timeout_s)


async def reason() -> str:
    prepare()
    replicas = RayReplicas(Silent(), by_model=False, seconds=1.0)
    try:
        await replicas.each(Forwarded({"path": "/metrics"}, (), b""))
    except NotReady as error:
        return str(error)
    return "none"


def test_a_replica_that_does_not_answer_in_time_makes_the_group_not_ready() -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -e '.[ray]'")
    command = [sys.executable, "-m", __name__]  # in a process of its own: Ray is not imported into that of the tests
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "no replica of a group answers now" in shown.stdout


if __name__ == "__main__":
    print(asyncio.run(reason()))  # noqa: T201
