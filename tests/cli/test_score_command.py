from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from service.bundle.repository import Repository
from service.cluster import connection
from service.errors import SettingsInvalid
from tests.cli.printed import SHIPPED


def test_score_writes_a_row_for_every_row_and_prints_how_many(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    arguments = ("--data", data_folder / "test.csv", "--out", out, "--models", repository.root)
    assert invoke("score", SHIPPED, *arguments).stdout == f"Wrote {out}: 143 rows.\n"
    assert len(out.read_text().splitlines()) == 144


def test_score_says_that_a_part_with_a_larger_number_comes_first(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("part-1", "part-2", "part-10"):
        (folder / f"{name}.csv").write_bytes((data_folder / "test.csv").read_bytes())
    result = invoke("score", SHIPPED, "--data", folder, "--out", tmp_path / "o.csv", "--models", repository.root)
    assert result.stderr == "note: parts are read in the order of their names: part-10.csv before part-2.csv\n"
    assert result.stdout == f"Wrote {tmp_path / 'o.csv'}: 429 rows.\n"


@pytest.mark.parametrize("option", [("--address", "10.0.0.1:6379"), ("--parallel", 2)])
def test_options_of_ray_need_its_engine(
    option: tuple[str, object], invoke: Callable[..., Result], data_folder: Path, tmp_path: Path
) -> None:
    result = invoke("score", SHIPPED, "--data", data_folder / "test.csv", "--out", tmp_path / "o.csv", *option)
    assert result.exit_code == 2
    assert "--address and --parallel are of --engine ray" in result.stderr


def test_score_by_ray_without_ray_says_what_to_install(
    invoke: Callable[..., Result],
    repository: Repository,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "find_spec", lambda _: None)
    arguments = ("--data", data_folder / "test.csv", "--out", tmp_path / "o.csv", "--models", repository.root)
    result = invoke("score", SHIPPED, *arguments, "--engine", "ray")
    assert isinstance(result.exception, SettingsInvalid)
    assert str(result.exception) == "Ray is not installed: pip install 'temperance[ray]'"
