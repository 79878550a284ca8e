"""`temperance` alone, without the packages of the extra `offline`: what works, and what the rest says."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli.extras import Missing, extra_of
from service.cli.main import VERBS
from tests.cli.printed import one_line
from tests.shipped_model import NAME, SHIPPED

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKED = re.compile(r"^([\w.-]+)==", re.MULTILINE)
INSTALL = "pip install 'temperance[offline]'"
UNAVAILABLE = {"evaluate", "fit", "import", "publish", "refit", "score"}
"""Verbs that do nothing without the extra."""


def package(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0]


OFFLINE = sorted(map(package, PROJECT["optional-dependencies"]["offline"]))
WITHOUT = f"""
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OFFLINE}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
from service.cli.main import main
main()
"""
Without = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def without(tmp_path: Path) -> Without:
    """Runs the command where the packages of `offline` cannot be imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TEMPERANCE_")}
    places = {"TEMPERANCE_MODELS": str(SHIPPED), "TEMPERANCE_DATA": str(tmp_path / "data")}

    def temperance(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=clean | places, capture_output=True, text=True, check=False, timeout=60
        )

    return temperance


def test_what_serves_is_locked_without_any_package_of_the_extra() -> None:
    serving, offline = (
        set(LOCKED.findall((ROOT / name).read_text(encoding="utf-8")))
        for name in ("requirements.lock", "requirements-offline.lock")
    )
    assert serving.isdisjoint(OFFLINE)
    assert offline >= serving | set(OFFLINE)


def test_the_help_lists_every_verb_and_what_the_others_need(without: Without) -> None:
    done = without("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(re.findall(r"^  (\w+) +(.+)$", done.stdout.partition("Commands:")[2], re.MULTILINE))
    assert lines.keys() == VERBS.keys()
    assert {verb for verb, text in lines.items() if text == "(needs temperance[offline])"} == UNAVAILABLE


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_has_help_or_one_line_that_says_what_to_install(verb: str, without: Without) -> None:
    done = without(verb, "--help")
    if verb in UNAVAILABLE:
        assert done.returncode == 1
        assert INSTALL in one_line(done)
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: temperance {verb}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("inspect", NAME),
        ("verify", NAME),
        ("doctor", "--json"),
        ("keys", "create", "--name", "ehr"),
        ("audit", "keys", "create"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])).replace(f"{SHIPPED}/", ""),
)
def test_a_verb_of_operation_needs_no_package_of_the_extra(arguments: tuple[object, ...], without: Without) -> None:
    done = without(*arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", sorted(UNAVAILABLE))
def test_an_unavailable_verb_takes_any_arguments_to_say_so(verb: str, without: Without) -> None:
    done = without(verb, NAME, "--data", "rows.csv", "--unknown", "1")
    assert done.returncode == 1
    assert INSTALL in one_line(done)


def test_a_graph_file_is_refused_with_one_line_by_a_verb_that_works_on_versions(without: Without) -> None:
    done = without("inspect", SHIPPED / NAME / "1" / "model.onnx")
    assert done.returncode == 1
    assert INSTALL in one_line(done)


@pytest.mark.parametrize("module", OFFLINE)
def test_a_module_of_the_extra_is_known_by_its_package(module: str) -> None:
    missing = Missing.of(ModuleNotFoundError(name=f"{module}.part"))
    assert missing is not None
    assert missing.requirement == "temperance[offline]"


@pytest.mark.parametrize("module", ["numpy", "service.main", "", "there_is_none"])
def test_the_absence_of_any_other_module_is_a_defect_and_not_hidden(module: str) -> None:
    assert extra_of(module) is None
    assert Missing.of(ModuleNotFoundError(name=module)) is None
