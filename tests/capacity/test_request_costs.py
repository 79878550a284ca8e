import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from service.capacity.request_costs import NAMES, CapacityError, Costs, read_costs, with_values, write_costs

COSTS = Costs(rows=3, request_seconds=1e-4, joint_turn_seconds=4e-4, turn_seconds=1e-4, run_seconds=1e-3)


def test_costs_that_were_written_are_read_again(tmp_path: Path) -> None:
    write_costs(COSTS, tmp_path / "costs.json")
    assert read_costs(tmp_path / "costs.json") == COSTS


def test_costs_that_a_file_leaves_out_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text('{"run_seconds": 0.5}')
    assert read_costs(tmp_path / "costs.json") == Costs(run_seconds=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"rowz": 1}', "there is no such cost; the costs are rows, "),
        ('{"rows": 0}', "rows must be a number of at least 1"),
        ('{"run_seconds": -1}', "run_seconds must be a number of at least 0"),
        ('{"run_seconds": NaN}', "run_seconds must be a number of at least 0"),
        ('{"run_seconds": "much"}', "run_seconds must be a number"),
    ],
)
def test_an_error_names_the_file_and_what_is_wrong_and_repeats_no_unknown_name(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(CapacityError, match=message) as caught:
        read_costs(tmp_path / "costs.json")
    assert str(tmp_path / "costs.json") in str(caught.value)
    assert "rowz" not in str(caught.value)


def test_values_replace_some_of_the_costs() -> None:
    assert with_values(COSTS, ["rows=5", "run_seconds=2e-3"]) == replace(COSTS, rows=5, run_seconds=2e-3)
    with pytest.raises(CapacityError, match="there is no such cost"):
        with_values(COSTS, ["x=1"])
    with pytest.raises(CapacityError, match="rows must be a number"):
        with_values(COSTS, ["rows"])


def test_every_cost_is_a_number_that_json_holds() -> None:
    assert set(json.loads(json.dumps(asdict(COSTS)))) == set(NAMES)


def test_a_joint_run_costs_the_event_loop_what_was_measured() -> None:
    assert COSTS.turn_of(1) == COSTS.turn_seconds
    assert COSTS.turn_of(9) + 2 * COSTS.gather_seconds == pytest.approx(COSTS.joint_turn_seconds)
    assert replace(COSTS, joint_turn_seconds=0.0).gather_seconds == 0.0
