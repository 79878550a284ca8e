import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import IDENTITY


def test_a_draft_in_the_way_is_not_overwritten_without_force(
    linear_graph: Callable[..., Path], fails: Callable[..., str], invoke: Callable[..., Result], tmp_path: Path
) -> None:
    arguments = ("import", linear_graph(*IDENTITY), "--name", "m", "--models", tmp_path / "models")
    assert invoke(*arguments).exit_code == 0
    assert "--force" in fails(*arguments)
    assert invoke(*arguments, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--classes", "a,b", "--classes-from", "NAMES"), "--classes and --classes-from name the same thing"),
        (("--features-from", "NAMES", "--width", "2"), "--width numbers the features that --features names"),
        (("--width", "0"), "0 is not in the range"),
    ],
)
def test_flags_that_name_the_same_thing_twice_are_bad_usage(
    flags: tuple[str, ...],
    reason: str,
    invoke: Callable[..., Result],
    linear_graph: Callable[..., Path],
    tmp_path: Path,
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a, with a comma\nb\n")
    given = [str(names) if flag == "NAMES" else flag for flag in flags]
    result = invoke("import", linear_graph(*IDENTITY), "--name", "m", "--models", tmp_path / "models", *given)
    assert result.exit_code == 2
    assert reason in result.output


def test_names_with_commas_come_from_files(
    invoke: Callable[..., Result], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    names, models = tmp_path / "names.txt", tmp_path / "models"
    names.write_text("a, with a comma\nb\n")
    flags = ("--classes-from", names, "--features-from", names, "--name", "m", "--models", models, "--json")
    result = invoke("import", linear_graph(*IDENTITY), *flags)
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["conclusions"]["classes"]["value"] == ["a, with a comma", "b"]
    assert printed["guards"].startswith("guards: ")
    assert Repository(models).draft("m").manifest.columns == ("a, with a comma", "b")
