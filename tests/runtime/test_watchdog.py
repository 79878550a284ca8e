"""Runs that do not end by themselves."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.errors import DeadlineExceeded
from service.runtime.session import Session

FOREVER, ONCE = 1 << 60, 1


@pytest.fixture
def loops(graph_of: Callable[..., Path]) -> Session:
    """A graph that adds one to its input as often as its other input says."""
    number = helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 1])
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Constant", [], ["one"], value=helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])),
            helper.make_node("Add", ["v", "one"], ["v_next"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            number,
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_next", TensorProto.FLOAT, [None, 1]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["times"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "", "x"], ["scores"], body=step),
    ]
    inputs = {"x": (TensorProto.FLOAT, [None, 1]), "times": (TensorProto.INT64, [None, 1])}
    return Session(graph_of(nodes, inputs, {"scores": (TensorProto.FLOAT, [None, 1])}))


def feeds(times: int) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32] | np.dtype[np.int64]]]:
    return {"x": np.zeros((1, 1), np.float32), "times": np.full((1, 1), times, np.int64)}


def test_a_run_that_does_not_end_is_ended_at_its_deadline_and_the_next_one_answers(loops: Session) -> None:
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="did not end in time"):
            loops.run("scores", feeds(FOREVER), deadline=started + 0.05)
        assert time.monotonic() - started < 5.0
        assert loops.run("scores", feeds(ONCE), deadline=time.monotonic() + 60).tolist() == [[1.0]]


def test_an_early_deadline_is_kept_while_a_late_one_is_watched(loops: Session) -> None:
    loops.run("scores", feeds(ONCE), deadline=time.monotonic() + 3600)
    with pytest.raises(DeadlineExceeded):
        loops.run("scores", feeds(FOREVER), deadline=time.monotonic() + 0.05)


def test_a_deadline_that_has_passed_ends_a_run_at_once(loops: Session) -> None:
    with pytest.raises(DeadlineExceeded):
        loops.run("scores", feeds(FOREVER), deadline=time.monotonic() - 1.0)
