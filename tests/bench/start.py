"""From `temperance serve` to the first 200 of `/readyz`, and what the time is spent on.

Run as ``python -m tests.bench.start``. Everything is timed from outside: a process that ends at once, one that imports
what `serve` imports, and the real one, whose log says when its models are loaded. Bytecode is there, as after any
installation and any earlier start: one start goes before, and does not count.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

import httpx

from tests.bench.servers import ROOT, TEMPERANCE, free_port
from tests.bench.table import Figure, show

REPEATS: Final = 5
TARGET: Final = 3.0
LOADED: Final = re.compile(rb"temperance: serving ")
LOOK_EVERY: Final = 0.005
IMPORTS: Final = "import service.cli, service.serving"
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from spawning a process until something was so."""

    interpreter: float
    imported: float
    loaded: float
    ready: float


def once() -> Start:
    """One start, and the two processes that tell what it consists of."""
    interpreter = finished("pass")
    imported = finished(IMPORTS)
    loaded, ready = started()
    return Start(interpreter, imported, loaded, ready)


def finished(code: str) -> float:
    """How long Python takes for some code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=ENVIRONMENT)
    return time.perf_counter() - start


def started() -> tuple[float, float]:
    """How long `temperance serve` takes until its models are loaded, and until it is ready."""
    start = time.perf_counter()
    with _serving() as (url, process):
        assert process.stderr is not None
        while not LOADED.search(line := process.stderr.readline()):
            if not line:
                raise SystemExit("temperance serve ended")
        loaded = time.perf_counter() - start
        while not _ready(url):
            time.sleep(LOOK_EVERY)
        return loaded, time.perf_counter() - start


@contextmanager
def _serving() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    port = str(free_port())
    command = [TEMPERANCE, "serve", "--port", port]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE) as process:
        try:
            yield f"http://127.0.0.1:{port}/readyz", process
        finally:
            process.terminate()


def _ready(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def figures(repeats: int) -> Iterator[Figure]:
    """Medians, step by step."""
    once()
    starts = [once() for _ in range(repeats)]
    yield Figure("interpreter", median(s.interpreter for s in starts), "s")
    yield Figure("imports", median(s.imported - s.interpreter for s in starts), "s")
    yield Figure("models loaded, proven and timed", median(s.loaded - s.imported for s in starts), "s")
    yield Figure("application and HTTP server", median(s.ready - s.loaded for s in starts), "s")
    yield Figure("spawned to ready", median(s.ready for s in starts), "s", TARGET)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    said = f"K = 2, A = 3, nll, mahalanobis, temperature. Medians of {repeats} starts, so that steps need not add up."
    show("Start to ready, shipped models", figures(repeats), caption=said)


if __name__ == "__main__":
    main()
