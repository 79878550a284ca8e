from xml.etree import ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("torch")

from service.runtime.model import Model
from service.training.cart_pole import HORIZONS
from service.training.closed_loop import Outcome
from service.training.example_sets import Examples
from service.training.imitation_tables import (
    ACTORS,
    MEASURES,
    compounded_chart,
    hand_over_table,
    learner_table,
    outcome_table,
    reliability_chart,
    version_table,
)
from service.training.seeds import Spread


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def spreads(names: list[str], *, first: float = 1.0) -> dict[str, Spread]:
    return {name: Spread((first + i, first + i + 0.5)) for i, name in enumerate(names)}


def test_learners_stand_side_by_side_with_their_paired_difference() -> None:
    numbers = spreads([f"a {key}" for key in MEASURES]) | spreads([f"b {key}" for key in MEASURES], first=0.75)
    rows = cells(learner_table(numbers, "a", "b"))
    assert rows[0][1:] == ["a", "b", "a less b (95 % interval)"]
    assert [row[0] for row in rows[2:]] == list(MEASURES.values())
    assert rows[2][1:] == ["1.250 (0.354)", "1.000 (0.354)", "+0.250 (+0.250 to +0.250)"]


def test_the_monitor_is_compared_with_every_other_actor() -> None:
    rows = cells(hand_over_table(spreads(list(ACTORS))))
    assert [row[0] for row in rows[2:]] == list(ACTORS.values())
    assert [row[2] == "" for row in rows[2:]] == [key == "monitor" for key in ACTORS]
    assert rows[2][2] == "+1.000 (+1.000 to +1.000)"


def outcome(failed: list[float], *, share: float = 0.0) -> Outcome:
    return Outcome(np.array(failed), 1000, share, share, share, 4.0)


def test_outcomes_are_compared_with_the_first_in_pairs() -> None:
    table = outcome_table(
        {"alone": outcome([1.0, 1.0, 0.0, 1.0]), "watched": outcome([0.0, 0.0, 0.0, 0.0], share=0.25)}
    )
    header, _, alone, beside = cells(table)
    assert len(header) == len(alone) == len(beside)
    assert alone[1].startswith("3 of 4 (30 to 95 %)")
    assert alone[2] == ""
    assert beside[2].startswith("-0.75 (")
    assert beside[3:] == ["25.0 %", "25.0 %", "25.0 %"]


@pytest.fixture
def rows() -> Examples:
    inputs = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    return Examples(inputs, (inputs[:, 1] > inputs[:, 0]).astype(np.int64))


def test_a_version_is_shown_on_both_courses(uncalibrated: Model, rows: Examples) -> None:
    table = cells(version_table({"old": (uncalibrated, rows, rows)}))
    assert [row[:3] for row in table[2:]] == [["`old`", "the expert's", "0.000"], ["`old`", "its own", "0.000"]]
    assert len({len(row) for row in table}) == 1


def test_charts_are_svg_files_of_a_moderate_size(uncalibrated: Model, rows: Examples) -> None:
    names = [f"{learner} cost {steps}" for learner in ("a", "b") for steps in HORIZONS]
    numbers = spreads(names) | {"a error": Spread((0.05, 0.06))}
    for svg in (compounded_chart(numbers, {"a": "first", "b": "second"}), reliability_chart(uncalibrated, rows, rows)):
        assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314  # our own file
        assert len(svg) < 60_000
