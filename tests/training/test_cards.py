import json

import pytest

from service.evaluation.number_format import EMPTY
from service.evaluation.prequential import CodedLabels, PrequentialReport
from service.training.cards import card, coded_table, table, write_card

PROSE = "# {name}\n\nLog loss {test.log_loss}, {test.rows} rows.\n\n{tables.losses}\n\n![](figures/curve.svg)\n"
METRICS = {
    "name": "thyroid",
    "test": {"log_loss": 0.04321, "rows": 700},
    "tables": {"losses": table(["loss", "ECE"], [["focal", "0.010"]])},
}


@pytest.fixture
def written(tmp_path):
    (tmp_path / "card.md.in").write_text(PROSE, encoding="utf-8")
    write_card(tmp_path, METRICS, {"curve": "<svg/>\n"}, prose=tmp_path / "card.md.in")
    return tmp_path


def test_the_card_is_its_prose_with_the_numbers_of_the_run(written):
    text = (written / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# thyroid\n\nLog loss 0.043, 700 rows.\n\n| loss | ECE |\n|---|---|\n| focal | 0.010 |\n")


def test_numbers_and_pictures_lie_beside_the_card(written):
    assert json.loads((written / "metrics.json").read_text()) == METRICS
    assert (written / "figures" / "curve.svg").read_text() == "<svg/>\n"


def test_a_second_run_writes_over_the_first(written):
    write_card(written, METRICS | {"name": "other"}, {}, prose=written / "card.md.in")
    assert (written / "README.md").read_text().startswith("# other")


def test_a_place_without_a_number_is_refused():
    with pytest.raises(KeyError, match="log_los"):
        card("{test.log_los}", METRICS)


def test_a_number_that_is_none_is_not_written(tmp_path):
    (tmp_path / "card.md.in").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_card(tmp_path, {"test": float("nan")}, {}, prose=tmp_path / "card.md.in")


def test_braces_that_name_nothing_stay():
    assert card('{"instances": [[1]]} {name}', METRICS) == '{"instances": [[1]]} thyroid'


def test_a_table_of_code_lengths_holds_calibrators_as_they_are_sorted():
    coded = {"identity": CodedLabels(0, 64.0, 0.64, 0.0, 0.0), "platt": CodedLabels(2, 65.0, 0.65, 0.01, None)}
    report = PrequentialReport(0, (16, 84), "identity", coded, (), {})
    assert coded_table(report).splitlines()[2:] == [
        "| identity | 0.6400 | 0.0000 | 0.0000 |",
        f"| platt | 0.6500 | 0.0100 | {EMPTY} |",
    ]
