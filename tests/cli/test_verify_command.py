import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from tests import shipped_model
from tests.cli.printed import SHIPPED, Run, one_line, plain
from tests.small_graphs import draft_unloaded, graph, loop, node, publish_unloaded, slow_load

UNDER_A_SECOND = ("--load-seconds", "0.5")


def test_the_shipped_model_verifies(run: Run) -> None:
    shipped = shipped_model.SHIPPED
    assert plain(run("verify", SHIPPED, "--models", shipped)).startswith(f"{SHIPPED} version 1: ok, sha256:")


def test_a_graph_that_never_ends_is_refused_in_time(fails: Callable[..., str], tmp_path: Path) -> None:
    repository, began = Repository(tmp_path / "models"), time.monotonic()
    publish_unloaded(repository, tmp_path, "good", graph(node("Identity")))
    publish_unloaded(repository, tmp_path, "endless", loop())
    line = fails("verify", "endless", "--models", repository.root, *UNDER_A_SECOND)
    assert "endless/1: it did not load and pass its self-test within 0.5 s" in line
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize("verb", [["publish", "endless"], ["fit", "endless", "--data", "rows.csv"]])
def test_a_draft_that_never_ends_is_refused_in_time_before_it_is_published(
    fails: Callable[..., str], tmp_path: Path, verb: list[str]
) -> None:
    repository = Repository(tmp_path / "models")
    draft_unloaded(repository, tmp_path, "endless", slow_load())
    line = fails(*verb, "--models", repository.root, *UNDER_A_SECOND)
    assert "endless/draft: it did not load and pass its self-test within 0.5 s" in line
    assert repository.versions("endless") == []


@pytest.mark.parametrize("file", ["aliases.toml", "retired.toml"])
@pytest.mark.parametrize("text", ["stable: 1", f"a = {'[' * 100_000}", f"{'.'.join('a' * 100_000)} = 1", "a = 1\x00"])
def test_a_damaged_list_of_aliases_or_of_retired_versions_is_one_line(
    text: str, file: str, run: Run, repository: Repository
) -> None:
    (repository.root / SHIPPED / file).write_text(text)
    assert f"{SHIPPED}/{file} is " in one_line(run("verify", SHIPPED, "--models", repository.root, code=1))


@pytest.mark.parametrize("text", ["stable = 7", 'stable = "1"', "stable = 1\ncanary = 2"])
def test_an_alias_that_names_no_published_version_is_one_line(text: str, run: Run, repository: Repository) -> None:
    (repository.root / SHIPPED / "aliases.toml").write_text(text)
    line = one_line(run("verify", SHIPPED, "--models", repository.root, code=1))
    assert "aliases.toml: alias " in line
    assert "does not name a published version" in line


def test_a_pipe_in_a_file_s_place_is_one_line_and_not_waited_for(run: Run, repository: Repository) -> None:
    path = repository.root / SHIPPED / "1" / "manifest.toml"
    path.unlink()
    os.mkfifo(path)
    line = one_line(run("verify", SHIPPED, "--models", repository.root, code=1))
    assert "1/manifest.toml is not a regular file: it is a named pipe" in line


@pytest.mark.parametrize("name", ["..", "../breast-cancer", "a" * 65, ".DS_Store", "ä", "a\nb"])
def test_a_name_that_no_model_can_have_is_one_line(name: str, run: Run, repository: Repository) -> None:
    line = one_line(run("verify", name, "--models", repository.root, code=1))
    assert "a model's name has at most 64 letters" in line
