"""What the command's tests share: names, and what a run printed."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest
from click.testing import Result

SHIPPED = "breast-cancer"
IDENTITY = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def plain(done: "subprocess.CompletedProcess[str]") -> str:
    """Standard output, if nothing on it or beside it was meant for a terminal."""
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.stdout == ""
    assert re.fullmatch(r"temperance: [^\n]+\n", done.stderr)
    return done.stderr


def printed_json(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert isinstance(found, dict)
    return found
