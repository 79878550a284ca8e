import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from service.bundle.repository import Repository
from tests.cli.printed import SHIPPED, printed_json


def test_an_evaluation_goes_to_a_file_beside_the_table(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, tmp_path: Path
) -> None:
    arguments = ("evaluate", SHIPPED, "--data", data_folder / "test.csv", "--models", repository.root)
    result = invoke(*arguments, "--json", tmp_path / "report.json")
    assert "policy biopsy: cost per row" in result.stdout
    written = json.loads((tmp_path / "report.json").read_text())
    printed = printed_json(invoke(*arguments, "--json"))
    for found in (written, printed):
        report: Any = found["origin"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report.pop("created"))
    assert written == printed
    assert written["origin"]["file"] == "test.csv"
    assert written["evaluation"]["rows"] == 143


def test_an_evaluation_is_also_a_page_to_look_at_with_losses_and_checks_in_the_json(
    data_folder: Path, tmp_path: Path, repository: Repository, invoke: Callable[..., Result]
) -> None:
    page, found = tmp_path / "report.html", tmp_path / "report.json"
    arguments = ("--data", data_folder / "test.csv", "--models", repository.root, "--losses", "focal,cross_entropy")
    done = invoke("evaluate", SHIPPED, *arguments, "--html", page, "--json", found)
    assert done.exit_code == 0, done.output
    assert "is calibrated, as far as 143 rows can show" in done.stdout
    assert page.read_text().startswith("<!DOCTYPE html>")
    report = json.loads(found.read_text())["evaluation"]
    assert set(report["losses"]) == {"focal", "cross_entropy"}
    assert report["parts"]["rows"]["probabilities"]["calibration"]["of"] == "malignant"


def test_calibrators_are_compared_in_table_json_and_page(
    data_folder: Path, tmp_path: Path, repository: Repository, invoke: Callable[..., Result]
) -> None:
    page, found = tmp_path / "report.html", tmp_path / "report.json"
    arguments = ("--data", data_folder / "test.csv", "--models", repository.root, "--prequential")
    done = invoke("evaluate", SHIPPED, *arguments, "--html", page, "--json", found)
    assert done.exit_code == 0, done.output
    report = json.loads(found.read_text())["evaluation"]["prequential"]
    assert report["shortest"] == next(iter(report["calibrators"]))
    for text in (done.stdout, page.read_text()):
        assert "requential code length, bits per row" in text  # the page has a capital
        assert f"{report['calibrators'][report['shortest']]['bits_per_label']:.4f}" in text


def test_evaluate_says_which_version_it_measures_when_a_newer_one_exists(
    invoke: Callable[..., Result], repository: Repository, data_folder: Path, publish_again: Callable[[], int]
) -> None:
    arguments = ("evaluate", SHIPPED, "--data", data_folder / "test.csv", "--models", repository.root)
    assert "newest" not in invoke(*arguments).stderr
    publish_again()
    assert "this is version 1, which stable names; for version 2" in invoke(*arguments).stderr
    assert "newest" not in invoke(*arguments, "--version", "1").stderr
