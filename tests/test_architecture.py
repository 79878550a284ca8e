"""What may import what, read from the source itself: true of files that no other test imports."""

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "service").rglob("*.py"))
CORE = [path for path in SOURCES if (ROOT / "service/core") in path.parents]

CORE_MAY_IMPORT = (
    "numpy",
    "service.core",
    "typing",
    "dataclasses",
    "math",
    "functools",
    "collections.abc",
)
DOORS = {
    "onnxruntime": ("service/runtime/",),
    "onnx": ("service/graph/",),
    "fastapi": ("service/api/", "service/main.py"),
    "starlette": ("service/api/", "service/main.py"),
}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, at its top or inside a function; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


@pytest.mark.parametrize("path", CORE, ids=named)
def test_core_imports_numpy_itself_and_a_few_plain_modules(path: Path) -> None:
    strangers = [m for m in imported(path) if not any(within(m, allowed) for allowed in CORE_MAY_IMPORT)]
    assert strangers == []


@pytest.mark.parametrize("package", DOORS)
def test_a_package_is_imported_through_its_one_door_only(package: str) -> None:
    trespassers = [
        named(path)
        for path in SOURCES
        if any(within(module, package) for module in imported(path)) and not named(path).startswith(DOORS[package])
    ]
    assert trespassers == []


@pytest.mark.parametrize("library", ["polars", "onnx", "matplotlib", "jinja2", "rich"])
def test_serving_imports_nothing_that_only_other_verbs_need(library: str) -> None:
    loaded = loaded_by("service.cli.main, service.cli.serve_command, service.main")
    assert "uvicorn" in loaded
    assert library not in loaded


def test_the_verb_is_there_before_numpy_so_that_it_can_say_how_to_multiply() -> None:
    assert "numpy" not in loaded_by("service.cli.main, service.cli.serve_command")


@functools.cache
def loaded_by(modules: str) -> frozenset[str]:
    code = f"import sys, {modules}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return frozenset(ended.stdout.split())


def test_the_check_sees_what_is_there() -> None:
    assert "numpy" in set(imported(ROOT / "service/core/numerics.py"))
    assert len(CORE) > 10


def test_core_can_be_imported_without_anything_heavier_than_numpy() -> None:
    code = (
        "import sys, service.core.pipeline, service.core.assessment.metrics;"
        "print([m for m in ('onnxruntime', 'onnx', 'fastapi', 'starlette', 'pydantic') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_importing_the_service_turns_the_runtimes_telemetry_off() -> None:
    assert run_python("import service, os; print(os.environ['ORT_DISABLE_TELEMETRY'])") == "1"


def test_telemetry_stays_off_even_where_the_environment_says_otherwise() -> None:
    code = "import service, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_python(code, ORT_DISABLE_TELEMETRY="0") == "1"


def run_python(code: str, **variables: str) -> str:
    """What a fresh interpreter prints; the one of the tests has long imported everything."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | variables
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
