"""Reading a graph takes time in proportion to its size: no walk over all of it for every one of its parts."""

import time
from pathlib import Path

import pytest

from service.errors import ServiceError
from service.graph.encodings import find_encodings
from service.graph.inspect import inspect_graph
from service.graph.mixing import batch_sizes, dynamic_operators, in_training, steps
from service.graph.walk import MOST_STEPS, view
from tests.graph.large_graphs import LARGE, Build

SHORT, WHOLE = 4000, 20_000
SECONDS = 5.0  # of this process' own time; a walk over all operators for each took 150 s of WHOLE


def _refusal(path: Path) -> str:
    try:
        model = inspect_graph(path).model
        for read in (find_encodings, in_training):
            read(model)
        for output in list(model.graph.output)[:2]:
            for of_output in (steps, batch_sizes, dynamic_operators):
                of_output(model, output.name)
    except ServiceError as error:
        return str(error)
    return ""


def _spent(path: Path, build: Build, count: int) -> float:
    path.write_bytes(build(count).SerializeToString())
    began = time.process_time()
    assert "\n" not in _refusal(path)
    return time.process_time() - began


@pytest.mark.parametrize("name", LARGE)
def test_thousands_of_operators_are_read_within_five_seconds(name: str, tmp_path: Path) -> None:
    assert _spent(tmp_path / "m.onnx", LARGE[name], SHORT) < SECONDS


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_twenty_thousand_operators_are_read_within_five_seconds(name: str, tmp_path: Path) -> None:
    assert _spent(tmp_path / "m.onnx", LARGE[name], WHOLE) < SECONDS


def test_what_cannot_be_followed_in_time_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(LARGE["outputs of a chain"](SHORT).SerializeToString())
    assert "too many operators for its many inputs and outputs" in _refusal(path)
    assert view(LARGE["outputs"](3)).allowance.left == MOST_STEPS
