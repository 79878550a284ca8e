"""A graph that mixes rows is not loaded as one that does not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.errors import ManifestInvalid
from service.runtime.independence import check_independence
from service.runtime.session import Session

ROWS = np.random.default_rng(0).normal(size=(4, 2))
Write = Callable[..., Path]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
@pytest.mark.parametrize(("axis", "mixes"), [(0, True), (1, False)])
def test_a_softmax_over_rows_is_refused_and_one_over_columns_is_not(
    kind: int,
    axis: int,
    mixes: bool,  # noqa: FBT001  # what follows from the axis
    graph_of: Write,
) -> None:
    spec = (kind, [None, 2])
    session = Session(graph_of([helper.make_node("Softmax", ["x"], ["s"], axis=axis)], {"x": spec}, {"s": spec}))
    feeds = {"x": ROWS.astype(helper.tensor_dtype_to_np_dtype(kind))}
    if not mixes:
        check_independence(session, "s", feeds)
        return
    with pytest.raises(ManifestInvalid, match=r"graph.rows: the graph answers a row otherwise beside other rows"):
        check_independence(session, "s", feeds)


def test_rows_of_a_session_that_runs_them_alone_are_independent(graph_of: Write) -> None:
    spec = (TensorProto.FLOAT, [None, 2])
    path = graph_of([helper.make_node("Softmax", ["x"], ["s"], axis=0)], {"x": spec}, {"s": spec})
    session = Session(path, alone=True)
    check_independence(session, "s", {"x": ROWS.astype(np.float32)})
    np.testing.assert_array_equal(session.run("s", {"x": ROWS.astype(np.float32)}), np.ones((4, 2)))
