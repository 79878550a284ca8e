"""From `temperance serve` of the shipped models to the first 200 of `/readyz`, and what the time is spent on.

Run as ``python -m tests.bench.start``. Bytecode is there, as after any installation and any earlier start: one start
goes before, and does not count. It also proves the models, so that later starts need no process for that; starts with
an empty data directory, as on a new machine, are measured beside them. The steps come from starts under
``-X importtime``, whose lines and whose log tell what is done; those starts are a little slower, and the total is that
of starts without it.
"""

import argparse
import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from statistics import median
from typing import Final

from tests.bench.servers import ROOT, TEMPERANCE, free_port
from tests.bench.table import Figure, show

REPEATS: Final = 5
TARGET: Final = 3.0
LOOK_EVERY: Final = 0.005
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
SITE: Final = re.compile(rb"import time: .*\| site$")
OURS: Final = re.compile(rb"import time: .*\| +service\.\S+$")
LOADED: Final = re.compile(rb"temperance: serving ")
STEPS: Final = ("interpreter", "imports", "models loaded, proven and timed", "application and HTTP server")


@dataclass(frozen=True, slots=True)
class Spawned:
    """A server on its way up."""

    process: "subprocess.Popen[bytes]"
    port: int
    at: float

    def ready(self) -> float:
        """Seconds until it says it is."""
        while not _is_ready(self.port):
            if self.process.poll() is not None:
                raise SystemExit("temperance serve ended")
            time.sleep(LOOK_EVERY)
        return time.perf_counter() - self.at

    def stamps(self) -> Sequence[float]:
        """Seconds until each of `STEPS` was done; imports are, when the last module of ours before any model is."""
        site = imported = 0.0
        for line, seconds in self._lines():
            if SITE.search(line):
                site = seconds
            elif OURS.search(line):
                imported = seconds
            elif LOADED.search(line):
                return [site, imported, seconds, self.ready()]
        raise SystemExit("temperance serve ended")

    def _lines(self) -> Iterator[tuple[bytes, float]]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            yield line.rstrip(), time.perf_counter() - self.at


@contextmanager
def spawned(*options: str, data: str, stderr: int) -> Iterator[Spawned]:
    """`temperance serve` with a data directory, and with options for Python."""
    port, at = free_port(), time.perf_counter()
    command = [sys.executable, *options, TEMPERANCE, "serve", "--port", str(port)]
    environment = {**ENVIRONMENT, "TEMPERANCE_DATA": data}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr) as process:
        try:
            yield Spawned(process, port, at)
        finally:
            process.terminate()


def whole(data: str) -> float:
    """Seconds of one start."""
    with spawned(data=data, stderr=subprocess.DEVNULL) as server:
        return server.ready()


def first() -> float:
    """Seconds of one start where no version is proven yet."""
    with tempfile.TemporaryDirectory() as data:
        return whole(data)


def in_steps(data: str) -> Sequence[float]:
    """Seconds that each step of one start took."""
    with spawned("-X", "importtime", data=data, stderr=subprocess.PIPE) as server:
        ends = server.stamps()
    return [end - begin for begin, end in zip([0.0, *ends], ends, strict=False)]


def figures(repeats: int) -> Iterator[Figure]:
    """Medians, step by step."""
    with tempfile.TemporaryDirectory() as data:
        whole(data)
        starts = [(in_steps(data), whole(data), first()) for _ in range(repeats)]
    for i, name in enumerate(STEPS):
        yield Figure(name, median(steps[i] for steps, *_ in starts), "s")
    yield Figure("spawned to ready", median(seconds for _, seconds, _ in starts), "s", TARGET)
    yield Figure("the same, versions new to the machine", median(seconds for *_, seconds in starts), "s", TARGET)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)  # httpx would spend more time than the server
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    caption = f"The eight shipped models. Medians of {repeats} starts; steps of others, under importtime."
    show("Start to ready, shipped models", figures(repeats), caption=caption)


if __name__ == "__main__":
    main()
