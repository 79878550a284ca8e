from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED


def test_score_writes_a_row_for_every_row_and_prints_how_many(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    arguments = ("--data", data_folder / "test.csv", "--out", out, "--models", repository.root)
    assert invoke("score", SHIPPED, *arguments).stdout == f"Wrote {out}: 143 rows.\n"
    assert len(out.read_text().splitlines()) == 144
