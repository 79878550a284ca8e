"""What may import what, read from the source itself: true of files that no other test imports."""

import ast
import functools
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.core.calibration import CALIBRATORS
from service.core.ood import SCORES

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
    "ray": ("service/cluster/",),
    "starlette": ("service/api/", "service/main.py"),
}

PACKAGES = sorted({path.relative_to(ROOT / "service").parts[0].removesuffix(".py") for path in SOURCES} - {"__init__"})
LONGEST_FILE, LONGEST_BODY, MEDIAN_BODY = 400, 25, 5

COUNTERPARTS = frozenset(
    (
        "endpoint",
        "label_sets",
        "multiclass",
        "multilabel",
        "prequential",
        "requests",
        "responses",
        "routes",
        "sequence",
        "tasks",
    )
)
"""Names that modules of several packages share, because they are the same subject in each."""

NEVER = frozenset(
    re.findall(
        r"\w+",
        """
        asked belief beliefs believe believed elsewhere happened home judge judged judgement judgements judges judging
        lane lanes nobody paid presence promise promised promises said somebody stranger strangers told trust trusted
        turns wanted whoever
        """,
    )
)
"""Words that `DESIGN.md`, section 3, replaces by the field's; only those that are wrong in every name."""


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
    others = [m for m in imported(path) if not any(within(m, allowed) for allowed in CORE_MAY_IMPORT)]
    assert others == []


@pytest.mark.parametrize("package", DOORS)
def test_a_package_is_imported_through_its_one_door_only(package: str) -> None:
    trespassers = [
        named(path)
        for path in SOURCES
        if any(within(module, package) for module in imported(path)) and not named(path).startswith(DOORS[package])
    ]
    assert trespassers == []


@pytest.mark.parametrize(
    "library", ["polars", "onnx", "matplotlib", "jinja2", "rich", "torch", "onnxscript", "gymnasium"]
)
def test_serving_imports_nothing_that_only_other_verbs_need(library: str) -> None:
    loaded = loaded_by("service.cli.main, service.cli.serve_command, service.main")
    assert "uvicorn" in loaded
    assert library not in loaded


def test_nothing_in_the_service_imports_training_or_its_libraries() -> None:
    training = ROOT / "service/training"
    libraries = ("service.training", "torch", "gymnasium")
    importing = {
        named(path)
        for path in SOURCES
        if training not in path.parents and any(within(m, library) for m in imported(path) for library in libraries)
    }
    assert importing == set()


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


@pytest.mark.parametrize(("package", "registry"), [("calibration", CALIBRATORS), ("ood", SCORES)])
def test_a_registry_has_no_stray_module(package: str, registry: dict[str, type]) -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (own,) = (one for one in tools["importlinter"]["contracts"] if one.get("containers") == [f"service.core.{package}"])
    placed = {name for layer in own["layers"] for name in layer.split(" | ")}
    methods = {kind.__module__.rpartition(".")[2] for kind in registry.values()}
    assert {path.stem for path in modules(f"core/{package}")} == {"__init__"} | placed | methods


def test_core_can_be_imported_without_anything_heavier_than_numpy() -> None:
    code = (
        "import sys, service.core.pipeline, service.core.assessment.metrics;"
        "print([m for m in ('onnxruntime', 'onnx', 'fastapi', 'starlette', 'pydantic') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_importing_the_service_switches_the_runtimes_telemetry_off() -> None:
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


# ------------------------------------------------------------------------------------------------------ how code reads


def modules(package: str) -> list[Path]:
    """The modules of a package of `service`, or the one module of that name."""
    folder = ROOT / "service" / package
    return [path for path in SOURCES if folder in path.parents or path == folder.with_suffix(".py")]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of the body, without its docstring, of every function of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{named(path)}:{node.name}", lines


def names_in(path: Path) -> Iterator[str]:
    """Every name that a module gives or uses, and every key that is a text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Dict(keys=keys):
                yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
            case ast.Subscript(slice=ast.Constant(value=str(key))):
                yield key


def words_of(name: str) -> set[str]:
    """The words of a name in snake case or in camel case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_short(package: str) -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(package)}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    found = [one for path in modules(package) for one in functions(path)]
    assert [one for one in found if one[1] > LONGEST_BODY] == []


def test_half_of_all_functions_are_very_short() -> None:
    assert statistics.median(lines for path in SOURCES for _, lines in functions(path)) <= MEDIAN_BODY


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_test_at_the_mirrored_path_or_names_it(package: str) -> None:
    assert [named(path) for path in modules(package) if path.stem != "__init__" and not is_tested(path)] == []


def is_tested(path: Path) -> bool:
    place = path.relative_to(ROOT / "service")
    if (ROOT / "tests" / place.with_name(f"test_{place.name}")).exists():
        return True
    document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    stated = re.findall(r"tests/[\w/]+(?:\.py)?", " ".join(document.split()).partition("Tested in ")[2])
    return bool(stated) and all((ROOT / test).exists() for test in stated)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_dispatched_by_the_names_of_attributes(package: str) -> None:
    forbidden = re.compile(r"\b(hasattr|setattr|globals)\(|inspect\.signature")
    assert [named(path) for path in modules(package) if forbidden.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_frozen_values_are_never_written_to(package: str) -> None:
    assert [named(path) for path in modules(package) if "__setattr__" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_names_and_keys_are_the_fields_words(package: str) -> None:
    found = {f"{named(path)}:{name}" for path in modules(package) for name in names_in(path) if words_of(name) & NEVER}
    assert sorted(found) == []


def test_names_of_tests_are_the_fields_words() -> None:
    never = NEVER - {"home"}  # one test is about the home folder
    names = [name for path in sorted((ROOT / "tests").rglob("test_*.py")) for name, _ in functions(path)]
    tests = [name for name in names if ":test_" in name]
    assert len(tests) > 1000
    assert [name for name in tests if words_of(name.partition(":")[2]) & never] == []


def test_modules_of_different_packages_share_a_name_only_where_they_are_counterparts() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        places[path.stem].add(named(path))
    shared = {stem: sorted(files) for stem, files in places.items() if len(files) > 1}
    mains = {"__init__", "main"}  # of a package, of a program
    assert {stem: files for stem, files in shared.items() if stem not in COUNTERPARTS | mains} == {}


def test_the_check_of_names_splits_them_into_words() -> None:
    assert words_of("JudgedRows") | words_of("rows_told") | words_of("_UIDs") == {"judged", "rows", "told", "ui", "ds"}
