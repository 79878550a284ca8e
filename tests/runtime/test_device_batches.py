"""Io-binding, on the memory of the CPU: no GPU is part of the tests."""

import numpy as np
import onnxruntime as ort
import pytest

from service.runtime.device_batches import DeviceBatches, run_of
from service.runtime.providers import SMALL_GRAPH, Execution, Made, make_session
from tests.small_graphs import graph, node, value


@pytest.fixture
def made() -> Made:
    return make_session(SMALL_GRAPH, ort.SessionOptions(), Execution())


def test_a_bound_run_answers_what_a_plain_run_answers(made: Made) -> None:
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    bound = DeviceBatches(made).run(["y"], {"x": x}, None)
    np.testing.assert_array_equal(bound[0], made.session.run(["y"], {"x": x})[0])


def test_a_bound_run_takes_rows_that_do_not_lie_one_after_the_other(made: Made) -> None:
    x = np.arange(20.0, dtype=np.float32).reshape(2, 10).T[::2]
    bound = DeviceBatches(made).run(["y"], {"x": x}, ort.RunOptions())
    np.testing.assert_array_equal(bound[0], x @ np.array([[1.0, 2.0], [3.0, 4.0]]))


def test_answers_of_a_bound_run_outlive_the_next_one(made: Made) -> None:
    run = DeviceBatches(made).run
    first = run(["y"], {"x": np.ones((1, 2), dtype=np.float32)}, None)[0]
    run(["y"], {"x": np.zeros((1, 2), dtype=np.float32)}, None)
    assert first.tolist() == [[4.0, 6.0]]


def test_several_outputs_come_in_the_order_of_their_names(tmp_path) -> None:

    path = tmp_path / "model.onnx"
    graph(node("Neg", output="n"), node("Abs", output="s"), outputs=(value("n", [None, 2]), value("s", [None, 2])))(
        path
    )
    made = make_session(str(path), ort.SessionOptions(), Execution())
    x = np.array([[1.0, -2.0]], dtype=np.float32)
    found = DeviceBatches(made).run(["s", "n"], {"x": x}, None)
    assert [part.tolist() for part in found] == [[[1.0, 2.0]], [[-1.0, 2.0]]]


def test_only_a_device_with_memory_of_its_own_is_bound(made: Made) -> None:
    assert run_of(made) == made.session.run
    assert run_of(Made(made.session, "cuda:0", is_remote=True)) != made.session.run
