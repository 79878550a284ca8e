import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.sections import Graph
from service.errors import MOST_FAULTS, GraphError, ModelOutputInvalid
from service.runtime.session import Session
from tests.small_graphs import big_tensor

ROOT = Path(__file__).parents[2]
LOGITS = Graph(output="s", output_kind="logits", classes=("a", "b"))


def test_a_session_computes_the_graph(linear_graph: Callable[..., Path]) -> None:
    session = Session(linear_graph([[1.0, 2.0], [3.0, 4.0]], [0.5, -0.5]))
    x = np.array([[1.0, 1.0], [2.0, 0.0]], dtype=np.float32)
    assert session.run("scores", {"x": x}).tolist() == [[4.5, 5.5], [2.5, 3.5]]
    assert [(t.name, t.type, t.shape) for t in session.inputs] == [("x", "tensor(float)", (None, 2))]
    assert [(t.name, t.type, t.shape) for t in session.outputs] == [("scores", "tensor(float)", (None, 2))]


def test_one_row_has_the_output_that_it_has_in_a_batch(linear_graph: Callable[..., Path]) -> None:
    weights = np.random.default_rng(3).normal(size=(7, 4)).tolist()
    session = Session(linear_graph(weights, [0.0] * 4))
    x = np.random.default_rng(4).normal(size=(9, 7)).astype(np.float32)
    whole = session.run("scores", {"x": x})
    single = np.vstack([session.run("scores", {"x": row[None]}) for row in x])
    np.testing.assert_allclose(single, whole, rtol=1e-5, atol=1e-6)


def test_a_node_that_fails_on_these_values_is_the_model_s_fault(graph_of: Callable[..., Path]) -> None:
    x = (TensorProto.FLOAT, [None, 2])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [7, 7])
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["scores"])]
    path = graph_of(nodes, {"x": x}, {"scores": (TensorProto.FLOAT, [None, None])}, (shape,))
    with pytest.raises(ModelOutputInvalid, match="the graph failed while running") as error:
        Session(path).run("scores", {"x": np.zeros((3, 2), dtype=np.float32)})
    assert "\n" not in str(error.value)


def test_an_answer_for_another_number_of_rows_is_the_model_s_fault(graph_of: Callable[..., Path]) -> None:
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=1)]
    both = (TensorProto.FLOAT, [None, 2])
    session = Session(graph_of(nodes, {"x": both}, {"s": both}, (axes,)))
    with pytest.raises(ModelOutputInvalid, match="1 rows for 3"):
        session.logits(LOGITS, {"x": np.zeros((3, 2), dtype=np.float32)})


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


