"""Writes the graphs and rows of docs/guide/sequences-and-labels.md: `findings` has two labels, `sleep` is a sequence.

Both graphs multiply their input by a matrix, and both are wrong about their rows on purpose, so that `fit` has work.
"""
# ruff: noqa: INP001  # a script of the documents, in no package

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

ROWS, LABELS_OF = 1200, np.array([[2.0, 0.0], [0.0, 1.5], [1.0, -1.0]], dtype=np.float32)
SEQUENCES, STEPS, STAYS = 400, 12, 0.8
STAGE_OF = np.array([[3.0, -1.0, -2.0], [-1.0, 1.0, 0.0]], dtype=np.float32)
CENTRES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def save(
    path: str, weights: npt.NDArray[np.float32], shape: list[int | None], *, activation: str | None = None
) -> None:
    """Write a graph that computes ``X @ weights``, and an activation of it."""
    nodes = [helper.make_node("MatMul", ["X", "W"], ["scores"])]
    if activation is not None:
        nodes.append(helper.make_node(activation, ["scores"], ["activated"]))
    row, out = [None, *shape], nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "example",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, row)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [*row[:-1], weights.shape[1]])],
        [onnx.numpy_helper.from_array(weights, "W")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_findings(rng: np.random.Generator) -> None:
    """Rows of three numbers, and two labels that are each present or absent."""
    x = rng.normal(size=(ROWS, len(LABELS_OF))).astype(np.float32)
    y = rng.random((ROWS, 2)) < 1.0 / (1.0 + np.exp(-0.6 * x @ LABELS_OF))
    half = ROWS // 2
    np.savez("findings.npz", X=x[:half], y=y[:half].astype(np.int64))
    np.savez("findings-test.npz", X=x[half:], y=y[half:].astype(np.int64))
    save("findings.onnx", LABELS_OF, [3], activation="Sigmoid")


def write_sleep(rng: np.random.Generator) -> None:
    """Sequences of two numbers per step, whose class mostly stays as it was."""
    y = np.zeros((SEQUENCES, STEPS), dtype=np.int64)
    for t in range(1, STEPS):
        changed = rng.integers(0, len(CENTRES), SEQUENCES)
        y[:, t] = np.where(rng.random(SEQUENCES) < STAYS, y[:, t - 1], changed)
    x = (CENTRES[y] + rng.normal(scale=0.8, size=(SEQUENCES, STEPS, 2))).astype(np.float32)
    np.savez("sleep.npz", X=x, y=y)
    save("sleep.onnx", STAGE_OF, [None, 2])


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    write_findings(generator)
    write_sleep(generator)
