"""The documents are true: their blocks run, and everything a user can set, call, read or get wrong is in them."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service import errors
from service.api.problems import STATUS, MethodNotAllowed, status_of
from service.api.v1.requests import field_names
from service.api.v1.verbs import VERBS as HTTP_VERBS
from service.cli.main import VERBS
from service.core.decision import REASONS
from service.settings import PREFIX, Settings
from service.telemetry import Telemetry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
"""The README and the pages it leads to, as one text."""
PASSING = frozenset({"id", "created", "prediction_id"})
HOME = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Block:
    """A fenced block, and the block right after it when that shows its output."""

    language: str
    text: str
    output: "Block | None" = None


def blocks(page: Path) -> Iterator[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for i, (language, text) in enumerate(found):
        following = found[i + 1] if i + 1 < len(found) else ("", "")
        output = Block(*following) if language == "bash" and following[0] in {"json", "text"} else None
        yield Block(language, text, output)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh clone after `make install`, where blocks may write."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    shutil.copytree(ROOT / "models", folder / "models")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs_and_prints_what_it_says(page, workplace, server):
    ran = 0
    for block in blocks(page):
        if block.language != "bash":
            continue
        script = block.text.replace(HOME, str(server.client.base_url).rstrip("/"))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=workplace, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.text}\n{done.stderr}"
        assert not done.stderr, f"{block.text}\n{done.stderr}"
        if block.output is not None:
            assert_shown(done.stdout, block.output)
        ran += 1
    assert ran >= 6 or page.name != "README.md"


def assert_shown(printed: str, shown: Block) -> None:
    if shown.language == "json":
        assert_close(json.loads(printed), json.loads(shown.text), "answer")
    else:
        assert printed.strip() == shown.text.strip()


def assert_close(found: object, shown: object, place: str) -> None:
    """Equal but for ids and times, numbers to 1e-6."""
    if isinstance(shown, dict):
        assert isinstance(found, dict)
        assert found.keys() == shown.keys(), place
        for key in shown.keys() - PASSING:
            assert_close(found[key], shown[key], f"{place}.{key}")
    elif isinstance(shown, list):
        assert isinstance(found, list)
        for i, (a, b) in enumerate(zip(found, shown, strict=True)):
            assert_close(a, b, f"{place}[{i}]")
    elif isinstance(shown, float):
        assert isinstance(found, float), place
        assert math.isclose(found, shown, rel_tol=1e-6), place
    else:
        assert found == shown, place


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert named
    assert named <= targets


def test_every_setting_is_documented_with_its_default():
    for name, field in Settings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert f"| `{PREFIX}{name.upper()}` | `{default}` |" in README


def test_every_documented_setting_exists():
    named = set(re.findall(rf"`({PREFIX}[A-Z_]+)`", README))
    assert named == {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_every_verb_of_the_command_is_documented():
    documented = set(re.findall(r"^\| `temperance (\w+)` \|", README, re.MULTILINE))
    assert documented == set(VERBS)


def test_every_verb_and_parameter_of_the_wire_is_documented():
    for verb, kind in ((verb.name, verb.request) for verb in HTTP_VERBS.values()):
        assert f"| `{verb}` |" in README
        for parameter in field_names(kind)[len(kind.model_fields) :]:
            row = re.search(rf"^\| `{parameter}` \| ([^|]+) \|", README, re.MULTILINE)
            assert row is not None, parameter
            assert verb in row[1], f"{parameter} of {verb}"


def test_every_metric_is_documented_with_its_labels():
    telemetry = Telemetry(CollectorRegistry())
    for metric in (value for value in vars(telemetry).values() if hasattr(value, "_labelnames")):
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{name}` | {', '.join(metric._labelnames)} |" in README


def problem_types() -> Iterator[tuple[str, int]]:
    """Every code that can be on the wire, with its status."""
    pending: list[type[errors.ServiceError]] = [errors.ServiceError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind is not MethodNotAllowed:
            yield kind.code, status_of(kind("example"))


def test_every_problem_type_is_documented_with_its_status():
    assert STATUS
    offline = {"internal"}  # what the command alone raises shares this code and never reaches the wire
    for code, status in set(problem_types()) | {(MethodNotAllowed.code, 405)}:
        assert f"| `{code}` | {500 if code in offline else status} |" in README


def test_every_documented_problem_type_exists():
    documented = set(re.findall(r"^\| `([a-z-]+)` \| \d{3} \|", README, re.MULTILINE))
    assert documented == {code for code, _ in problem_types()} | {MethodNotAllowed.code}


def test_every_reason_of_a_decision_is_documented():
    assert all(f"`{reason}`" in README for reason in REASONS)


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))],
    ids=lambda page: page.name,
)
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_is_reached_from_the_readme():
    links = re.findall(r"\]\((docs/[^)#]+)", PAGES[0].read_text(encoding="utf-8"))
    assert {(ROOT / link).resolve() for link in links} == {page.resolve() for page in PAGES[1:]}


def test_the_map_names_every_module_of_the_package():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "service").rglob("*.py")):
        name = path.relative_to(ROOT / "service").as_posix()
        if path.name != "__init__.py":
            assert path.name in text, name
