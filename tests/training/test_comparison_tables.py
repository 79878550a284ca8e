"""Tables of a card."""

import numpy as np
import pytest

pytest.importorskip("torch")

from service.training.comparison_tables import difference_table, split_table, spread_table
from service.training.example_sets import Examples
from service.training.seeds import Spread

FOUND = {
    "focal | raw | cost": Spread((1.0, 2.0, 3.0)),
    "focal | calibrated | cost": Spread((0.5, 1.5, 2.5)),
}


def test_a_split_shows_its_rows_and_those_of_each_class_even_where_there_are_none() -> None:
    part = Examples(np.zeros((5, 1), dtype=np.float32), np.array([0, 0, 1, 1, 1]))
    assert split_table({"test": part}, ["no", "yes", "maybe"]).splitlines() == [
        "| split | rows | no | yes | maybe |",
        "|---|---|---|---|---|",
        "| test | 5 | 2 | 3 | 0 |",
    ]


def test_a_row_has_a_cell_for_each_part_of_its_name_and_for_each_measure() -> None:
    text = spread_table(FOUND, ["loss", "chain"], ["focal | raw", "focal | calibrated"], {"cost": "cost per row"})
    assert text.splitlines() == [
        "| loss | chain | cost per row |",
        "|---|---|---|",
        "| focal | raw | 2.000 (1.000) |",
        "| focal | calibrated | 1.500 (1.000) |",
    ]


def test_a_difference_is_paired_by_seed() -> None:
    text = difference_table(FOUND, [("focal | calibrated", "focal | raw")], {"cost": "cost per row"})
    line = text.splitlines()[-1]
    assert line == "| focal, calibrated less focal, raw | -0.500 (-0.500 to -0.500) |"
