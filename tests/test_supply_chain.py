"""What the service is made of: nothing that turns a caller's bytes into code, and version floors of what had faults."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
SERVING, OFFLINE = ROOT / "requirements.lock", ROOT / "requirements-offline.lock"
SOURCES = sorted((ROOT / "service").rglob("*.py"))

BANNED_PACKAGES = ("python-jose", "ujson", "python-multipart", "pyyaml", "joblib", "dill", "cloudpickle", "msgpack")
BANNED_MODULES = ("pickle", "marshal", "shelve", "yaml", "joblib", "dill", "cloudpickle", "jose", "ujson", "multipart")
BANNED_CALLS = ("eval", "exec", "compile", "__import__")
FLOORS = {"onnx": "1.21", "starlette": "1.3.1", "fastapi": "0.109.1", "pyjwt": "2.12", "uvicorn": "0.51"}


def locked(lock: Path) -> dict[str, str]:
    """What is installed of a lock, with its versions."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def called(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.parametrize("package", BANNED_PACKAGES)
def test_a_package_that_reads_code_from_bytes_is_not_installed_for_serving(package: str) -> None:
    assert "fastapi" in locked(SERVING)
    assert package not in locked(SERVING)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_reads_code_from_bytes(path: Path) -> None:
    assert set(imported(path)).isdisjoint(BANNED_MODULES)
    assert set(called(path)).isdisjoint(BANNED_CALLS)


def test_arrays_are_read_without_pickles() -> None:
    calls = [
        (path.name, keyword.value)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and "load" in ast.unparse(node.func)
        for keyword in node.keywords
        if keyword.arg == "allow_pickle"
    ]
    assert calls
    assert all(isinstance(value, ast.Constant) and value.value is False for _, value in calls)


@pytest.mark.parametrize("package", FLOORS)
def test_packages_are_newer_than_their_known_faults(package: str) -> None:
    assert Version(locked(OFFLINE)[package]) >= Version(FLOORS[package])


def test_what_serves_is_part_of_what_works_offline() -> None:
    assert locked(SERVING).items() <= locked(OFFLINE).items()
