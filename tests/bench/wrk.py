"""Closed loops: wrk sends one request over some connections, again and again, each as soon as it has its answer."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RATE: Final = re.compile(r"Requests/sec:\s+([\d.]+)")
SECOND: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
TROUBLE: Final = ("Non-2xx", "Socket errors")
JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: answers per second, and seconds until half and 99 % of them were complete."""

    per_second: float
    p50: float
    p99: float


def measure(url: str, request: Request, *, connections: int, seconds: int = 1) -> Load:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        script = _script(request, Path(folder))
        flags = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", str(script)]
        done = subprocess.run(["wrk", *flags, url + request.path], capture_output=True, text=True, check=True)
    return parse(done.stdout)


def parse(report: str) -> Load:
    """The figures in wrk's report; SystemExit where an answer failed, for then they measure something else."""
    rate = RATE.search(report)
    if rate is None or any(trouble in report for trouble in TROUBLE):
        raise SystemExit(report)
    return Load(float(rate[1]), _percentile(report, 50), _percentile(report, 99))


def required() -> None:
    """Stop where there is no wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk: apt-get install wrk")


def _percentile(report: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m) *$", report, re.MULTILINE)
    if found is None:
        raise SystemExit(report)
    return float(found[1]) * SECOND[found[2]]


def _script(request: Request, folder: Path) -> Path:
    body, script = folder / "body", folder / "request.lua"
    body.write_bytes(request.body)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items()]
    read = f'local f = io.open("{body}", "rb"); wrk.body = f:read("*all"); f:close()'
    script.write_text("\n".join(['wrk.method = "POST"', read, *lines]))
    return script
