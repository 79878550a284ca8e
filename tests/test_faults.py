"""T1: every row of the fault tables that this service builds has a test, and every other one a reason.

The rows are those of tables A, B, C, D, F, G, I and J of the specification.
"""

import ast
import re
from functools import cache

import pytest

from tests.documents import ROOT, reference, section

ROWS = {"A": 22, "B": 20, "C": 10, "D": 22, "F": 10, "G": 13, "H": 16, "I": 9, "J": 10}
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_"))


def rows() -> list[tuple[str, list[str]]]:
    """Row and its other cells, of every table of the page."""
    lines = [
        line.strip("| ").split(" | ") for line in reference("faults").splitlines() if re.match(r"\| [A-J]\d", line)
    ]
    return [(row, cells) for row, *cells in lines]


def test_every_row_is_listed_once_as_built_or_as_open() -> None:
    expected = [f"{table}{number}" for table, count in ROWS.items() for number in range(1, count + 1)]
    assert sorted(row for row, _ in rows()) == sorted(expected)


def test_every_open_row_has_a_reason() -> None:
    reasons = {row: cells[-1] for row, cells in rows() if len(cells) == 2}
    listed = re.findall(r"^\| ([A-J]\d+) ", section(reference("faults"), "Open rows"), re.MULTILINE)
    assert listed == list(reasons)
    assert all(len(reason.split()) >= 5 for reason in reasons.values())


@pytest.mark.parametrize(
    ("row", "cells"), [pytest.param(row, cells, id=row) for row, cells in rows() if len(cells) == 3]
)
def test_every_built_row_names_tests_that_exist(row: str, cells: list[str]) -> None:
    named = TEST.findall(cells[-1])
    assert named, row
    assert [f"{file}::{name}" for file, name in named if name not in functions_of(file)] == []
