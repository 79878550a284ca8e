import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED, Run, plain
from tests.small_graphs import draft_unloaded, graph, loop, node, publish_unloaded, slow_load

UNDER_A_SECOND = ("--load-seconds", "0.5")


def test_the_shipped_model_verifies(run: Run) -> None:
    shipped = Path(__file__).parents[2] / "models"
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