FOREIGN: dict[str, Callable[[bytes, Path], bytes]] = {
    "nothing": lambda _graph, _marker: b"",
    "half a graph": lambda data, _marker: data[: len(data) // 2],
    "html": lambda _graph, _marker: b"<!doctype html><title>404</title>",
    "a git-lfs pointer": lambda _graph, _marker: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "a pickle": lambda _graph, marker: pickle.dumps(Bomb(marker)),
    "random bytes": lambda _graph, _marker: np.random.default_rng(0).bytes(2000),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_that_is_no_graph_is_refused_in_one_line_that_names_it(
    case: str, linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    whole = linear_graph([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]).read_bytes()
    path, marker = tmp_path / "model.onnx", tmp_path / "unpickled"
    path.write_bytes(FOREIGN[case](whole, marker))
    with pytest.raises(GraphError) as error:
        Session(path)
    assert str(error.value).startswith(f"{path} cannot be loaded by ONNX Runtime")
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_a_graph_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"nowhere\.onnx cannot be loaded"):
        Session(tmp_path / "nowhere.onnx")


def test_loading_and_running_a_graph_leaves_no_trace_in_the_home_folder(
    linear_graph: Callable[..., Path], tmp_path: Path
) -> None:
    home, path = tmp_path / "home", linear_graph([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    home.mkdir()
    code = (
        "import service, sys, numpy, pathlib;"
        "from service.runtime.session import Session;"
        "print(Session(pathlib.Path(sys.argv[1])).run('scores', {'x': numpy.ones((1, 2), 'float32')}).tolist())"
    )
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "LD_LIBRARY_PATH"}}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        env={**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[[1.0, 1.0]]"
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_a_graph_of_fixed_batch_size_answers_any_number_of_rows(rows: int, graph_of: Callable[..., Path]) -> None:
    node = helper.make_node("Mul", ["x", "x"], ["scores"])
    spec = (TensorProto.FLOAT, [3, 2])
    session = Session(graph_of([node], {"x": spec}, {"scores": spec}))
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    np.testing.assert_array_equal(session.run("scores", {"x": x}), x * x)


@pytest.fixture
def picky(graph_of: Callable[..., Path]) -> Session:
    """A graph that looks its input up in a table of three, and fails beyond it."""
    node = helper.make_node("Gather", ["table", "x"], ["scores"])
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    inputs, outputs = {"x": (TensorProto.INT64, [None, 1])}, {"scores": (TensorProto.FLOAT, [None, 1])}
    return Session(graph_of([node], inputs, outputs, (table,)))


@pytest.mark.parametrize("guilty", [[0], [4], [1, 2], [0, 3, 6]])
def test_rows_that_a_graph_fails_on_are_named(guilty: list[int], picky: Session) -> None:
    x = np.zeros((7, 1), np.int64)
    x[guilty] = 9
    with pytest.raises(ModelOutputInvalid) as caught:
        picky.run("scores", {"x": x})
    assert [fault.path for fault in caught.value.faults] == [("instances", row) for row in guilty]
    assert {fault.code for fault in caught.value.faults} == {"not-computable"}


def test_a_batch_of_bad_rows_costs_no_run_for_each(picky: Session) -> None:
    with pytest.raises(ModelOutputInvalid) as caught:
        picky.run("scores", {"x": np.full((100_000, 1), 9, np.int64)})
    assert len(caught.value.faults) == MOST_FAULTS


def test_a_huge_batch_does_not_hold_its_memory(graph_of: Callable[..., Path]) -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["exp"]),
        helper.make_node("Softmax", ["exp"], ["soft"]),
        helper.make_node("ReduceSum", ["soft", "axis"], ["scores"], keepdims=1),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    inputs, outputs = {"x": (TensorProto.FLOAT, [None, 4096])}, {"scores": (TensorProto.FLOAT, [None, 1])}
    session = Session(graph_of(nodes, inputs, outputs, (axis,)))
    batch = np.zeros((4096, 4096), np.float32)
    session.run("scores", {"x": batch[:1]})
    before = resident()
    session.run("scores", {"x": batch})
    assert resident() - before < batch.nbytes // 2


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def noisy(graph_of: Callable[..., Path]) -> Session:
    """A graph that draws its answers anew in every run; `features` are half its `s`."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "half"], ["features"]),
    ]
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    floats = (TensorProto.FLOAT, [None, 2])
    return Session(graph_of(nodes, {"x": floats}, {"s": floats, "features": floats}, (half,)))


def test_logits_and_features_come_from_one_run(noisy: Session) -> None:
    feeds = {"x": np.zeros((5, 2), dtype=np.float32)}
    logits, features = noisy.logits_and_features(LOGITS, "features", feeds)
    np.testing.assert_array_equal(features, 0.5 * logits)
    assert not np.array_equal(noisy.logits(LOGITS, feeds), logits)


def test_features_may_be_the_scores_themselves(noisy: Session) -> None:
    logits, features = noisy.logits_and_features(LOGITS, "s", {"x": np.zeros((5, 2), dtype=np.float32)})
    np.testing.assert_array_equal(features, logits)


def test_features_without_one_row_for_each_are_refused(graph_of: Callable[..., Path]) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["s"]),
        helper.make_node("ReduceMean", ["x"], ["features"], axes=[0], keepdims=1),
    ]
    floats = (TensorProto.FLOAT, [None, 2])
    session = Session(graph_of(nodes, {"x": floats}, {"s": floats, "features": floats}))
    with pytest.raises(ModelOutputInvalid, match="'features' has 1 rows for 3"):
        session.logits_and_features(LOGITS, "features", {"x": np.zeros((3, 2), dtype=np.float32)})


def test_shared_weights_answer_as_packed_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(64, 32)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 32])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    feeds = {"x": rng.normal(size=(7, 64)).astype(np.float32)}
    packed, shared = (Session(tmp_path / "m.onnx", shared=shared).run("scores", feeds) for shared in (False, True))
    np.testing.assert_allclose(shared, packed, rtol=1e-5, atol=1e-5)


def test_memory_that_is_lacking_is_no_row_s_fault(tmp_path: Path) -> None:
    big_tensor(1 << 40)(tmp_path / "big.onnx")
    with pytest.raises(ModelOutputInvalid, match="Failed to allocate memory") as raised:
        Session(tmp_path / "big.onnx").run("s", {"x": np.zeros((3, 2), dtype=np.float32)})
    assert raised.value.faults == ()
