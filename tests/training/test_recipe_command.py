"""The command line of recipes."""

import sys
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")

from service.training.recipe_command import run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")  # which puts their number back


def made(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[tuple[Path, int]]:
    """What the recipe is called with."""
    calls: list[tuple[Path, int]] = []
    monkeypatch.setattr(sys, "argv", ["recipe.py", *arguments])
    run_recipe(lambda models, seeds: calls.append((models, seeds)), "How it is made.\n\nMore.")
    return calls


def test_a_recipe_publishes_into_the_repository_and_compares_over_ten_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, "--models", "build/models") == [(Path("build/models"), 10)]


def test_the_number_of_seeds_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, "--models", "m", "--seeds", "2") == [(Path("m"), 2)]


def test_a_recipe_runs_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    made(monkeypatch, "--models", "m")
    assert torch.get_num_threads() == 1


def test_a_recipe_needs_a_repository(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        made(monkeypatch)
    assert "--models" in capsys.readouterr().err


def test_the_help_says_what_the_recipe_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        made(monkeypatch, "--help")
    assert "How it is made." in capsys.readouterr().out
