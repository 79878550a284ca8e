from pathlib import Path

from tests.cli.printed import SHIPPED, Run, plain


def test_the_shipped_model_verifies(run: Run) -> None:
    shipped = Path(__file__).parents[2] / "models"
    assert plain(run("verify", SHIPPED, "--models", shipped)).startswith(f"{SHIPPED} version 1: ok, sha256:")
