"""Waits, runs and deadlines are measured on the monotonic clock: when the time of day jumps, nothing happens."""

import ast
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
PACKAGES = ("api", "prediction", "runtime", "access")
WALL_CLOCKS = {("time", "time"), ("time", "localtime"), ("datetime", "now"), ("datetime", "utcnow")}
SHOWN = {
    ("runtime/timing.py", "time"),  # when a model last ran, as /v2 shows it
    ("api/idempotency.py", "time"),  # for how long other processes, later ones too, find a stored answer
}


def uses(path: Path) -> set[tuple[str, str]]:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    attributes = (call for call in calls if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name))
    found = {(call.value.id, call.attr) for call in attributes}  # type: ignore[attr-defined]
    return {(path.relative_to(SERVICE).as_posix(), name) for module, name in found if (module, name) in WALL_CLOCKS}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_duration_is_measured_by_the_time_of_day(package: str) -> None:
    found = set().union(*(uses(path) for path in (SERVICE / package).rglob("*.py")))
    assert found <= SHOWN
