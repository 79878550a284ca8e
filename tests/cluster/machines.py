"""Machines of a cluster: network namespaces on one bridge, each with an address, processes, and an end by SIGKILL."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RAY = "ray"


@dataclass
class Machine:
    """A namespace, and what runs in it."""

    name: str
    address: str
    environment: Mapping[str, str]
    log: Path
    cable: str
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, command: Sequence[str], **environment: str) -> "subprocess.Popen[bytes]":
        """A process of this machine; its output is in the machine's log."""
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        self.processes.append(started)
        return started

    def unplug(self) -> None:
        """Let no packet in or out: others see silence, and no closed connection."""
        ip("link", "set", self.cable, "down")

    def kill(self) -> None:
        """SIGKILL to all of its processes, as when the current goes."""
        while pids := _processes(self.name):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)  # the kernel clears them away
        for process in self.processes:
            process.wait(timeout=30)


def why_no_machines() -> str | None:
    """Why machines cannot be made here; None where they can."""
    if shutil.which("ip") is None:
        return "no command ip: apt-get install iproute2"
    probe = f"t{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


@contextlib.contextmanager
def machines(count: int, environment: Mapping[str, str]) -> Iterator[list[Machine]]:
    """Machines on a network of their own, which this process reaches too."""
    own = secrets.token_hex(3)
    bridge, network = f"tb{own}", f"10.{secrets.randbelow(120) + 100}.{secrets.randbelow(250)}"
    with tempfile.TemporaryDirectory(prefix="machines-") as folder:
        ip("link", "add", bridge, "type", "bridge")
        made = [
            Machine(
                f"tm{own}{number}",
                f"{network}.{number + 10}",
                environment,
                Path(folder, f"{number}.log"),
                f"tv{own}{number}",
            )
            for number in range(count)
        ]
        try:
            ip("addr", "add", f"{network}.1/24", "dev", bridge)
            ip("link", "set", bridge, "up")
            for machine in made:
                _connect(machine, bridge)
            yield made
        finally:
            for machine in made:
                machine.kill()
                subprocess.run(["ip", "netns", "del", machine.name], check=False)
            ip("link", "del", bridge)


def _processes(name: str) -> list[str]:
    command = ["ip", "netns", "pids", name]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _connect(machine: Machine, bridge: str) -> None:
    cable = machine.cable
    ip("netns", "add", machine.name)
    ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    ip("link", "set", cable, "master", bridge, "up")
    for words in (
        ("addr", "add", f"{machine.address}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("link", "set", "lo", "up"),
        (
            "route",
            "add",
            "default",
            "via",
            f"{machine.address.rpartition('.')[0]}.1",
        ),  # else Ray waits for a name server
    ):
        ip("-n", machine.name, *words)
