"""The server beside a floor that does nothing and beside what a user would write by hand; one run, interleaved.

Run as ``python -m tests.bench.serving``. It needs wrk (``apt-get install wrk``). Only ratios taken in one run mean
anything: every round measures all servers, one after the other, and the table shows medians of the rounds' ratios.
Validation and metrics are on in ours, logs are off in all; K = 2, A = 3, and every answer holds probabilities, two
OOD scores with p-values, ranges of 30 features, risks, margin and action.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer

ROOT: Final = Path(__file__).resolve().parents[2]
DECIDE: Final = "/v1/models/breast-cancer:decide"
INFER: Final = "/v2/models/breast-cancer/infer"
JSON: Final = {"content-type": "application/json"}
ROUNDS: Final = 3
SECONDS: Final = 1
LATENCY: Final = re.compile(r"50%\s+([\d.]+)(us|ms|s)")
SECOND: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Work:
    """A request, and how much faster than the plain service ours must answer it."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str]
    connections: int
    target: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What wrk saw."""

    per_second: float
    p50: float


@contextmanager
def running(*command: str, ready: str, **environment: str) -> Iterator[str]:
    """A server process on a free port; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, filled = f"http://127.0.0.1:{port}", [part.replace("PORT", str(port)) for part in command]
    with subprocess.Popen(filled, env={**os.environ, **environment}, cwd=ROOT) as process:
        try:
            _wait(url + ready, process)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit(f"{process.args!r} ended")


def works(rows: list[list[float]]) -> list[Work]:
    """The table of issue 5, as far as the shipped model goes."""
    one = json.dumps({"instances": rows[:1]}).encode()
    many = [rows[i % len(rows)] for i in range(256)]
    flat, binary, length = _tensors(np.array(many))
    return [
        *(Work(f"1 row, {c} connections", DECIDE, one, JSON, c, t) for c, t in ((1, 2.5), (8, 6.0), (64, 10.0))),
        Work("256 rows, :decide", DECIDE, json.dumps({"instances": many}).encode(), JSON, 8, 5.0),
        Work("256 rows, /v2 flat JSON", INFER, flat, JSON, 8, 8.0),
        Work("256 rows, /v2 binary", INFER, binary, {"Inference-Header-Content-Length": str(length)}, 8, 18.0),
    ]


def _tensors(rows: "np.typing.NDArray[np.float64]") -> tuple[bytes, bytes, int]:
    entry = {"name": "X", "shape": list(rows.shape), "datatype": "FP32"}
    flat = json.dumps({"inputs": [{**entry, "data": rows.ravel().tolist()}]}).encode()
    blob = rows.astype("<f4").tobytes()
    size = {"parameters": {"binary_data_size": len(blob)}}
    head = json.dumps({"inputs": [{**entry, **size}], "parameters": {"binary_data_output": True}}).encode()
    return flat, head + blob, len(head)


def measure(url: str, work: Work, folder: Path) -> Speed:
    """One run of wrk."""
    script = folder / "request.lua"
    (folder / "body").write_bytes(work.body)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in work.headers.items()]
    body = f'local f = io.open("{folder / "body"}", "rb"); wrk.body = f:read("*all"); f:close()'
    script.write_text("\n".join(['wrk.method = "POST"', body, *lines]))
    command = ["wrk", "-t1", f"-c{work.connections}", f"-d{SECONDS}s", "--latency", "-s", str(script), url + work.path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"{work.name}: {said}")
    found = LATENCY.search(said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or rate is None:
        raise SystemExit(said)
    return Speed(float(rate[1]), float(found[1]) * SECOND[found[2]])


def main() -> None:
    """Print the table."""
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk: apt-get install wrk")
    rows = load_breast_cancer().data[:100]
    table = Table(
        "work", "ours/s", "x plain", "target", "x floor", "p50 x floor", title="Serving", title_justify="left"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(_ours())
        plain = stack.enter_context(_uvicorn("tests.bench.plain:app", "/docs"))
        _compare(ours, plain, rows.tolist())
        for work in works(rows.tolist()):
            (folder / "answer").write_bytes(_answer(ours, work))
            with _uvicorn("tests.bench.floor:app", "/", FLOOR_ANSWER=str(folder / "answer")) as floor:
                by_hand = replace(work, path=DECIDE, body=_by_hand(work, rows.tolist()), headers=JSON)
                rounds = [
                    (measure(ours, work, folder), measure(plain, by_hand, folder), measure(floor, work, folder))
                    for _ in range(ROUNDS)
                ]
            table.add_row(work.name, *_row(work, rounds))
    Console(width=110).print(table)


def _by_hand(work: Work, rows: list[list[float]]) -> bytes:
    if work.path == DECIDE:
        return work.body
    return json.dumps({"instances": [rows[i % len(rows)] for i in range(256)]}).encode()


def _row(work: Work, rounds: Sequence[tuple[Speed, Speed, Speed]]) -> Sequence[str]:
    times = median(a.per_second / b.per_second for a, b, _ in rounds)
    return (
        f"{median(a.per_second for a, _, _ in rounds):,.0f}",
        f"{times:.1f}",
        f"{work.target:g} {'met' if times >= work.target else 'MISSED'}",
        f"{median(a.per_second / c.per_second for a, _, c in rounds):.2f}",
        f"{median(a.p50 / c.p50 for a, _, c in rounds):.2f}",
    )


def _ours() -> AbstractContextManager[str]:
    command = (str(Path(sys.executable).parent / "temperance"), "serve", "--port", "PORT")
    return running(*command, ready="/readyz", TEMPERANCE_LOG_LEVEL="warning")


def _uvicorn(app: str, ready: str, **environment: str) -> AbstractContextManager[str]:
    quiet = ("--no-access-log", "--log-level", "warning")
    return running(sys.executable, "-m", "uvicorn", app, "--port", "PORT", *quiet, ready=ready, **environment)


def _answer(url: str, work: Work) -> bytes:
    return httpx.post(url + work.path, content=work.body, headers=work.headers).raise_for_status().content


def _compare(ours: str, plain: str, rows: list[list[float]]) -> None:
    """Stop unless both services say the same of every row."""
    one, other = (httpx.post(url + DECIDE, json={"instances": rows}).json()["predictions"] for url in (ours, plain))
    for mine, theirs in zip(one, other, strict=True):
        if mine["decision"]["action"] != theirs["decision"]["action"] or mine.keys() != theirs.keys():
            raise SystemExit("the plain service answers something else; compare nothing")
        np.testing.assert_allclose(list(mine["decision"]["risks"].values()), list(theirs["decision"]["risks"].values()))


if __name__ == "__main__":
    main()
