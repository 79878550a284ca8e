"""A caller of `:decide` over HTTP, and a server of its own to call.

Tested in tests/training/test_closed_loop.py.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from service.training.closed_loop import Answer
from service.training.imitation import States

READY_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0


class Client:
    """A caller of `:decide` with sessions, on one connection that stays open.

    Parameters
    ----------
    port : int
        Of a server on this machine.
    model : str
    label : str
        Alias of the version.
    policy : str
    alarm : str, optional
        The caller's own rule: its action while the session's alarm stands, in place of the policy's.
    """

    def __init__(self, port: int, model: str, *, label: str, policy: str, alarm: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._path = f"/v1/models/{model}/labels/{label}:decide"
        self._policy, self._alarm_action = policy, alarm

    def decide(self, state: States, session: object) -> Answer:
        """The service's decision for one step.

        Raises
        ------
        RuntimeError
            If the service refuses the request.
        """
        parameters = {"policy": self._policy, "session": session}
        body = json.dumps({"instances": [np.asarray(state).tolist()], "parameters": parameters})
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        document: dict[str, Any] = json.loads(response.read())
        if response.status != http.client.OK:
            raise RuntimeError(f"the service answered {response.status}: {document.get('detail', document)}")
        row, watched = document["predictions"][0], document["session"]
        action, alarm = row["decision"]["action"], bool(watched["alarm"])
        if alarm and self._alarm_action is not None:
            action = self._alarm_action
        return Answer(action, row["ood"]["flagged"], alarm, watched)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@contextmanager
def serving(models: Path) -> Iterator[int]:
    """A `temperance serve` of its own over a repository, ready to answer; its port.

    It keeps no audit record: that of every step would cost more than the step itself.

    Parameters
    ----------
    models : Path

    Raises
    ------
    RuntimeError
        If it ends, or is not ready within a minute.
    """
    port = _free_port()
    command = [str(Path(sys.executable).with_name("temperance")), "serve", "--models", str(models), "--port", str(port)]
    others = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    others["TEMPERANCE_AUDIT"] = "off"
    with (
        tempfile.TemporaryDirectory() as data,
        subprocess.Popen(command, env=others | {"TEMPERANCE_DATA": data}, stderr=subprocess.DEVNULL) as process,  # noqa: S603  # our own command
    ):
        try:
            _wait_until_ready(port, process)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if _ready(port):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not become ready; `temperance serve --models DIR` shows why")


def _ready(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
