"""Rows per second of a session under `cpu` and under `openvino`, in turn, on one thread each.

Run as ``python -m tests.bench.providers`` where OpenVINO is installed (`make openvino` installs it, and
``PYTHONPATH=.venv/openvino/built-in`` shows it to Python); in other environments it prints why it cannot. Rounds
measure one after the other, the first changes from round to round, and only ratios within a round count. Start and
memory are those of a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier

from service.bundle.accepted_providers import ProviderName
from service.errors import SettingsInvalid
from service.runtime.providers import Execution, check_provider
from service.runtime.session import Session
from tests.bench.table import show_rows

Values = npt.NDArray[Any]
BATCHES: Final = (1, 32, 256)
ROUNDS: Final = 7
SECONDS: Final = 0.3
SIDES: Final[tuple[ProviderName, ...]] = ("cpu", "openvino")
WIDTHS: Final = (16, 32, 64)
IMAGE: Final = (3, 32, 32)
FEATURES: Final = 30
SHIPPED: Final = Path(__file__).parents[2] / "models" / "fashion-mnist" / "2" / "model.onnx"

START: Final = """\
import json, sys, time
from pathlib import Path
import numpy, psutil
from service.runtime.providers import Execution
from service.runtime.session import Session
began = time.perf_counter()
session = Session(Path(sys.argv[1]), execution=Execution(sys.argv[2]))
(tensor,), shape = session.inputs, json.loads(sys.argv[3])
session.run(session.outputs[-1].name, {tensor.name: numpy.zeros(shape, numpy.float32)})
print(json.dumps([time.perf_counter() - began, psutil.Process().memory_info().rss / 2**20]))
"""
"""A process that makes one session, without what the benchmark itself imports."""


class Residual:
    """A network of residual blocks with random weights, and nothing trained: what it costs is what is measured."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def save(self, path: Path) -> None:
        """Write the graph: a stem, two blocks at each of three widths, and ten classes."""
        last, width = self._convolution("x", IMAGE[0], WIDTHS[0]), WIDTHS[0]
        for wider in WIDTHS:
            last = self._block(last, width, wider, stride=1 if wider == width else 2)
            last, width = self._block(last, wider, wider, stride=1), wider
        self._add("GlobalAveragePool", [last], "pooled")
        self._add("Flatten", ["pooled"], "flat")
        self._add("Gemm", ["flat", self._weight((width, 10), width)], "logits")
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, *shape])
            for name, shape in {"x": IMAGE, "logits": (10,)}.items()
        ]
        made = helper.make_graph(self._nodes, "residual", ends[:1], ends[1:], self._weights)
        onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    def _block(self, last: str, width: int, wider: int, *, stride: int) -> str:
        inner = self._convolution(self._convolution(last, width, wider, stride=stride), wider, wider)
        beside = last if stride == 1 else self._convolution(last, width, wider, stride=stride)
        return self._add("Relu", [self._add("Add", [inner, beside])])

    def _convolution(self, last: str, width: int, wider: int, *, stride: int = 1) -> str:
        weight = self._weight((wider, width, 3, 3), 9 * width)
        found = self._add("Conv", [last, weight], pads=[1, 1, 1, 1], strides=[stride, stride])
        return self._add("Relu", [found])

    def _weight(self, shape: tuple[int, ...], inputs: int) -> str:
        name = f"w{len(self._weights)}"
        values = self._random.normal(scale=(2.0 / inputs) ** 0.5, size=shape).astype(np.float32)
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def boosted(path: Path) -> None:
    """Write two hundred boosted trees on thirty columns."""
    x, y = make_classification(2000, FEATURES, n_informative=10, random_state=0)
    trees = GradientBoostingClassifier(n_estimators=200, random_state=0).fit(x.astype(np.float32), y)
    onnx.save(to_onnx(trees, x[:1].astype(np.float32), options={"zipmap": False}), path)


