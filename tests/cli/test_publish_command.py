from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from tests.cli.printed import IDENTITY, printed_json


def test_an_uncalibrated_publication_says_why(
    invoke: Callable[..., Result], linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    models = ("--models", tmp_path / "models")
    invoke("import", linear_graph(*IDENTITY), "--name", "m", *models)
    assert "Uncalibrated: it was never fitted." in invoke("publish", "m", *models).output
    assert "uncalibrated" in invoke("inspect", "m", *models).output
    assert printed_json(invoke("inspect", "m", *models, "--json"))["calibration"] is None