def graphs(folder: Path) -> dict[str, Path]:
    """What is measured, by what it is called."""
    residual, trees = folder / "residual.onnx", folder / "trees.onnx"
    Residual().save(residual)
    boosted(trees)
    return {"fashion-mnist": SHIPPED, "residual network, 3 x 32 x 32": residual, "200 boosted trees, 30 columns": trees}


def feeds_of(session: Session, rows: int) -> dict[str, Values]:
    """Random rows for the one input of a graph."""
    (tensor,) = session.inputs
    shape = (rows, *(size or 1 for size in tensor.shape[1:]))
    return {tensor.name: np.random.default_rng(rows).random(shape, dtype=np.float32)}


def rate(session: Session, output: str, rows: int, *, seconds: float) -> float:
    """Rows per second of one batch after the other."""
    feeds, done, started = feeds_of(session, rows), 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.run(output, feeds)
        done += rows
    return done / (time.perf_counter() - started)


def interleaved(sessions: dict[ProviderName, Session], rows: int, *, rounds: int, seconds: float) -> list[list[float]]:
    """Rates of both sides, round by round."""
    output, found = sessions["cpu"].outputs[-1].name, []
    for i in range(rounds):
        order = SIDES if i % 2 else SIDES[::-1]
        rates = {side: rate(sessions[side], output, rows, seconds=seconds) for side in order}
        found.append([rates[side] for side in SIDES])
    return found


def compare(name: str, path: Path, *, rounds: int, seconds: float) -> Iterator[Sequence[str]]:
    """A row of the table for every size of a batch."""
    sessions = {side: Session(path, execution=Execution(side)) for side in SIDES}
    placement = sessions["openvino"].placement
    for rows in BATCHES:
        for session in sessions.values():
            session.run(session.outputs[-1].name, feeds_of(session, rows))  # a shape is prepared when it is first seen
        rates = interleaved(sessions, rows, rounds=rounds, seconds=seconds)
        ratios = sorted(openvino / cpu for cpu, openvino in rates)
        medians = [f"{median(side):,.0f}" for side in zip(*rates, strict=True)]
        left = f"{sum(placement.on_cpu.values())} of {placement.operators}"
        yield name, f"{rows}", *medians, f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", left


def start(path: Path, provider: ProviderName, shape: Sequence[int]) -> tuple[float, float]:
    """Seconds until a session has answered one row in a process of its own, and the MiB that it then holds."""
    command = [sys.executable, "-c", START, str(path), provider, json.dumps([1, *shape])]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, memory = json.loads(printed)
    return float(seconds), float(memory)


def starts(name: str, path: Path, *, rounds: int) -> Sequence[str]:
    """A row of the table of starts."""
    (tensor,) = Session(path).inputs
    shape = [size or 1 for size in tensor.shape[1:]]
    found = {side: [start(path, side, shape) for _ in range(rounds)] for side in SIDES}
    seconds = [f"{1000.0 * median(one for one, _ in found[side]):.0f} ms" for side in SIDES]
    return name, *seconds, *(f"{median(own for _, own in found[side]):.0f} MiB" for side in SIDES)


def report(rounds: int, seconds: float) -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as folder:
        measured = graphs(Path(folder))
        rows = [row for name, path in measured.items() for row in compare(name, path, rounds=rounds, seconds=seconds)]
        columns = ("graph", "batch", "cpu, rows/s", "openvino, rows/s", "ratio (range)", "left to the CPU")
        show_rows("Rows per second, one thread", columns, rows, caption=f"Medians of {rounds} rounds, in turn.")
        first = [starts(name, path, rounds=min(3, rounds)) for name, path in measured.items()]
        names = ("graph", "cpu, first row", "openvino", "cpu, memory", "openvino")
        show_rows("A session in a process of its own", names, first)


def main() -> None:
    """Print the tables, or why there are none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    flags = parser.parse_args()
    try:
        check_provider("openvino")
    except SettingsInvalid as error:
        sys.stdout.write(f"nothing to compare: {error.detail}\n")
        return
    report(flags.rounds, flags.seconds)


if __name__ == "__main__":
    main()
